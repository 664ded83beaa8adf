"""Whether two runs, or two sets of predictions, differ in a score, tested case by case.

Both are scored on the same cases, so the difference in each case is what counts. Of each class or
region, over the cases where both define the score: the mean difference; its 95 % interval, by
bootstrap over cases, bias-corrected and accelerated (Efron 1987, "Better Bootstrap Confidence
Intervals"); the p of Wilcoxon's signed-rank test, two-sided (Wilcoxon 1945, "Individual
Comparisons by Ranking Methods"), and that p adjusted for the number of tests (Holm 1979, "A Simple
Sequentially Rejective Multiple Test Procedure"). docs/compare.md says how to read them. Needs the
extra [report].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from vol3dseg.evaluation.intervals import mean_interval
from vol3dseg.extras import load_extra
from vol3dseg.reporting.score_files import CASE_MEAN

Scores = Mapping[str, Mapping[str, float]]
_DIGITS = 9  # Dice is kept with 6; equal differences must not be told apart by rounding errors


@dataclass(frozen=True, slots=True)
class Difference:
    """How a score of two runs differs, over the cases where both define it."""

    structure: str  # a class or region, or `CASE_MEAN`
    cases: int  # that both define
    equal: int  # cases of these in which the two are equal
    mean: float  # of first minus second; NaN without cases
    low: float  # of the 95 % interval of the mean; NaN with fewer than two cases
    high: float
    p: float  # of Wilcoxon's signed-rank test; NaN where all differences are 0
    p_holm: float  # adjusted over the table that this stands in

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def paired_differences(
    first: Scores,
    second: Scores,
    structures: Sequence[str],
    seed: int = 0,
    subjects: Mapping[str, str] | None = None,
) -> tuple[Difference, ...]:
    """Return the difference of two runs, first minus second, of each structure in turn.

    A score is given by structure, then by case. Cases that only one has are left out. `CASE_MEAN`
    among the structures stands for the mean, in each case, over the other structures that both runs
    define there. `p_holm` is adjusted over those returned. The bootstrap, whose seed is given,
    draws subjects: a case that `subjects` does not name has one of its own.
    """
    others = [name for name in structures if name != CASE_MEAN]
    table = []
    for name in structures:
        cases, values = _case_differences(first, second, others if name == CASE_MEAN else [name])
        groups = [(subjects or {}).get(case, case) for case in cases]
        table.append(_difference(name, values, groups, seed))
    return holm_adjusted(table)


def holm_adjusted(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Return the differences with `p_holm` adjusted over all of them; an undefined p is no test."""
    tests = sorted((d.p, place) for place, d in enumerate(differences) if not isnan(d.p))
    adjusted, largest = [nan] * len(differences), 0.0
    for rank, (p, place) in enumerate(tests):
        largest = max(largest, min(1.0, p * (len(tests) - rank)))
        adjusted[place] = largest
    return tuple(replace(d, p_holm=p) for d, p in zip(differences, adjusted, strict=True))


def require_statistics() -> None:
    """Raise the error that says how to install SciPy, where it is not."""
    load_extra("scipy.stats", "report")


def _case_differences(
    first: Scores, second: Scores, structures: Sequence[str]
) -> tuple[list[str], NDArray[np.float64]]:
    """Return cases with first minus second, averaged over the structures that both define."""
    cases = [case for case in first[structures[0]] if case in second[structures[0]]]
    rows = [[first[name][case] - second[name][case] for name in structures] for case in cases]
    table = np.array(rows, dtype=np.float64).reshape(-1, len(structures))
    defined = np.asarray(~np.isnan(table).all(axis=1))
    means: NDArray[np.float64] = np.nanmean(table[defined], axis=1)
    known = [case for case, kept in zip(cases, defined, strict=True) if kept]
    return known, means.round(_DIGITS) + 0.0  # no -0


def _difference(
    structure: str, values: NDArray[np.float64], groups: Sequence[str], seed: int
) -> Difference:
    stats = load_extra("scipy.stats", "report")
    equal = int(np.count_nonzero(values == 0))
    mean = float(values.mean()) if values.size else nan
    low, high = mean_interval(values, groups, seed)
    # Cases of equal Dice are left out, as Wilcoxon did (`zero_method="wilcox"`); here and not by
    # SciPy, which gives up the exact test where it meets a zero.
    unequal = values[values != 0]
    p = float(stats.wilcoxon(unequal).pvalue) if unequal.size else nan
    return Difference(structure, values.size, equal, mean, low, high, p, nan)
