"""Files as nnU-Net's predictor takes them: <id>_0000.nii.gz, numbered by the model's channels."""

import numpy as np
import pytest

from vol3dseg.datasets.selection import gather_cases
from vol3dseg.errors import DatasetError
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.geometry import Geometry


@pytest.fixture
def folder(tmp_path):
    """Make a folder of images with these names."""

    def make(*names):
        for name in names:
            nifti.write(tmp_path / name, np.ones((4, 4, 4), "f4"), Geometry((4, 4, 4), np.eye(4)))
        return tmp_path

    return make


def found(path, *modalities, numbered=True):
    cases = gather_cases([path], modalities, numbered)
    return {case.id: {m: s.path.name for m, s in case.images.items()} for case in cases}


def test_numbers_are_channels_in_their_order(folder):
    place = folder("a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz", "b_0000.nii.gz")
    assert found(place, "CT", "T2") == {
        name: {"CT": f"{name}_0000.nii.gz", "T2": f"{name}_0001.nii.gz"} for name in "ab"
    }


def test_one_file_of_a_model_of_one_channel(folder):
    place = folder("a_0000.nii.gz")
    assert found(place / "a_0000.nii.gz", "MRI") == {"a": {"MRI": "a_0000.nii.gz"}}
    assert found(place, "MRI") == {"a": {"MRI": "a_0000.nii.gz"}}


def test_an_incomplete_case_is_named(folder):
    place = folder("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz")
    with pytest.raises(DatasetError, match=r"case b lacks 0001 \(T2\)"):
        found(place, "CT", "T2")


def test_other_files_are_named_as_ever(folder):
    place = folder("scan_2021.nii.gz", "other.nii.gz")
    assert found(place, "MRI").keys() == {"scan_2021", "other"}
    assert found(place / "other.nii.gz", "MRI").keys() == {"other"}


def test_for_our_own_models_numbers_mean_nothing(folder):
    assert found(folder("a_0000.nii.gz"), "MRI", numbered=False).keys() == {"a_0000"}
