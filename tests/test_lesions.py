"""Lesions one by one: against the published rules by brute force, and at their edges."""

from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("scipy")

from scipy import ndimage

from tests.oracle.brats_2023 import judged
from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.lesions import (
    LESION_RULES,
    LesionRule,
    dilated,
    lesion_rule,
    lesions,
)
from vol3dseg.evaluation.surface_distances import surface_distances

SHAPE = (9, 8, 7)
ONE_MM = (1.0, 1.0, 1.0)
specks = st.builds(
    lambda seed, share: np.random.default_rng(seed).random(SHAPE) < share,
    st.integers(0, 2**16),
    st.sampled_from([0, 0.005, 0.02, 0.08, 0.3]),
)
spacings = st.sampled_from([ONE_MM, (0.7, 0.7, 5.0)])


def hd95(one, other, spacing_mm):
    return surface_distances(one, other, spacing_mm).hausdorff_mm(95)


def at(*places, shape=(20, 6, 6)):
    """Return a mask of single voxels, or of blocks given by slices."""
    mask = np.zeros(shape, dtype=np.bool_)
    for place in places:
        mask[place] = True
    return mask


@given(specks, specks, spacings, st.integers(0, 3), st.sampled_from([0, 1, 2.5, 7]))
def test_scores_are_those_of_the_published_rules(one, other, spacing_mm, dilation, smallest_mm3):
    rule = LesionRule(dilation, smallest_mm3)
    found = lesions(one, other, spacing_mm, rule).scores(1.0, 0.0, 374.0)
    expected = judged(one, other, spacing_mm, dilation, smallest_mm3, hd95).as_dict()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)


@given(specks, specks, st.integers(0, 3), st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_turning_and_flipping_both_changes_nothing(one, other, dilation, order, axes):
    rule = LesionRule(dilation, smallest_mm3=1)
    turned = [np.flip(mask, tuple(axes)).transpose(order) for mask in (one, other)]
    found = lesions(*turned, ONE_MM, rule).scores(1.0, 0.0, 374.0)
    expected = lesions(one, other, ONE_MM, rule).scores(1.0, 0.0, 374.0)
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)


@given(specks, st.integers(0, 3))
def test_a_mask_finds_all_its_lesions(mask, dilation):
    found = lesions(mask, mask, ONE_MM, LesionRule(dilation))
    assert found.false == 0
    assert all(lesion.found for lesion in found.judged)
    total = sum(lesion.volume_mm3 for lesion in found.judged)
    assert total == mask.sum()
    if not dilation:
        assert all((lesion.dice, lesion.hd95_mm) == (1, 0) for lesion in found.judged)


@given(hnp.arrays(np.bool_, (5, 4, 6)), st.integers(0, 3))
def test_masks_grow_by_faces_and_edges(mask, times):
    structure = ndimage.generate_binary_structure(3, 2)
    expected = ndimage.binary_dilation(mask, structure, times) if times else mask
    np.testing.assert_array_equal(dilated(mask, times), expected)


@pytest.mark.parametrize("gap", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [0, 1])
def test_parts_that_touch_after_dilation_are_one_lesion(gap, dilation):
    reference = at((4, 3, 3), (5 + gap, 3, 3))
    found = lesions(reference, reference, ONE_MM, LesionRule(dilation))
    assert len(found.judged) == (1 if gap <= 2 * dilation else 2)


@pytest.mark.parametrize(("connectivity", "count"), [(6, 3), (18, 2), (26, 1)])
def test_what_hangs_together(connectivity, count):
    reference = at((4, 2, 2), (5, 3, 2), (6, 4, 3))  # by an edge, then by a corner
    found = lesions(reference, reference, ONE_MM, LesionRule(connectivity=connectivity))
    assert len(found.judged) == count
    assert found.found == count


@pytest.mark.parametrize(("smallest_mm3", "count"), [(1.99, 1), (2.0, 0), (2.01, 0)])
def test_a_lesion_of_just_the_smallest_volume_is_not_judged(smallest_mm3, count):
    reference = at((4, 2, 2), (5, 2, 2))
    found = lesions(reference, at(), ONE_MM, LesionRule(smallest_mm3=smallest_mm3))
    assert len(found.judged) == count


@pytest.mark.parametrize("side_mm", [0.1, 0.7, 1.1])
def test_volumes_that_rounding_moves_are_not_judged_either(side_mm):
    """As many voxels as the smallest volume has, where the product of the sides is just above."""
    reference = at((slice(4, 7), 2, 2))
    smallest_mm3 = round(3 * side_mm**3, 6)
    found = lesions(reference, at(), (side_mm,) * 3, LesionRule(smallest_mm3=smallest_mm3))
    assert not found.judged


