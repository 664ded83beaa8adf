"""Many values as a few: what a score does over cases, undefined ones left out."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan


@dataclass(frozen=True, slots=True)
class Spread:
    """A score over the cases that define it; NaN if none does.

    Parameters
    ----------
    cases : int
        How many define it.
    mean, median : float
    std : float
        Standard deviation of a sample (over n - 1); 0 of a single case.
    """

    cases: int
    mean: float
    median: float
    std: float


def spread_of(values: Sequence[float]) -> Spread:
    """Return the spread of the values that are not NaN."""
    defined = [v for v in values if not isnan(v)]
    if not defined:
        return Spread(0, nan, nan, nan)
    deviation = statistics.stdev(defined) if len(defined) > 1 else 0.0
    return Spread(len(defined), statistics.fmean(defined), statistics.median(defined), deviation)


def mean_defined(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    return spread_of(values).mean
