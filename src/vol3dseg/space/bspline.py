"""Interpolation by cubic B-splines, as a kernel.

A B-spline passes through the samples once these are turned into coefficients, by a recursive filter
over whole lines. Its impulse response falls by the factor 0.27 from sample to sample, so filter
and spline together are one kernel, the cardinal spline, that is less than 1e-8 from `REACH` samples
on: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing
Magazine 16(6), 1999. A kernel needs no lines, only the samples around: images are interpolated
portion by portion.
"""

import numpy as np
from numpy.typing import NDArray

REACH = 14  # samples each way
_POLE = np.sqrt(3.0) - 2.0


def cardinal_weights(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a sample weighs at a distance of so many samples, (n, 2 REACH), each row 1."""
    weights = np.zeros_like(distance)
    for shift in range(-REACH - 2, REACH + 3):
        weights += np.sqrt(3.0) * _POLE ** abs(shift) * _cubic(distance - shift)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cubic B-spline: piecewise polynomials that end two samples away."""
    x = np.abs(distance)
    return np.where(x < 1, (x / 2 - 1) * x * x + 2 / 3, np.maximum(2 - x, 0) ** 3 / 6)
