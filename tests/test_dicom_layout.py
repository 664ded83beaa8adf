import re
import shutil

import numpy as np
import pytest

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.checks import check_case
from vol3dseg.datasets.layouts import find_cases, layout_of
from vol3dseg.datasets.layouts.dicom_folders import DICOM
from vol3dseg.datasets.selection import gather_cases
from vol3dseg.errors import DatasetError

ARRAY = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3)


@pytest.fixture
def dataset(tmp_path, dicom_series):
    """Two cases, each of two modalities, and a label for the first."""
    from pydicom.uid import generate_uid

    def save(folder):
        folder.mkdir(parents=True)
        uid = generate_uid()
        for number, one in enumerate(dicom_series(ARRAY), start=1):
            one.SeriesInstanceUID = uid
            one.save_as(folder / f"{number}.dcm", enforce_file_format=True)

    folder = tmp_path / "scans"
    for place in ("B/T1", "B/FLAIR", "A/T1", "A/FLAIR", "A/label"):
        save(folder / place)
    return folder


def test_folders_are_modalities(dataset):
    assert layout_of(dataset) is DICOM
    first, second = find_cases(dataset)
    images = {name: ImageSource(dataset / "A" / name) for name in ("FLAIR", "T1")}
    assert first == Case("A", "A", images, dataset / "A/label")
    assert (second.id, second.label) == ("B", None)


def test_one_case_by_itself(dataset):
    (case,) = find_cases(dataset / "B")
    assert (case.id, list(case.images)) == ("B", ["FLAIR", "T1"])


def test_other_folders_are_passed_over(dataset):
    (dataset / "C/notes").mkdir(parents=True)
    (dataset / "C/notes/x.txt").write_text("nothing")
    (dataset / ".hidden").mkdir()
    shutil.copytree(dataset / "A/T1", dataset / ".hidden/T1")
    assert [case.id for case in find_cases(dataset)] == ["A", "B"]
    shutil.rmtree(dataset / "A")
    shutil.rmtree(dataset / "B")
    assert layout_of(dataset) is None


def test_series_that_lie_in_no_folder_are_listed(dataset):
    shutil.copy(dataset / "A/T1/1.dcm", dataset / "B/1.dcm")
    message = (
        rf"^{re.escape(str(dataset))}: B holds files itself; there are series 7 'T1 axial' "
        r"\(MR, . images, UID .*; expected a folder for each modality of a case, and one called "
        "label; sort the files so, or name the series of each case in a dataset table$"
    )
    with pytest.raises(DatasetError, match=message):
        find_cases(dataset)


def test_two_labels_are_refused(dataset):
    shutil.copytree(dataset / "A/label", dataset / "A/seg")
    with pytest.raises(DatasetError, match="A has label and seg; expected"):
        find_cases(dataset)


def test_a_series_is_one_image_for_a_model_of_one_modality(dataset):
    (case,) = gather_cases([dataset / "A/T1"], ["t1"])
    assert case == Case("T1", "T1", {"t1": ImageSource(dataset / "A/T1")})
    with pytest.raises(DatasetError, match="T1 holds files itself; there are series"):
        gather_cases([dataset / "A/T1"], ["t1", "flair"])


def test_preflight_and_table(vol3dseg, dataset, tmp_path):
    done = vol3dseg("check", dataset, "--table", tmp_path / "t.csv", "-j", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "DICOM layout, 2 cases, 1 with a label map: 0 refused" in done.stdout
    assert find_cases(tmp_path / "t.csv") == find_cases(dataset)


def test_a_folder_that_was_not_fetched_is_not_passed_over(dataset):
    for name in ("label", "T1"):
        shutil.rmtree(dataset / "A" / name)
        (dataset / "A" / name).symlink_to("nowhere")
    case = find_cases(dataset)[0]
    assert (list(case.images), case.label) == (["FLAIR", "T1"], dataset / "A/label")
    found = check_case(case, ("FLAIR", "T1"))
    assert [f.found for f in found] == ["is a link to a file that is not there"] * 2


def test_the_only_folder_that_is_called_like_a_label_map_is_one(dataset):
    (dataset / "A/label").rename(dataset / "A/MaskTumor")
    case = find_cases(dataset)[0]
    assert (case.label, list(case.images)) == (dataset / "A/MaskTumor", ["FLAIR", "T1"])
    assert find_cases(dataset, ["T1", "MaskTumor"])[0].label is None  # which is an image then


def test_masks_that_are_taken_for_modalities_are_named(dataset):
    (dataset / "A/label").rename(dataset / "A/Mask")
    shutil.copytree(dataset / "A/Mask", dataset / "A/roi")
    case = find_cases(dataset)[0]
    assert case.label is None
    assert case.likely_labels == (dataset / "A/Mask", dataset / "A/roi")
