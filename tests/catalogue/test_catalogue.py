"""The catalogue of bad inputs: each is refused in one line, or read right."""

import nibabel as nib
import numpy as np
import pytest
import yaml

from tests.catalogue.catalogue import ROWS
from tests.catalogue.data import DataSet
from tests.catalogue.page import PAGE, page
from tests.catalogue.running import Done, leavings, outcome, repairs, run, words
from vol3dseg.config import load_config

pytestmark = pytest.mark.catalogue

CHECKED = [row for row in ROWS if row.refused and not row.predict and row.checked]
OF_EACH_GROUP = [r for r in ROWS if r.name in ("G1", "D14 predict", "F13 pipe", "DICOM gap")]


@pytest.fixture
def config(tmp_path, recipe, row):
    """A config for two modalities, with the labels of a preset."""
    values = load_config(row.preset).model_dump(mode="json")
    values["recipe"] = recipe.model_dump(mode="json")
    values["recipe"]["patch_size"] = [16, 16, 8]  # what the made scans fill
    values["model"]["depth"] = 3
    values["labels"]["required"] = []
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def made(request, tmp_path, row):
    """Return what makes the data set of the row, or one like it, in a folder of its own."""
    for package in row.needs:
        pytest.importorskip(package)
    slices = request.getfixturevalue("dicom_series") if "pydicom" in row.needs else None

    def make(how=row.make, name="given"):
        (tmp_path / name).mkdir()
        data = DataSet(tmp_path / name, slices)
        how(data)
        return data

    return make


def in_full(text: str, data: DataSet) -> list[str]:
    """Return the lines of a row as they are printed."""
    named = text.replace("{folder}", str(data.folder)).replace("{out}", str(data.out))
    return named.splitlines()


def assert_names_nobody(done: Done):
    """Look for the patient's name, which all DICOM files here hold, and for a traceback."""
    for word in ("DOE", "Traceback"):
        assert word not in done.out + done.err


def assert_refused(row, done: Done, data: DataSet):
    assert_names_nobody(done)
    assert done.refusals == in_full(row.refused, data)
    assert done.code == 1
    assert leavings(data) == []


def assert_read(row, done: Done, data: DataSet, like: DataSet | None):
    assert_names_nobody(done)
    assert done.refusals == []
    assert done.code == 0
    assert leavings(data) == ["one.nii.gz" if row.predict else "one.h5"]
    found = outcome(row, data)
    if like is not None:
        for name, expected in outcome(row, like).items():
            np.testing.assert_array_equal(found[name], expected, err_msg=name)
    if row.predict:  # on the grid of the file
        ours, source = nib.load(data.out / "one.nii.gz"), nib.load(data.folder / "flair.nii")
        assert ours.shape == source.shape[:3]
        np.testing.assert_allclose(ours.affine, source.affine, atol=1e-5)
    if row.check is not None:
        row.check(data)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row, made, config, model_path, capsys):
    data, like = made(), None
    command = words(row, data, config, model_path)
    if row.like and not (row.refused and not row.repaired):
        like = made(row.like, "like")
        assert run(words(row, like, config, model_path), capsys).code == 0
    done = run(command, capsys)
    if row.refused:
        assert_refused(row, done, data)
    else:
        assert_read(row, done, data, like)
    assert done.remarks == in_full(row.said, data)

    mended = run([*command, "--repair"], capsys)
    if row.repaired:
        assert_read(row, mended, data, like)
        assert mended.remarks == in_full(row.repaired, data)
        assert mended.remarks == [f"repaired: {repair}" for repair in repairs(row, data)]
    elif row.refused:
        assert_refused(row, mended, data)
    else:
        assert_read(row, mended, data, like)
        assert mended.remarks == done.remarks


@pytest.mark.parametrize("row", CHECKED, ids=str)
def test_check_says_the_same(row, made, config, capsys):
    data = made()
    done = run(["check", str(data.given), "--config", str(config), "-j", "1", "--json"], capsys)
    assert done.findings == in_full(row.refused, data)
    assert done.code == 1


@pytest.mark.parametrize("row", OF_EACH_GROUP, ids=str)
def test_in_a_process_of_its_own(row, made, config, model_path, vol3dseg):
    data = made()
    found = vol3dseg(*words(row, data, config, model_path))
    done = Done(found.returncode, found.stdout, found.stderr)
    if row.refused:
        assert_refused(row, done, data)
    else:
        assert_read(row, done, data, None)
    assert done.remarks == in_full(row.said, data)


def test_names_are_unique():
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if row.refused], ids=str)
def test_a_refusal_has_all_its_parts(row):
    for line in row.refused.splitlines():
        if not line.startswith("{folder}/cases.csv: "):  # which lists what is wrong by rows
            assert "; expected " in line
            assert line.count("; ") >= 2  # and a remedy


def test_the_page_is_that_of_the_rows():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make catalogue-page`"
