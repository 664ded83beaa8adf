"""Means of folds and their intervals."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from scipy import stats

from vol3dseg.evaluation.intervals import mean_interval
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.reporting.fold_scores import (
    POOLED,
    fold_csv,
    fold_markdown,
    fold_table,
    pooled_dice,
    score_fold,
)
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Segmentation

GRID = Geometry((10, 1, 1), np.eye(4))
VALUES = [0.2, 0.5, 0.55, 0.6, 0.9, 0.91]


@settings(max_examples=10)
@given(st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=2, max_size=9))
def test_an_interval_holds_the_mean_and_lies_among_the_values(values):
    low, high = mean_interval(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert low - 1e-9 <= np.mean(values) <= high + 1e-9
    assert (low, high) == mean_interval(values)


def test_values_by_themselves_are_those_of_scipy():
    """Both draw by chance: the ends differ by no more than two of SciPy's own runs do."""
    runs = [
        stats.bootstrap((VALUES,), np.mean, method="BCa", rng=np.random.default_rng(seed))
        for seed in range(5)
    ]
    ends = np.array([run.confidence_interval for run in runs])
    between = np.ptp(ends, axis=0) + 0.002
    assert np.all(np.abs(mean_interval(VALUES, seed=3) - ends.mean(axis=0)) <= between)


def test_scans_of_one_subject_say_less_than_as_many_subjects():
    """Each value five times: of five scans of one subject they are worth no more than one."""
    repeated = np.repeat(VALUES, 5)
    low, high = mean_interval(repeated, np.repeat(list("abcdef"), 5).tolist())
    assert (low, high) == pytest.approx(mean_interval(VALUES), abs=0.01)  # rounding breaks ties
    alone = mean_interval(repeated)
    assert low < alone[0] < alone[1] < high


@pytest.mark.parametrize(
    ("values", "groups", "expected"),
    [
        pytest.param([], None, None, id="nothing"),
        pytest.param([0.5], None, None, id="one"),
        pytest.param([0.5, 0.7], ["a", "a"], None, id="one subject"),
        pytest.param([0.5, 0.5, 0.5], None, (0.5, 0.5), id="all alike"),
        pytest.param([0.4, 0.6, 0.5], ["a", "a", "b"], (0.5, 0.5), id="subjects alike"),
    ],
)
def test_where_there_is_nothing_to_draw(values, groups, expected):
    found = mean_interval(values, groups)
    assert found == expected if expected else all(map(math.isnan, found))


@pytest.fixture
def judged(labels):
    """Score a case whose edema is ten voxels, of which so many are found."""

    def judge(name, found, there=True):
        maps = [np.zeros((10, 1, 1), np.uint8) for _ in range(2)]
        maps[0][:] = 2 * there
        maps[1][:found] = 2
        return evaluate_case(name, *(Segmentation(each, GRID, labels) for each in maps))

    return judge


def test_a_fold_is_the_mean_of_its_cases_and_pooled_that_of_all(judged):
    subjects = {name: name for name in "abc"}
    cases = [judged("a", 10), judged("b", 5), judged("c", 0, there=False)]
    folds = {"1": cases[:2], "2": cases[2:], POOLED: cases}
    rows = {name: score_fold(of, subjects) for name, of in folds.items()}
    edema = rows["1"].dice["edema"]
    assert (edema.cases, edema.subjects) == (2, 2)
    assert edema.mean == pytest.approx((1 + 2 / 3) / 2)
    assert edema.low <= edema.mean <= edema.high
    assert rows["2"].dice["edema"].mean is None
    table = fold_table(rows)
    column = table.columns.index("edema")
    assert [row[column] for row in table.rows][1] == "-"
    assert table.rows[0][column].startswith("0.8333 (0.6667 to ")
    assert table.rows[2][column].startswith("0.8333 of 2 cases (")
    assert fold_table(rows, intervals=False).rows[0][column] == "0.8333"
    assert ("edema", "2", "0.8333") in [row[:3] for row in pooled_dice(rows[POOLED]).rows]
    assert "| 1 | 2 |" in fold_markdown(rows, "Two folds.")
    lines = list(csv.DictReader(fold_csv(rows).splitlines()))
    assert len(lines) == 3 * (len(table.columns) - 3)
    assert {(x["fold"], x["mean"]) for x in lines if x["structure"] == "edema"} == {
        ("1", "0.833333"),
        ("2", ""),
        (POOLED, "0.833333"),
    }
