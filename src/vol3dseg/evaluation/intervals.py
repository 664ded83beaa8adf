"""The 95 % interval of a mean, by bootstrap, bias-corrected and accelerated.

Efron 1987, "Better Bootstrap Confidence Intervals". What is drawn anew are groups of values that
hang together, such as the cases of one subject; for several columns of values the same groups are
drawn.
"""

from collections.abc import Sequence
from math import nan
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 9999
_BATCH = 4_000_000  # numbers drawn at once; bounds the memory, 64 MB
_DIGITS = 9  # Dice is kept with 6; equal values must not be told apart by rounding errors
_NORMAL = NormalDist()
_ENDS = (0.025, 0.975)

Values = NDArray[np.float64]


def mean_interval(
    values: Sequence[float] | Values, groups: Sequence[str] | None = None, seed: int = 0
) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the mean; NaN with fewer than two groups.

    `groups` says which group each value is of; None makes each its own.
    """
    ((low, high),) = mean_intervals(np.reshape(values, (-1, 1)), groups, seed)
    return low, high


def mean_intervals(
    table: Values, groups: Sequence[str] | None = None, seed: int = 0
) -> list[tuple[float, float]]:
    """Return the interval of the mean of each column over the rows that define it.

    Parameters
    ----------
    table : (cases, columns) array of float64
        NaN where a value is undefined.
    groups : sequence of str or None
        The group of each row.
    seed : int
        Of the draws.
    """
    names, place = np.unique(
        np.arange(len(table)) if groups is None else groups, return_inverse=True
    )
    sums, counts = (np.zeros((names.size, table.shape[1])) for _ in range(2))
    np.add.at(sums, place, np.nan_to_num(table))
    np.add.at(counts, place, ~np.isnan(table))
    if not table.size:
        return [(nan, nan)] * table.shape[1]
    drawn = _drawn_means(sums, counts, np.random.default_rng(seed))
    return [_interval(*column) for column in zip(sums.T, counts.T, drawn.T, strict=True)]


def _drawn_means(sums: Values, counts: Values, rng: np.random.Generator) -> Values:
    """Return the mean of each column in each resample of the groups; (resamples, columns)."""
    size = len(sums)
    rows = max(1, _BATCH // size)
    found = []
    for start in range(0, RESAMPLES, rows):
        wanted = min(rows, RESAMPLES - start)
        times = rng.multinomial(size, [1 / size] * size, wanted).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a resample may have none of the rows that define it
            found.append((times @ sums) / (times @ counts))
    return np.concatenate(found).round(_DIGITS)


def _interval(sums: Values, counts: Values, drawn: Values) -> tuple[float, float]:
    """Return the ends for one column, by the sums and counts of its groups."""
    known = counts > 0
    sums, counts = sums[known], counts[known]
    if counts.size < 2:
        return nan, nan
    if np.ptp((sums / counts).round(_DIGITS)) == 0:  # any resample has this mean
        mean = float((sums / counts).round(_DIGITS)[0])
        return mean, mean
    mean = round(float(sums.sum() / counts.sum()), _DIGITS)
    drawn = drawn[~np.isnan(drawn)]
    below = (np.count_nonzero(drawn < mean) + np.count_nonzero(drawn <= mean)) / (2 * drawn.size)
    bias = _NORMAL.inv_cdf(min(max(below, 0.5 / drawn.size), 1 - 0.5 / drawn.size))
    without = (sums.sum() - sums) / (counts.sum() - counts)  # the mean without each group
    away = without.mean() - without
    spread = float((away**2).sum())
    skew = float((away**3).sum()) / (6 * spread**1.5) if spread else 0.0
    shares = []
    for end in _ENDS:
        moved = bias + _NORMAL.inv_cdf(end)
        shares.append(_NORMAL.cdf(bias + moved / (1 - skew * moved)))
    low, high = np.quantile(drawn, shares)
    # An end that is 0 except for rounding errors must count as 0.
    return round(float(low), _DIGITS), round(float(high), _DIGITS)
