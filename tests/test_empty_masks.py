"""What counts where a structure is missing, by each rule, against what its authors publish."""

from math import hypot, isnan, nan

import numpy as np
import pytest

from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.empty_masks import RULES, require_rule
from vol3dseg.evaluation.judging import Judging
from vol3dseg.evaluation.lesions import lesion_rule
from vol3dseg.evaluation.scoring import evaluate_case, summarise
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet, Segmentation

LABELS = LabelSet(classes=[Label(name=name, read=(n,), write=n) for n, name in enumerate("ab")])
GRID = Geometry((12, 10, 8), np.diag([1.0, 2.0, 5.0, 1.0]))
DIAGONAL = hypot(12, 20, 40)
BRATS = hypot(240, 240, 155)  # 373.1287

WHOLE = ["dice", "iou", "precision", "sensitivity", "hd_mm", "hd95_mm", "assd_mm", "surface_dice"]
# fmt: off
TABLE = [
    # rule      reference, prediction; Dice IoU  prec sens HD        HD95      ASSD      NSD
    ("undefined",        0, 0,      [nan, nan, nan, nan, nan,      nan,      nan,      nan]),
    ("undefined",        1, 0,      [0,   0,   nan, 0,   nan,      nan,      nan,      0]),
    ("undefined",        0, 1,      [0,   0,   0,   nan, nan,      nan,      nan,      0]),
    ("one",              0, 0,      [1,   1,   1,   1,   0,        0,        0,        1]),
    ("one",              1, 0,      [0,   0,   nan, 0,   nan,      nan,      nan,      0]),
    ("one",              0, 1,      [0,   0,   0,   nan, nan,      nan,      nan,      0]),
    ("brats-2020",       0, 0,      [1,   1,   1,   1,   0,        0,        0,        1]),
    ("brats-2020",       1, 0,      [0,   0,   nan, 0,   BRATS,    BRATS,    BRATS,    0]),
    ("brats-2020",       0, 1,      [0,   0,   0,   nan, BRATS,    BRATS,    BRATS,    0]),
    ("brats-2023",       0, 0,      [1,   1,   1,   1,   0,        0,        0,        1]),
    ("brats-2023",       1, 0,      [0,   0,   nan, 0,   374,      374,      374,      0]),
    ("brats-2023",       0, 1,      [0,   0,   0,   nan, 374,      374,      374,      0]),
    ("metrics-reloaded", 0, 0,      [1,   nan, nan, nan, 0,        0,        0,        1]),
    ("metrics-reloaded", 1, 0,      [0,   0,   nan, 0,   nan,      nan,      nan,      0]),
    ("metrics-reloaded", 0, 1,      [0,   0,   0,   nan, nan,      nan,      nan,      0]),
    ("diagonal",         0, 0,      [nan, nan, nan, nan, nan,      nan,      nan,      nan]),
    ("diagonal",         1, 0,      [0,   0,   nan, 0,   DIAGONAL, DIAGONAL, DIAGONAL, 0]),
    ("diagonal",         0, 1,      [0,   0,   0,   nan, DIAGONAL, DIAGONAL, DIAGONAL, 0]),
]
LESION = ["lesion_dice", "lesion_hd95_mm", "lesion_recall", "lesion_precision"]
LESIONS = [
    # rule      reference, prediction; Dice HD95      recall precision
    ("undefined",        0, 0,      [nan, nan,      nan, nan]),
    ("undefined",        1, 0,      [0,   nan,      0,   nan]),
    ("undefined",        0, 1,      [0,   nan,      nan, 0]),
    ("one",              0, 0,      [1,   0,        nan, nan]),
    ("one",              1, 0,      [0,   nan,      0,   nan]),
    ("one",              0, 1,      [0,   nan,      nan, 0]),
    ("brats-2020",       0, 0,      [1,   0,        nan, nan]),
    ("brats-2020",       1, 0,      [0,   BRATS,    0,   nan]),
    ("brats-2020",       0, 1,      [0,   BRATS,    nan, 0]),
    ("brats-2023",       0, 0,      [1,   0,        nan, nan]),
    ("brats-2023",       1, 0,      [0,   374,      0,   nan]),
    ("brats-2023",       0, 1,      [0,   374,      nan, 0]),
    ("metrics-reloaded", 0, 0,      [1,   0,        nan, nan]),
    ("metrics-reloaded", 1, 0,      [0,   nan,      0,   nan]),
    ("metrics-reloaded", 0, 1,      [0,   nan,      nan, 0]),
    ("diagonal",         0, 0,      [nan, nan,      nan, nan]),
    ("diagonal",         1, 0,      [0,   DIAGONAL, 0,   nan]),
    ("diagonal",         0, 1,      [0,   DIAGONAL, nan, 0]),
]
# fmt: on
PLAIN = lesion_rule("plain")


