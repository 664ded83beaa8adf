import math

import numpy as np
import pytest

from vol3dseg.evaluation.scoring import evaluate_case, pooled_scores, summarise
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation

NAMES = ("background", "necrotic core", "edema", "Enhancing")
LABELS = LabelSet(classes=[{"name": n, "read": [v], "write": v} for v, n in enumerate(NAMES)])

# Two cases of 12 voxels. Of A all is found but one voxel of edema; in B edema is small and lost.
A = ([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 2, 2, 2, 0, 3, 3])
B = ([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 3])


def case(name, reference, prediction):
    grid = Geometry((2, 2, 3), np.eye(4))
    maps = (np.array(m, np.uint8).reshape(grid.shape) for m in (reference, prediction))
    return evaluate_case(name, *(Segmentation(m, grid, LABELS) for m in maps))


# Over both: rows the reference.
#   [[12, 0, 0, 0],
#    [ 1, 3, 0, 0],
#    [ 1, 0, 3, 1],
#    [ 0, 0, 0, 3]]
EXPECTED = {
    "pooled_accuracy": 21 / 24,
    "pooled_dice": (24 / 26 + 6 / 7 + 6 / 8 + 6 / 7) / 4,
    "pooled_iou": (12 / 14 + 3 / 4 + 3 / 5 + 3 / 4) / 4,
    "pooled_precision": (12 / 14 + 3 / 3 + 3 / 3 + 3 / 4) / 4,
    "pooled_sensitivity": (12 / 12 + 3 / 4 + 3 / 5 + 3 / 3) / 4,
    "pooled_specificity": (10 / 12 + 20 / 20 + 19 / 19 + 20 / 21) / 4,
    "pooled_dice_necrotic_core": 6 / 7,
    "pooled_dice_edema": 6 / 8,
    "pooled_dice_enhancing": 6 / 7,
}


def test_pooled_scores_of_four_classes_by_hand():
    summary = summarise([case("A", *A), case("B", *B)])
    assert list(summary.pooled) == list(EXPECTED)
    assert summary.pooled == pytest.approx(EXPECTED)


def test_pooled_scores_are_not_the_means_over_cases():
    summary = summarise([case("A", *A), case("B", *B)])
    per_case = {
        "necrotic core": (1 + 2 / 3) / 2,
        "edema": (6 / 7 + 0) / 2,
        "Enhancing": (1 + 2 / 3) / 2,
    }
    for name, expected in per_case.items():
        assert summary.mean_dice(name) == pytest.approx(expected)
    assert summary.mean_foreground_dice == pytest.approx(sum(per_case.values()) / 3)
    # What pooling does to the same predictions: 0.698 becomes 0.847, the lost edema 0.429 0.75.
    assert summary.mean_foreground_dice < 0.70
    assert summary.pooled["pooled_dice"] > 0.84
    assert summary.pooled["pooled_dice_edema"] > summary.mean_dice("edema") + 0.3


def test_the_background_is_averaged_as_well():
    perfect_background = np.array([[90, 0], [0, 0]]) + np.array([[0, 5], [5, 0]])
    table = pooled_scores(perfect_background, ("background", "tumour"))
    assert table["pooled_dice_tumour"] == 0
    assert table["pooled_dice"] == pytest.approx((180 / 190 + 0) / 2)


def test_a_class_that_no_case_has_is_left_out_of_the_means():
    table = pooled_scores(np.diag([3, 2, 0]), ("background", "a", "b"))
    assert math.isnan(table["pooled_dice_b"])
    assert table["pooled_dice"] == table["pooled_iou"] == table["pooled_accuracy"] == 1


def test_without_voxels_nothing_is_defined():
    table = pooled_scores(np.zeros((2, 2), np.int64), ("background", "a"))
    assert all(math.isnan(value) for value in table.values())
