import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.empty_masks import RULES
from vol3dseg.evaluation.overlap import (
    DICE,
    METRICS,
    Counts,
    confusion,
    counts_of,
    one_against_rest,
)

CLASSES = 4
NAN = math.nan


@st.composite
def pairs(draw):
    """Draw a reference and a prediction of one shape."""
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))
    maps = hnp.arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1))
    return draw(maps), draw(maps)


def scores(reference, prediction, empty="undefined"):
    """Each metric of each class, by its name."""
    matrix = confusion(reference, prediction, CLASSES)
    counts = one_against_rest(matrix)
    return [
        {metric.name: metric(each, RULES[empty].neither(metric.name)) for metric in METRICS}
        for each in counts
    ]


def values(score):
    return [score[name] for name in ("dice", "iou", "precision", "sensitivity", "specificity")]


@given(pairs())
def test_every_voxel_is_counted_once(pair):
    matrix = confusion(*pair, CLASSES)
    for index, counts in enumerate(one_against_rest(matrix)):
        reference, prediction = (array == index for array in pair)
        assert counts == Counts(
            tp=np.count_nonzero(reference & prediction),
            fp=np.count_nonzero(~reference & prediction),
            fn=np.count_nonzero(reference & ~prediction),
            tn=np.count_nonzero(~reference & ~prediction),
        )


@given(pairs())
def test_dice_and_iou_are_symmetric_and_precision_is_sensitivity_the_other_way_round(pair):
    for one, other in zip(scores(*pair), scores(*pair[::-1]), strict=True):
        np.testing.assert_equal([one["dice"], one["iou"]], [other["dice"], other["iou"]])
        np.testing.assert_equal(one["precision"], other["sensitivity"])


@given(pairs(), st.sampled_from(sorted(RULES)))
def test_scores_lie_between_0_and_1_and_dice_follows_from_iou(pair, empty):
    for score in scores(*pair, empty):
        assert all(math.isnan(v) or 0 <= v <= 1 for v in values(score))
        if not math.isnan(score["iou"]):
            assert score["dice"] == pytest.approx(2 * score["iou"] / (1 + score["iou"]))


@given(pairs(), st.integers(0, 2), st.permutations(range(3)))
def test_flipping_and_turning_both_leaves_scores(pair, axis, order):
    turned = [np.flip(array, axis).transpose(order) for array in pair]
    for one, other in zip(scores(*pair), scores(*turned), strict=True):
        np.testing.assert_equal(values(one), values(other))


@given(pairs())
def test_a_map_agrees_with_itself(pair):
    for score in scores(pair[0], pair[0]):
        assert all(math.isnan(v) or v == 1 for v in values(score))


@given(pairs(), st.sets(st.integers(0, CLASSES - 1), min_size=1))
def test_a_union_counts_like_one_class(pair, members):
    union = counts_of(confusion(*pair, CLASSES), tuple(members))
    masks = [np.isin(array, list(members)) for array in pair]
    expected = confusion(*(mask.astype(np.uint8) for mask in masks), 2)
    assert union == one_against_rest(expected)[1]


CASES = [
    #            reference  prediction dice   iou    precision sensitivity specificity
    pytest.param([1, 1, 0], [1, 0, 1], 2 / 4, 1 / 3, 1 / 2, 1 / 2, 0 / 1, id="one of two found"),
    pytest.param([1, 0, 0], [1, 1, 1], 2 / 4, 1 / 3, 1 / 3, 1.0, 0.0, id="everything found"),
    pytest.param([1, 1, 0, 0], [1, 0, 0, 0], 2 / 3, 1 / 2, 1, 1 / 2, 1, id="half missed"),
    pytest.param([1, 0], [0, 1], 0, 0, 0, 0, 0, id="nothing in common"),
    pytest.param([0, 0], [0, 0], NAN, NAN, NAN, NAN, 1, id="both empty"),
    pytest.param([1, 0], [0, 0], 0, 0, NAN, 0, 1, id="prediction empty"),
    pytest.param([0, 0], [1, 0], 0, 0, 0, NAN, 1 / 2, id="reference empty"),
    pytest.param([1, 1], [1, 1], 1, 1, 1, 1, NAN, id="no background"),
    pytest.param([], [], NAN, NAN, NAN, NAN, NAN, id="no voxels"),
]