def case(empty, reference, prediction, **rules):
    """Score a block that is, or is not, in the reference and in the prediction."""
    maps = []
    for present in (reference, prediction):
        array = np.zeros(GRID.shape, dtype=np.uint8)
        array[3:7, 2:6, 2:5] = present
        maps.append(Segmentation(array, GRID, LABELS))
    return evaluate_case("a", *maps, Judging(empty, surface="area", **rules))


def named(rows):
    return [f"{row[0]}, {('reference empty', 'reference')[row[1]]}, "
            f"{('prediction empty', 'prediction')[row[2]]}" for row in rows]  # fmt: skip


@pytest.mark.parametrize(("empty", "reference", "prediction", "expected"), TABLE, ids=named(TABLE))
def test_a_structure_that_is_missing(empty, reference, prediction, expected):
    scores = case(empty, reference, prediction).structures["b"]
    np.testing.assert_allclose([scores[name] for name in WHOLE], expected)


@pytest.mark.parametrize(
    ("empty", "reference", "prediction", "expected"), LESIONS, ids=named(LESIONS)
)
def test_its_lesions(empty, reference, prediction, expected):
    scores = case(empty, reference, prediction, lesions=PLAIN).structures["b"]
    np.testing.assert_allclose([scores[name] for name in LESION], expected)
    counted = [scores[f"lesions_{what}"] for what in ("found", "missed", "false")]
    assert counted == [0, reference, prediction]


@pytest.mark.parametrize("empty", RULES)
def test_where_both_have_it_no_rule_says_anything(empty):
    scores = case(empty, 1, 1, lesions=PLAIN).structures["b"]
    np.testing.assert_array_equal([scores[name] for name in WHOLE], [1, 1, 1, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal([scores[name] for name in LESION], [1, 0, 1, 1])


@pytest.mark.parametrize("empty", RULES)
def test_every_rule_says_in_words_what_it_counts(empty):
    rule = RULES[empty]
    assert ("Dice" in rule.meaning.split("count")[0]) if rule.dice == 1 else True
    assert ("undefined and left out" in rule.meaning) or not isnan(rule.missed_mm)
    assert ("distances as 0" in rule.meaning) == (rule.distance_mm == 0)
    assert ("flatters" in rule.meaning) == isnan(rule.missed_mm)


def test_a_missed_structure_that_is_left_out_is_missed_in_the_number_of_cases():
    cases = [case("undefined", 1, seen) for seen in (1, 1, 0)]
    found = summarise(cases).statistics["b"]
    assert (found["hd95_mm"].cases, found["dice"].cases) == (2, 3)
    cases = [case("brats-2023", 1, seen) for seen in (1, 1, 0)]
    found = summarise(cases).statistics["b"]
    assert (found["hd95_mm"].cases, found["hd95_mm"].mean) == (3, pytest.approx(374 / 3))


def test_a_rule_that_is_none_is_refused():
    with pytest.raises(EvaluationError, match=r"empty='zero' is no rule.*expected undefined, one"):
        require_rule("zero")
