"""Whether two runs differ: laws of paired differences, their intervals, tests and adjustment."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from scipy import stats

from vol3dseg.errors import MissingExtraError
from vol3dseg.reporting.comparison.paired_differences import (
    Difference,
    holm_adjusted,
    paired_differences,
)
from vol3dseg.reporting.score_files import CASE_MEAN, PartScores

NAN = math.nan
DICE = st.one_of(st.just(NAN), st.integers(0, 10**6).map(lambda n: n / 10**6), st.just(0.5))


def scores(**dice):
    """Scores of cases c0, c1, ... from one list for each class."""
    cases = tuple(f"c{n}" for n in range(len(next(iter(dice.values())))))
    tables = {name: dict(zip(cases, values, strict=True)) for name, values in dice.items()}
    return PartScores("test", tables, {})


def one(first, second):
    """The difference of one class."""
    (found,) = paired_differences(scores(core=first).dice, scores(core=second).dice, ["core"])
    return found


@given(st.lists(st.tuples(DICE, DICE), min_size=1, max_size=12))
@settings(max_examples=40)
def test_swapping_a_pair_negates_differences_and_intervals(pairs):
    here, there = one(*zip(*pairs, strict=True)), one(*list(zip(*pairs, strict=True))[::-1])
    assert here.cases == there.cases
    np.testing.assert_allclose(here.mean, -there.mean, atol=1e-12)
    np.testing.assert_allclose((here.low, here.high), (-there.high, -there.low), atol=1e-9)
    np.testing.assert_allclose(here.p, there.p, rtol=1e-12)
    assert here.excludes_zero == there.excludes_zero


@given(st.lists(st.tuples(DICE, DICE), min_size=1, max_size=12))
def test_only_cases_count_that_both_define(pairs):
    found = one(*zip(*pairs, strict=True))
    both = [a - b for a, b in pairs if not (math.isnan(a) or math.isnan(b))]
    assert found.cases == len(both)
    assert found.equal == sum(abs(d) < 1e-9 for d in both)
    assert math.isnan(found.mean) == (not both)
    if both:
        assert found.mean == pytest.approx(math.fsum(both) / len(both), abs=1e-8)
    if len(both) > 1:
        assert min(both) - 1e-9 <= found.low <= found.high <= max(both) + 1e-9


def test_identical_runs_differ_by_nothing_and_have_no_test():
    found = one([0.1, 0.5, 0.9], [0.1, 0.5, 0.9])
    assert (found.cases, found.equal) == (3, 3)
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert math.isnan(found.p)
    assert math.isnan(found.p_holm)
    assert not found.excludes_zero


def test_equal_differences_have_an_interval_without_width():
    found = one([0.3, 0.9, 0.7], [0.2, 0.8, 0.6])  # as binary numbers these differ in the end
    assert (found.mean, found.low, found.high) == (pytest.approx(0.1), 0.1, 0.1)
    assert found.p == 0.25  # of 8 patterns of signs two are as far from even


FEW = [
    pytest.param([], 0, id="no case"),
    pytest.param([NAN, NAN], 0, id="none defined"),
    pytest.param([0.5, NAN], 1, id="one defined"),
]


@pytest.mark.parametrize(("values", "count"), FEW)
def test_too_few_cases_have_no_interval(values, count):
    found = one(values, [0.4] * len(values))
    assert found.cases == count
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(found.mean) == (count == 0)
    assert not found.excludes_zero


def test_p_by_hand():
    """Ranks 1 to 5, of which 1 is negative: 4 of 32 patterns of signs are as far from even."""
    differences = np.array([0.02, -0.01, 0.03, 0.05, 0.04])
    found = one((0.5 + differences).tolist(), [0.5] * 5)
    assert found.p == pytest.approx(4 / 32)
    assert found.p == pytest.approx(stats.wilcoxon(differences).pvalue)


def test_cases_of_equal_dice_do_not_bear_on_p_but_on_the_mean():
    with_equal, without = (
        one([0.6, 0.7, 0.8, 0.1], [0.5, 0.4, 0.6, 0.1]),
        one([0.6, 0.7, 0.8], [0.5, 0.4, 0.6]),
    )
    assert (with_equal.p, with_equal.equal) == (without.p, 1)
    assert with_equal.mean == pytest.approx(without.mean * 3 / 4)


def test_ties_are_ties_in_spite_of_rounding():
    """All are 0.1 or -0.1, but 0.8 - 0.7 and 0.2 - 0.1 are not the same float.

    Three of four equal ranks are positive: 10 of 16 patterns of signs are as far from even.
    """
    assert 0.8 - 0.7 != 0.2 - 0.1
    assert one([0.3, 0.2, 0.8, 0.1], [0.2, 0.1, 0.7, 0.2]).p == 10 / 16


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(100):
        values = np.clip(0.5 + rng.normal(0.05, 0.1, 30), 0, 1)
        found = one(values.tolist(), [0.5] * 30)
        hits += found.low <= 0.05 <= found.high
    assert 88 <= hits <= 99


def test_the_mean_of_classes_is_of_those_that_both_define():
    first = scores(core=[0.9, 0.4], rim=[NAN, 0.6])
    second = scores(core=[0.5, 0.5], rim=[0.0, 0.3])
    core, rim, mean = paired_differences(first.dice, second.dice, ["core", "rim", CASE_MEAN])
    assert (core.cases, rim.cases, mean.cases) == (2, 1, 2)
    assert mean.mean == pytest.approx((0.4 + (-0.1 + 0.3) / 2) / 2)


def test_cases_are_paired_by_name():
    first, second = scores(core=[0.1, 0.2, 0.9]), scores(core=[0.4, 0.9])
    second = PartScores("test", {"core": {"c2": 0.4, "x": 0.0}}, {})
    (found,) = paired_differences(first.dice, second.dice, ["core"])
    assert (found.cases, found.mean) == (1, pytest.approx(0.5))


def table(values):
    return [Difference("x", 5, 0, 0.0, 0.0, 0.0, p, NAN) for p in values]


def test_holm_by_hand():
    adjusted = [d.p_holm for d in holm_adjusted(table([0.03, 0.01, NAN, 0.02]))]
    np.testing.assert_allclose(adjusted, [0.04, 0.03, NAN, 0.04])


@given(st.lists(st.one_of(st.just(NAN), st.floats(0, 1)), max_size=8))
def test_holm_keeps_the_order_and_never_lowers(values):
    before = table(values)
    after = holm_adjusted(before)
    assert [replace(d, p_holm=NAN).p for d in after] == [d.p for d in before]
    defined = sorted((d.p, d.p_holm) for d in after if not math.isnan(d.p))
    assert all(p <= adjusted <= 1 for p, adjusted in defined)
    assert [a for _, a in defined] == sorted(a for _, a in defined)
    assert all(math.isnan(d.p_holm) for d in after if math.isnan(d.p))
    if defined:
        assert defined[0][1] == min(1, defined[0][0] * len(defined))


def test_seeds_change_the_interval_a_little_and_nothing_else():
    rng = np.random.default_rng(1)
    first, second = (scores(core=rng.uniform(size=30).tolist()) for _ in range(2))
    (zero,), (again,), (other,) = (
        paired_differences(first.dice, second.dice, ["core"], seed) for seed in (0, 0, 1)
    )
    assert zero == again
    assert zero.low != other.low
    assert zero.low == pytest.approx(other.low, abs=0.02)
    assert (zero.mean, zero.p) == (other.mean, other.p)


def test_a_missing_scipy_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(MissingExtraError, match=r"scipy.*pip install 'vol3dseg\[report\]'"):
        one([0.1, 0.2], [0.3, 0.4])


def test_the_library_is_imported_where_scipy_matplotlib_and_tensorflow_are_not_installed():
    code = """
import sys
sys.modules.update(dict.fromkeys(["scipy", "matplotlib", "tensorflow", "keras"]))
import vol3dseg.cli.compare, vol3dseg.reporting.comparison.comparison_report
"""
    subprocess.run([sys.executable, "-c", code], check=True)
