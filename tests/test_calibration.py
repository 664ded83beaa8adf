"""Calibration against its formula, and the files that it is read from."""

from math import log, nan

import numpy as np
import pytest

from tests.pairs import evaluate_pairs
from vol3dseg.datasets.case import Case
from vol3dseg.evaluation.calibration import Calibration, calibration, pooled
from vol3dseg.evaluation.scoring import summarise
from vol3dseg.formats import open_volume, write
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.reporting.certainty import certainty, file_beside
from vol3dseg.reporting.score_files import write_scores
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import IGNORED, Segmentation

GRID = Geometry((7, 6, 5), np.diag([1.0, 1.0, 2.0, 1.0]))


@pytest.fixture
def pair(labels):
    """A reference, some of which is not judged, and a prediction."""
    rng = np.random.default_rng(3)
    reference, prediction = (rng.integers(0, 4, GRID.shape).astype(np.uint8) for _ in range(2))
    prediction[rng.random(GRID.shape) < 0.5] = 0
    reference[rng.random(GRID.shape) < 0.3] = 0
    reference[0, 0] = IGNORED
    return tuple(Segmentation(array, GRID, labels) for array in (reference, prediction))


def probabilities():
    values = np.random.default_rng(4).gamma(0.4, size=(*GRID.shape, 4)).astype(np.float32)
    return values / values.sum(axis=-1, keepdims=True)


def judged_voxels(reference, prediction, *others, unseen=()):
    """Give what counts, voxel by voxel."""
    for true, found, *values in zip(
        *(a.ravel() for a in (reference, prediction, *others)), strict=True
    ):
        if true != IGNORED and (true or found) and not (true == 0 and found in unseen):
            yield true == found, *values


def by_force(voxels, bins=15):
    """Expected calibration error as it is written down, with bins that hold their upper end."""
    voxels, error = list(voxels), 0.0
    for m in range(bins):
        here = [(r, p) for r, p in voxels if m / bins < p <= (m + 1) / bins]
        if here:
            right, sure = (sum(column) / len(here) for column in zip(*here, strict=True))
            error += len(here) / len(voxels) * abs(right - sure)
    return error


def test_the_error_is_that_of_the_formula(pair):
    sure = probabilities().max(axis=-1)
    found = calibration(*pair, confidence=sure)
    arrays = (each.array for each in pair)
    assert found.ece == pytest.approx(by_force(judged_voxels(*arrays, sure.astype(float))))
    assert found.entropy is None


def test_nobody_judges_what_nobody_has_looked_for(pair, labels):
    reference = Segmentation(pair[0].array, GRID, labels, unannotated=(labels.names[2],))
    sure = probabilities().max(axis=-1)
    arrays = (each.array for each in pair)
    wanted = by_force(judged_voxels(*arrays, sure.astype(float), unseen=(2,)))
    assert calibration(reference, pair[1], sure).ece == pytest.approx(wanted)
    assert calibration(*pair, sure).ece != pytest.approx(wanted)


def test_entropy_is_of_the_same_voxels(pair):
    entropy = np.random.default_rng(5).uniform(0, 2, GRID.shape).astype(np.float32)
    found = calibration(*pair, entropy=entropy)
    voxels = list(judged_voxels(*(each.array for each in pair), entropy))
    assert found.mean_entropy == pytest.approx(np.mean([value for _, value in voxels]))
    assert found.entropy[:, 0].sum() == len(voxels)
    assert found.entropy[:, 1].sum() == sum(not right for right, _ in voxels)
    last = [value for _, value in voxels if value > 0.9 * log(4)]
    assert found.entropy[-1, 0] == len(last)  # what is beyond is in it
    assert max(last) > log(4)


def test_cases_are_pooled_by_voxels(pair):
    sure, entropy = probabilities().max(axis=-1), np.full(GRID.shape, 0.3, np.float32)
    one, other = calibration(*pair, confidence=sure), calibration(*pair[::-1], sure, entropy)
    both = pooled([one, other])
    assert both.entropy.tolist() == other.entropy.tolist()
    np.testing.assert_allclose(both.confidence, one.confidence + other.confidence)
    least, most = sorted([one.ece, other.ece])
    assert both.ece <= most
    assert least > 0


def test_without_foreground_nothing_is_known(labels):
    empty = Segmentation(np.zeros(GRID.shape, np.uint8), GRID, labels)
    found = calibration(empty, empty, np.ones(GRID.shape, np.float32), None)
    assert str(found.ece) == str(Calibration().mean_entropy) == str(nan)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_the_largest_of_several_volumes(tmp_path, suffix):
    array = probabilities()
    write(tmp_path / f"a{suffix}", array, GRID)
    found, grid, mean = open_volume(tmp_path / f"a{suffix}").largest()
    np.testing.assert_array_equal(found, array.max(axis=-1))
    assert grid.fits(GRID)
    assert mean == pytest.approx(array.mean(), rel=1e-5)


def test_files_are_found_by_their_names(tmp_path):
    for name in ("x_entropy.nii.gz", "y_desc-a_probseg.nii.gz", "y_desc-a_entropy.nii.gz"):
        (tmp_path / name).touch()
    assert file_beside(tmp_path / "x.nii.gz", "entropy").name == "x_entropy.nii.gz"
    assert file_beside(tmp_path / "x.nii.gz", "probabilities") is None
    for kind, end in (("entropy", "entropy"), ("probabilities", "probseg")):
        found = file_beside(tmp_path / "y_desc-a_dseg.nii.gz", kind)
        assert found.name == f"y_desc-a_{end}.nii.gz"


@pytest.mark.parametrize(
    ("array", "grid", "said"),
    [
        (np.ones((*GRID.shape, 3), np.float32) / 3, GRID, "holds 3 volumes; expected 4, one for"),
        (np.ones((*GRID.shape, 4), np.float32) / 2, GRID, "its values sum to 2 in a voxel"),
        (np.full((*GRID.shape, 4), nan, np.float32), GRID, "its values sum to nan in a voxel"),
        (
            np.ones((*GRID.shape, 4), np.float32) / 4,
            Geometry(GRID.shape, np.eye(4)),
            "lies on another grid",
        ),
    ],
    ids=["regions", "no sum", "NaN", "grid"],
)
def test_what_cannot_be_used_is_noted_and_no_score_fails(pair, tmp_path, array, grid, said):
    write(tmp_path / "x_probabilities.nii.gz", array, grid)
    found, notes = certainty(tmp_path / "x.nii.gz", *pair)
    assert found is None
    assert notes[0].startswith("probabilities not used: ")
    assert said in notes[0]


def test_both_stand_in_the_files(pair, labels, tmp_path):
    for name, each in zip(("r", "p"), pair, strict=True):
        values = np.where(each.array == IGNORED, 0, each.array)
        nifti.write(tmp_path / f"{name}.nii.gz", labels.decode(values), GRID)
    write(tmp_path / "p_probabilities.nii.gz", probabilities(), GRID)
    case = Case("X", "X", {}, tmp_path / "r.nii.gz")
    (scores,) = evaluate_pairs([("X", tmp_path / "p.nii.gz", case)], labels)
    write_scores(tmp_path / "R", [scores], summarise([scores]), {})
    head, row, *_ = (tmp_path / "R" / "cases.csv").read_text().splitlines()
    assert head.endswith(",ece,mean_entropy_nat")
    assert row.endswith(f",{scores.calibration.ece:.6f},")
    text = (tmp_path / "R" / "summary.json").read_text()
    assert '"mean_entropy_nat": null' in text
