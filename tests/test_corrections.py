"""Edited predictions become a data set that says what was changed and what it came from."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from vol3dseg.cli.main import cli
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_case
from vol3dseg.errors import DatasetError, EvaluationError, GridError, LabelError, OutputError
from vol3dseg.inference.output_files import PredictOptions
from vol3dseg.inference.predicting import predict
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.reporting.edited_predictions import collect_corrections

pytest.importorskip("onnxruntime")


@pytest.fixture
def folders(brats_folder, model_path, tmp_path):
    """Predictions of three cases, a copy of them to be edited, and the scans."""
    predict(model_path, brats_folder, tmp_path / "predictions")
    shutil.copytree(tmp_path / "predictions", tmp_path / "edited")
    return tmp_path / "predictions", tmp_path / "edited", brats_folder


def edit(path, change, **options):
    """Change the voxels of a label map, as a viewer would that keeps its header."""
    image = nib.load(path)
    array = np.asarray(image.dataobj).copy()
    change(array)
    made = nib.Nifti1Image(array, image.affine)
    nib.save(options.get("turned", lambda i: i)(made), path)


def mended(array):
    array[0, 0, :3] = 4
    array[1, 0, 0] = 2


def test_what_was_changed_becomes_a_data_set(folders, tmp_path, labels):
    predictions, edited, scans = folders
    edit(edited / "Case_002.nii.gz", mended)
    (edited / "Case_003.nii.gz").unlink()
    found = collect_corrections(predictions, edited, scans, tmp_path / "out")
    record = json.loads((predictions / "predictions.json").read_text())
    assert found.model_sha256 == record["model_sha256"]
    assert (found.unchanged, found.not_edited) == (("Case_001",), ("Case_003",))
    change = found.corrected["Case_002"]
    assert (change.voxels, change.prediction_sha256) == (4, record["cases"]["Case_002"]["sha256"])
    assert change.moved == {"background -> enhancing": 3, "background -> edema": 1}
    assert json.loads((tmp_path / "out" / "corrections.json").read_text()) == found.model_dump(
        mode="json"
    )
    (case,) = find_cases(tmp_path / "out" / "cases.csv")
    assert (case.id, list(case.images)) == ("Case_002", ["flair", "t1"])
    volume, label = read_case(case, labels=labels)
    assert volume.geometry.fits(label.geometry)
    assert label.array[0, 0, :3].tolist() == [labels.index("enhancing")] * 3


def test_it_can_be_prepared(folders, tmp_path, config_path):
    predictions, edited, scans = folders
    edit(edited / "Case_001.nii.gz", mended)
    collect_corrections(predictions, edited, scans, tmp_path / "out", keep_unchanged=True)
    index = preprocess(tmp_path / "out" / "cases.csv", tmp_path / "prepared", config_path)
    assert [entry.id for entry in index.cases] == ["Case_001", "Case_002", "Case_003"]
    assert index.failed == {}


def test_a_viewer_may_turn_the_axes_and_change_the_format(folders, tmp_path):
    predictions, edited, scans = folders

    def turned(image):
        return image.as_reoriented(nib.io_orientation(np.diag([-1, 1, 1, 1]) @ image.affine))

    edit(edited / "Case_002.nii.gz", mended, turned=turned)
    found = collect_corrections(predictions, edited, scans, tmp_path / "out")
    assert list(found.corrected) == ["Case_002"]
    assert found.corrected["Case_002"].voxels == 4
    made, before = (
        nib.load(folder / "Case_002.nii.gz") for folder in (tmp_path / "out/labels", predictions)
    )
    np.testing.assert_allclose(made.affine, before.affine)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        pytest.param(
            lambda p, e, s: None, DatasetError, "none of 3 edited label maps differs", id="nothing"
        ),
        pytest.param(
            lambda p, e, s: shutil.copy(e / "Case_001.nii.gz", e / "Case_009.nii.gz"),
            DatasetError, "label maps of no prediction: Case_009", id="a stranger",
        ),
        pytest.param(
            lambda p, e, s: edit(p / "Case_001.nii.gz", mended),
            DatasetError, "is not the prediction that was written", id="edited in place",
        ),
        pytest.param(
            lambda p, e, s: (p / "Case_001.nii.gz").unlink(),
            DatasetError, "is missing", id="a prediction gone",
        ),
        pytest.param(
            lambda p, e, s: shutil.rmtree(s / "Case_002"),
            DatasetError, "lacks the scans of Case_002", id="a scan gone",
        ),
        pytest.param(
            lambda p, e, s: edit(e / "Case_001.nii.gz", lambda a: np.put(a, 0, 9)),
            LabelError, "holds label values 9", id="a value of no class",
        ),
        pytest.param(
            lambda p, e, s: nib.save(
                nib.Nifti1Image(np.zeros((24, 20, 18), np.uint8), np.eye(4)), e / "Case_001.nii.gz"
            ),
            GridError, "the grid of its prediction", id="another grid",
        ),
        pytest.param(
            lambda p, e, s: (p / "predictions.json").unlink(),
            EvaluationError, "predictions.json", id="no record",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(folders, tmp_path, spoil, error, message):
    spoil(*folders)
    with pytest.raises(error, match=message):
        collect_corrections(*folders, tmp_path / "out")
    assert not (tmp_path / "out" / "cases.csv").exists()


def test_no_map_is_written_before_all_are_right(folders, tmp_path):
    *_, last = sorted(path.name for path in folders[1].glob("*.nii.gz"))
    for path in folders[1].glob("*.nii.gz"):
        edit(path, mended if path.name != last else lambda array: np.put(array, 0, 9))
    with pytest.raises(LabelError, match="holds label values 9"):
        collect_corrections(*folders, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_probabilities_that_were_copied_too_are_no_label_maps(brats_folder, model_path, tmp_path):
    made, edited = tmp_path / "predictions", tmp_path / "edited"
    predict(model_path, brats_folder, made, PredictOptions(probabilities=True))
    shutil.copytree(made, edited)
    edit(edited / "Case_002.nii.gz", mended)
    found = collect_corrections(made, edited, brats_folder, tmp_path / "out")
    assert list(found.corrected) == ["Case_002"]


def test_nothing_of_others_is_replaced(folders, tmp_path):
    edit(folders[1] / "Case_001.nii.gz", mended)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cases.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"would replace cases.csv"):
        collect_corrections(*folders, tmp_path / "out")
    assert (tmp_path / "out" / "cases.csv").read_text() == "mine"


def test_the_command(folders, tmp_path):
    edit(folders[1] / "Case_002.nii.gz", mended)
    words = [*map(str, folders[:2]), "--scans", str(folders[2]), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, ["corrections", *words])
    assert done.exit_code == 0, done.output
    assert "Corrected: 1 of 3 edited cases" in done.output
    assert "equal to the prediction, and left out; --unchanged takes them" in done.output
    with (tmp_path / "out" / "cases.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["label"] == "labels/Case_002.nii.gz"
