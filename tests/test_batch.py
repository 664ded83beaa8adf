"""What a prediction may write over, and what it may not."""

import numpy as np
import pytest

from vol3dseg.datasets.layouts import find_cases
from vol3dseg.inference.batch import predict_cases
from vol3dseg.inference.predictor import Predictor


@pytest.fixture
def predictor(manifest):
    def background(patches):
        score = np.zeros((len(patches), len(manifest.labels.names), *patches.shape[2:]), np.float32)
        score[:, 0] = 1
        return score

    return Predictor(background, manifest)


@pytest.mark.parametrize("name", ["{}.nii.gz", "{}_probabilities.nii.gz", "{}.png"])
def test_a_scan_is_never_written_over(name, predictor, brats_folder):
    case = find_cases(brats_folder)[0]
    scan = case.images["flair"].path
    taken = scan.rename(scan.with_name(name.format(case.id)))
    images = {**case.images, "flair": type(case.images["flair"])(taken)}
    content = taken.read_bytes()
    moved = type(case)(case.id, case.subject, images)
    record = predict_cases([moved], predictor, scan.parent)[case.id]
    assert f"{taken.name}: is a file of case {case.id}" in record.error
    assert "choose another output folder" in record.error
    assert taken.read_bytes() == content


def test_a_new_segmentation_keeps_no_picture_of_an_older_one(predictor, brats_folder, tmp_path):
    folder = tmp_path / "out"
    cases = find_cases(brats_folder)[:1]
    predict_cases(cases, predictor, folder, True, lambda path, *_: path.write_bytes(b"") or "")
    names = {path.name.removeprefix(cases[0].id) for path in folder.iterdir()}
    assert names == {".nii.gz", "_probabilities.nii.gz", ".png"}
    predict_cases(cases, predictor, folder)
    assert [path.name for path in folder.iterdir()] == [f"{cases[0].id}.nii.gz"]
