"""Voxels that nobody judges: whatever is said of them, no loss, sample, score or figure changes."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.config.parsing import parse_config
from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.overlap import confusion
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import open_cases
from vol3dseg.quality.case_facts import measure_contents
from vol3dseg.quality.contents import Contents
from vol3dseg.reporting.score_predictions import evaluate
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import IGNORED, Label, LabelSet, Segmentation
from vol3dseg.space.volume import Volume

SHAPE = (6, 5, 4)
GRID = Geometry(SHAPE, np.diag([1, 1, 2, 1]))
LABELS = LabelSet(
    classes=(
        Label(name="background", read=(0, 7), write=0),
        Label(name="tumour", read=(10, 20), write=1),
        Label(name="cavity", read=(30,), write=2),
    ),
    regions={"any": ("tumour", "cavity")},
    ignore=(99,),
)
seeds = st.integers(0, 2**32 - 1)


def maps(seed, shape=SHAPE):
    """A reference without and with voxels to ignore, and where these are."""
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, 3, shape).astype(np.uint8)
    ignored = rng.random(shape) < rng.random()
    return reference, np.where(ignored, np.uint8(IGNORED), reference), ignored, rng


@given(seeds)
def test_confusion_is_that_of_the_judged_voxels(seed):
    reference, some, ignored, rng = maps(seed)
    prediction = rng.integers(0, 3, SHAPE).astype(np.uint8)
    expected = confusion(reference[~ignored], prediction[~ignored], 3)
    np.testing.assert_array_equal(confusion(some, prediction, 3), expected)
    prediction[ignored] = IGNORED  # nor does it matter if nothing is said there
    np.testing.assert_array_equal(confusion(some, prediction, 3), expected)


def test_a_prediction_cannot_leave_out_what_is_judged():
    with pytest.raises(EvaluationError, match="leaves out voxels that are judged"):
        confusion(np.zeros(3, np.uint8), np.full(3, IGNORED, np.uint8), 3)


def test_volumes_are_of_judged_voxels_and_the_others_are_said():
    _, some, ignored, _ = maps(1)
    reference = Segmentation(some, GRID, LABELS)
    scores = evaluate_case("a", reference, Segmentation(np.ones_like(some), GRID, LABELS))
    judged_ml = (some == 1).sum() * 0.002
    assert scores.structures["tumour"]["reference_ml"] == pytest.approx(judged_ml)
    assert scores.structures["tumour"]["prediction_ml"] == pytest.approx((~ignored).sum() * 0.002)
    assert scores.ignored_ml == pytest.approx(ignored.sum() * 0.002)


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_pictures_choose_slices_by_what_is_judged(plane, tmp_path):
    pytest.importorskip("matplotlib")
    from vol3dseg.reporting.overlay import Look, save_overlay
    from vol3dseg.reporting.slices import slices_of

    array = np.zeros(SHAPE, np.uint8)
    array[2, 2, 2], array[4:] = 1, IGNORED
    array[:, :, 3:] = IGNORED
    mask = Segmentation(array, GRID, LABELS)
    volume = Volume(np.ones((*SHAPE, 1), np.float32), GRID, ("t1",))
    assert [view.number for view in slices_of(volume, mask, mask, plane).views] == [3]
    for order in ("C", "F"):
        held = Segmentation(np.asarray(array, order=order), GRID, LABELS)
        save_overlay(tmp_path / "a.png", volume, held, held, "a", Look(plane))


@given(seeds)
def test_what_inspect_measures(seed):
    _, some, _, rng = maps(seed, (12, 12, 12))
    image = rng.normal(5, 1, some.shape).astype(np.float32)
    grid, names = Geometry(some.shape, np.eye(4)), LABELS.foreground
    found = measure_contents("a", "a", Contents(grid, {"t1": image}, some, names, ()))
    volumes_ml = {n: (some == i).sum() / 1000 for i, n in enumerate(names, 1)}
    assert found.volumes_ml == pytest.approx(volumes_ml)
    for (name, _), value in found.contrasts.items():
        of = {n: image[some == i].mean() for n, i in (("rest", 0), (name, 1 + names.index(name)))}
        assert value == pytest.approx((of[name] - of["rest"]) / image.std(), abs=1e-4)


@pytest.mark.train
@pytest.mark.parametrize("name", ["cross_entropy", "dice", "dice_cross_entropy", "focal"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_losses(name, share):
    pytest.importorskip("tensorflow")
    from vol3dseg.training.named_loss import NamedLoss

    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (2, *SHAPE))
    logits = rng.normal(size=(2, *SHAPE, 3)).astype(np.float32)
    ignored = rng.random(label.shape) < share
    other = np.where(ignored[..., None], 50 * rng.normal(size=logits.shape), logits)
    some = np.where(ignored, IGNORED, label)
    found = [float(NamedLoss(name)(some, each.astype(np.float32))) for each in (logits, other)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    judged = label[~ignored].reshape(1, -1, 1, 1), logits[~ignored].reshape(1, -1, 1, 1, 3)
    if share < 1:
        assert found[0] == pytest.approx(float(NamedLoss(name)(*judged)), rel=1e-5)
    else:
        assert found[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.train
def test_metrics_of_training():
    pytest.importorskip("tensorflow")
    from vol3dseg.training.metrics import ConfusionMetrics

    reference, some, ignored, rng = maps(3, (2, *SHAPE))
    logits = rng.normal(size=(*some.shape, 3)).astype(np.float32)
    metric = ConfusionMetrics(LABELS.names)
    metric.update_state(some, logits)
    expected = confusion(reference[~ignored], logits.argmax(-1)[~ignored].astype(np.uint8), 3)
    np.testing.assert_array_equal(np.array(metric.matrix), expected)


def nifti(path: Path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


@pytest.fixture
def dataset(tmp_path):
    """Four cases in a table: in the first half of each, values of classes; the rest is ignored."""
    rng = np.random.default_rng(0)
    rows = ["id,t1,label"]
    for name in "abcd":
        label = np.zeros((16, 8, 8), np.uint8)
        label[:8] = rng.choice([0, 7, 10, 20, 30], (8, 8, 8))
        label[8:] = 99
        nifti(tmp_path / name / "t1.nii.gz", rng.normal(9, 1, label.shape).astype(np.float32))
        nifti(tmp_path / name / "label.nii.gz", label)
        rows.append(f"{name},{name}/t1.nii.gz,{name}/label.nii.gz")
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def config(**labels):
    recipe = {
        "modalities": ["t1"], "normalisation": {"method": "zscore"}, "patch_size": [4, 4, 4],
    }  # fmt: skip
    data = {"labels": {**LABELS.model_dump(), **labels}, "recipe": recipe, "model": {"depth": 1}}
    return parse_config(data, "test")


def test_from_files_to_patches(dataset, tmp_path):
    index = preprocess(dataset, tmp_path / "prepared", config=config())
    assert not index.failed
    cases = open_cases(tmp_path / "prepared", index, ["a"], ["t1"])
    values = np.asarray(nib.load(tmp_path / "a/label.nii.gz").dataobj)
    expected = {
        "background": np.isin(values, [0, 7]).sum(),
        "tumour": np.isin(values, [10, 20]).sum(),
        "cavity": (values == 30).sum(),
    }
    assert index.entry("a").class_voxels == expected
    assert index.labels == LABELS
    table = cases["a"].patches()
    assert (table[:, 3:].sum(axis=1) > 0).all()
    assert table[:, 0].max() == 6  # half of what starts there is judged
    _, label = cases["a"].read(Box.at((6, 0, 0), (4, 4, 4)))
    assert (label[2:] == IGNORED).all()
    assert (label[:2] != IGNORED).all()


def test_predictions_are_scored_where_they_are_judged(dataset, tmp_path):
    """They hold the values to write, of which 1 and 2 are no values to read."""
    import yaml

    for name in "abcd":
        values = np.asarray(nib.load(tmp_path / name / "label.nii.gz").dataobj)
        right = np.select([np.isin(values, [10, 20]), values == 30], [1, 2])
        nifti(
            tmp_path / "found" / f"{name}.nii.gz", np.where(values == 99, 1, right).astype(np.uint8)
        )
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config().model_dump(mode="json")))
    found = evaluate(tmp_path / "found", dataset, config=path)
    assert found.summaries["all"].mean_foreground_dice == 1
    assert "Not judged, as labels.ignore says: 2.048 ml in 4 of 4 cases" in found.notes