@pytest.mark.parametrize(
    ("reference", "prediction", "dice", "iou", "precision", "sensitivity", "specificity"), CASES
)
def test_by_hand(reference, prediction, dice, iou, precision, sensitivity, specificity):
    score = scores(np.array(reference, np.uint8), np.array(prediction, np.uint8))[1]
    np.testing.assert_allclose(values(score), [dice, iou, precision, sensitivity, specificity])


ONES = [
    pytest.param([0, 0], [0, 0], [1, 1, 1, 1, 1], id="both empty"),
    pytest.param([1, 0], [0, 0], [0, 0, NAN, 0, 1], id="prediction empty"),
    pytest.param([0, 0], [1, 0], [0, 0, 0, NAN, 1 / 2], id="reference empty"),
    pytest.param([1, 0], [1, 0], [1, 1, 1, 1, 1], id="neither empty"),
]


@pytest.mark.parametrize(("reference", "prediction", "expected"), ONES)
def test_by_the_rule_one_only_both_empty_differs(reference, prediction, expected):
    score = scores(np.array(reference, np.uint8), np.array(prediction, np.uint8), "one")[1]
    np.testing.assert_allclose(values(score), expected)


@pytest.mark.parametrize(
    ("column", "expected"),
    [("dice", ""), ("dice_left_lung", "left lung"), ("iou_edema", None), ("dicey", None)],
)
def test_the_class_of_a_column_is_read_back(column, expected):
    assert DICE.class_in(column) == expected
    if expected is not None:
        assert DICE.column(expected.title()) == column


def test_no_two_metrics_share_a_name_or_a_title():
    assert len({m.name for m in METRICS}) == len({m.title for m in METRICS}) == len(METRICS)
    assert all(m.title in RULES["one"].meaning for m in METRICS if m.by_rule)


def test_masks_are_counted_like_two_classes():
    reference, prediction = np.array([True, True, False]), np.array([True, False, False])
    matrix = confusion(reference.view(np.uint8), prediction.view(np.uint8), 2)
    assert DICE(counts_of(matrix, (1,))) == 2 / 3


def test_rows_are_the_reference():
    matrix = confusion(np.array([0, 1, 1], np.uint8), np.array([2, 1, 0], np.uint8), 3)
    assert matrix.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]


def test_indices_do_not_overflow():
    arrays = np.full(3, 254, np.uint8), np.full(3, 253, np.uint8)
    assert confusion(*arrays, 255)[254, 253] == 3


def test_other_shapes_are_refused_even_of_as_many_voxels():
    with pytest.raises(EvaluationError, match=r"\(2, 3\).*\(3, 2\).*one shape"):
        confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)


@pytest.mark.parametrize("swap", [False, True], ids=["reference", "prediction"])
def test_an_index_that_is_no_class_is_refused(swap):
    arrays = [np.array([0, 1], np.uint8), np.array([0, 4], np.uint8)]
    with pytest.raises(EvaluationError, match=r"class index 4; expected 0 to 3"):
        confusion(*(arrays[::-1] if swap else arrays), CLASSES)


def peak_bytes(run):
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_counting_needs_no_memory_of_the_size_of_the_volume(classes):
    shape = (128, 128, 192)
    rng = np.random.default_rng(0)
    maps = [np.asfortranarray(rng.integers(0, classes, shape, np.uint8)) for _ in range(2)]
    voxels = maps[0].size
    assert peak_bytes(lambda: confusion(*maps, classes)) < voxels / 2  # was 24 bytes a voxel


@given(pairs(), st.permutations(range(3)), st.booleans())
def test_voxels_are_paired_by_place_however_arrays_lie_in_memory(pair, order, flip):
    reference, prediction = pair
    back = np.argsort(order)
    other = np.ascontiguousarray(prediction.transpose(order)).transpose(back)
    other = np.ascontiguousarray(other[::-1])[::-1] if flip else other
    np.testing.assert_array_equal(confusion(reference, other, CLASSES), confusion(*pair, CLASSES))
    expected = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(expected, (reference.ravel(), prediction.ravel()), 1)
    np.testing.assert_array_equal(confusion(reference, other, CLASSES), expected)
