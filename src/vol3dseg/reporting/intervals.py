"""The 95 % interval of a mean, by bootstrap, bias-corrected and accelerated.

Efron 1987, "Better Bootstrap Confidence Intervals". What is drawn anew are groups of values that
hang together, such as the cases of one subject. Needs the extra [report].
"""

from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.extras import load_extra

RESAMPLES = 9999
_BATCH = 4_000_000  # numbers drawn at once; bounds the memory, 32 MB
_DIGITS = 9  # Dice is kept with 6; equal values must not be told apart by rounding errors


def mean_interval(
    values: Sequence[float] | NDArray[np.float64],
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the mean; NaN with fewer than two groups.

    `groups` says which group each value is of; None makes each its own.
    """
    _, place = np.unique(np.arange(len(values)) if groups is None else groups, return_inverse=True)
    counts = np.bincount(place).astype(np.float64)
    sums = np.bincount(place, np.asarray(values, dtype=np.float64))
    if counts.size < 2:
        return nan, nan
    means = (sums / counts).round(_DIGITS)
    if np.ptp(means) == 0:  # any resample has this mean, and BCa would divide 0 by 0
        return float(means[0]), float(means[0])
    stats: Any = load_extra("scipy.stats", "report")
    found = stats.bootstrap(
        (sums, counts),
        _ratio,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH // counts.size),
        confidence_level=0.95,
        method="BCa",
        paired=True,
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    # An end that is 0 except for rounding errors must count as 0.
    return round(float(found.low), _DIGITS), round(float(found.high), _DIGITS)


def _ratio(sums: NDArray[np.float64], counts: NDArray[np.float64], axis: int) -> Any:
    return sums.sum(axis=axis) / counts.sum(axis=axis)
