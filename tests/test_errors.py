import pickle

import pytest

from vol3dseg.errors import GridError, MissingExtraError


def test_parts_of_a_message_make_one_line():
    error = GridError("has 2 axes", where="a.nii", expected="three axes", remedy="split the file")
    assert str(error) == "a.nii: has 2 axes; expected three axes; split the file"


def test_a_message_may_be_given_whole():
    assert str(GridError("a.nii: has 2 axes")) == "a.nii: has 2 axes"


def test_whoever_knows_the_file_adds_it():
    error = GridError("has 2 axes", expected="three axes").at("a.nii")
    assert str(error) == "a.nii: has 2 axes; expected three axes"


@pytest.mark.parametrize(
    "error",
    [
        GridError("has 2 axes", where="a.nii", expected="three axes", remedy="split the file"),
        MissingExtraError("SimpleITK", "itk"),
    ],
)
def test_an_error_comes_whole_out_of_a_worker_process(error):
    came = pickle.loads(pickle.dumps(error))
    assert type(came) is type(error)
    assert (str(came), vars(came)) == (str(error), vars(error))
