"""Axes as MONAI samples them: voxel centres of the first voxels coincide, nothing is widened."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.axes import AxisMap

_LATTICE = 2.0**30  # positions per voxel
_BEYOND = 1e-6  # of a voxel, by which rounding may put a place beyond the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAxis(AxisMap):
    """An axis map of a source that is a part of a wider grid, with zeros where it is not known.

    Places beyond the wider grid, whose voxels are `low` to `high` as the source counts, are moved
    to its outermost ones. Weights of voxels that the source lacks are lost, since zeros are there.
    """

    low: int
    high: int

    @property
    def coordinates(self) -> NDArray[np.float64]:
        """The (count,) source indices of all target voxels, rounded to a billionth of a voxel.

        By a millionth, as headers round, a voxel may have some weight beside what was cropped.
        """
        exact = self.offset + self.scale * np.arange(self.first, self.first + self.count)
        return np.asarray(np.rint(exact * _LATTICE) / _LATTICE)

    @property
    def is_indexing(self) -> bool:
        """Whether every target voxel is exactly one source voxel, or outside."""
        at = self.coordinates
        moved = (at < self.low - _BEYOND) | (at > self.high + _BEYOND)
        return abs(self.scale) == 1.0 and float(self.offset).is_integer() and not moved.any()

    @property
    def outside(self) -> NDArray[np.bool_]:
        """Which of the (count,) target voxels get nothing from the source."""
        return np.asarray(self.taps()[1].max(axis=1) == 0)

    def taps(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return (count, taps) source voxels and their weights, which need not add up to one."""
        place = np.clip(self.coordinates, self.low, self.high)
        low = np.floor(place).astype(np.intp)
        share = place - low
        taps = np.stack([low, np.minimum(low + 1, self.high)], axis=1)
        weights = np.stack([1 - share, share], axis=1)
        weights[(taps < 0) | (taps >= self.size)] = 0
        return np.clip(taps, 0, self.size - 1), weights.astype(np.float32)