def test_what_finds_a_lesion_that_is_not_judged_is_not_false():
    small, large = (4, 2, 2), (slice(10, 14), slice(1, 5), slice(1, 5))
    reference, prediction = at(small, large), at(small, (18, 2, 2))
    found = lesions(reference, prediction, ONE_MM, LesionRule(smallest_mm3=1))
    assert (found.found, len(found.judged), found.false) == (0, 1, 1)


def test_components_of_one_lesion_are_compared_together_and_one_may_find_two():
    halves = at((slice(2, 5), 2, 2), (slice(6, 9), 2, 2))
    whole = at((slice(2, 9), 2, 2))
    (lesion,) = lesions(whole, halves, ONE_MM, LesionRule()).judged
    assert lesion.dice == pytest.approx(2 * 6 / 13)
    found = lesions(halves, whole, ONE_MM, LesionRule())
    assert [lesion.dice for lesion in found.judged] == [pytest.approx(2 * 3 / 10)] * 2
    assert (found.found, found.false) == (2, 0)


def test_a_component_beside_a_lesion_finds_it_if_dilation_reaches():
    """It is found then, with a Dice of 0 and a distance."""
    reference, prediction = at((4, 3, 3)), at((6, 3, 3))
    near = lesions(reference, prediction, ONE_MM, LesionRule(dilation=2))
    assert (near.found, near.false, near.judged[0].dice) == (1, 0, 0)
    assert near.judged[0].hd95_mm == 2
    far = lesions(reference, prediction, ONE_MM, LesionRule(dilation=1))
    assert (far.found, far.false) == (0, 1)
    assert isnan(far.judged[0].hd95_mm)


def test_lesions_at_the_border_grow_no_further():
    reference, prediction = at((0, 0, 0), (19, 5, 5)), at((0, 0, 0), (19, 5, 5))
    found = lesions(reference, prediction, ONE_MM, LesionRule(dilation=3))
    assert [lesion.dice for lesion in found.judged] == [1, 1]


def test_scores_of_a_case():
    """Two of three found, one of them well, and two false."""
    first, second, third = ((slice(n, n + 2), 2, 2) for n in (1, 6, 11))
    reference, prediction = at(first, second, third), at(first, (6, 2, 2), (17, 2, 2), (19, 2, 2))
    found = lesions(reference, prediction, ONE_MM, LesionRule(), "voxels").scores(nan, nan, 374.0)
    assert found == pytest.approx(
        {
            "lesion_dice": (1 + 2 / 3 + 0 + 0 + 0) / 5,
            "lesion_hd95_mm": (0 + 0.95 + 374 + 374 + 374) / 5,
            "lesion_recall": 2 / 3,
            "lesion_precision": 2 / 4,
            "lesions_found": 2,
            "lesions_missed": 1,
            "lesions_false": 2,
        }
    )
    left_out = lesions(reference, prediction, ONE_MM, LesionRule(), "voxels").scores(nan, nan, nan)
    assert left_out["lesion_hd95_mm"] == pytest.approx(0.95 / 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", LesionRule(0, 0, 26)),
        ("brats-gli", LesionRule(3, 50, 26)),
        ("brats-ssa", LesionRule(3, 50, 26)),
        ("brats-ped", LesionRule(3, 50, 26)),
        ("brats-men", LesionRule(1, 50, 26)),
        ("brats-met", LesionRule(1, 2, 26)),
        ("dilation=2", LesionRule(2, 0, 26)),
        (" smallest_mm3 = 2.5 , connectivity = 6 ", LesionRule(0, 2.5, 6)),
        ("dilation=0,smallest_mm3=0,connectivity=18", LesionRule(0, 0, 18)),
    ],
)
def test_rules_are_read(text, expected):
    assert lesion_rule(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "brats", "dilation", "dilation=x", "dilation=-1", "dilation=21", "dilation=1.5",
        "smallest_mm3=-1", "smallest_mm3=nan", "smallest_mm3=inf", "connectivity=4", "size=3",
        "dilation=1;connectivity=6", "dilation=1,dilation=2",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(EvaluationError, match="is no rule for lesions; expected plain, brats-gli"):
        lesion_rule(text)


def test_every_rule_says_what_it_is():
    assert str(LESION_RULES["brats-met"]) == (
        "26 neighbours hang together, parts that touch after 1 dilations are one lesion, lesions "
        "up to 2 mm^3 are not judged"
    )
