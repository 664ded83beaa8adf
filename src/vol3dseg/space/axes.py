"""How the axes of one grid lie along those of another that is parallel to it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import GridError
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.kernels import LINEAR, Kernel

_SNAP = 1e-3  # voxels: float32 rounds places a metre away to 1e-4 mm, and voxels are small
_LATTICE = 2.0**20  # positions per voxel: keeps the rounding of affines out of weights and boxes


@dataclass(frozen=True, slots=True)
class AxisMap:
    """Where the voxels of a target axis lie on a source axis: `index = offset + scale * target`.

    `size` is the number of source voxels; the target voxels are `first` to `first + count`.
    `kernel` says what is between the source voxels.
    """

    axis: int
    offset: float
    scale: float
    size: int
    first: int
    count: int
    kernel: Kernel = LINEAR

    @property
    def is_indexing(self) -> bool:
        """Whether every target voxel is exactly one source voxel, or outside."""
        return abs(self.scale) == 1.0 and self.offset.is_integer()

    @property
    def coordinates(self) -> NDArray[np.float64]:
        """The (count,) source indices of all target voxels, rounded to a millionth of a voxel."""
        exact = self.offset + self.scale * np.arange(self.first, self.first + self.count)
        return np.asarray(np.rint(exact * _LATTICE) / _LATTICE)

    @property
    def nearest(self) -> NDArray[np.intp]:
        """The source voxel that each of the (count,) target centres lies in; perhaps outside."""
        return np.floor(self.coordinates + 0.5).astype(np.intp)

    @property
    def outside(self) -> NDArray[np.bool_]:
        """Which of the (count,) target voxels lie beyond the source.

        Farther than half a voxel, of the coarser of both grids, from its outermost centres.
        """
        half = max(1.0, abs(self.scale)) / 2 + _SNAP
        return (self.coordinates < -half) | (self.coordinates > self.size - 1 + half)

    def taps(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return (count, taps) source voxels and their weights.

        The kernel is stretched by max(1, scale), so that no voxel is skipped on the way to a
        coarser grid; weights sum to one. A voxel may be named twice, if the edge is repeated.
        """
        width = max(1.0, abs(self.scale))
        centre = np.clip(self.coordinates, 0, self.size - 1)
        most = int(np.ceil(self.kernel.radius * width))
        taps = np.floor(centre)[:, None] + np.arange(-most + 1, most + 1)
        weights = self.kernel.weights((taps - centre[:, None]) / width)
        if not self.kernel.repeats_edge:
            weights[(taps < 0) | (taps > self.size - 1)] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        taps = np.clip(taps, 0, self.size - 1).astype(np.intp)
        return taps, weights.astype(np.float32)

    def support(self) -> tuple[int, int]:
        """Return the range of source voxels with weight in any target voxel, outside ones too."""
        taps, weights = self.taps()
        used = taps[weights != 0]
        return int(used.min()), int(used.max()) + 1

    def influenced(self, first: int, stop: int) -> tuple[int, int]:
        """Return the range of target voxels that source voxels `first` to `stop` have weight in."""
        taps, weights = self.taps()
        hit = ((taps >= first) & (taps < stop) & (weights != 0)).any(axis=1) & ~self.outside
        where = np.flatnonzero(hit) + self.first
        return int(where[0]), int(where[-1]) + 1


AxisMaps = tuple[AxisMap, AxisMap, AxisMap]


def axis_maps(
    source: Geometry, target: Geometry, box: Box | None = None, kernel: Kernel = LINEAR
) -> AxisMaps:
    """Match each axis of `target`, or of a `box` in it, with one of `source`.

    GridError: the axes are not parallel; over the whole target they drift by more than 0.05 voxel.
    """
    matrix = np.linalg.inv(source.affine) @ target.affine
    linear = matrix[:3, :3]
    axes = np.abs(linear).argmax(axis=0)
    straight = np.zeros((3, 3))
    straight[axes, range(3)] = linear[axes, range(3)]
    drift = np.abs(linear - straight) @ np.array(target.shape)
    if sorted(axes.tolist()) != [0, 1, 2] or drift.max() > 0.05:
        found = f"the grids' axes are not parallel: {source} and {target}"
        wanted = "axes that are parallel within 0.05 voxel"
        raise GridError(found, expected=wanted, remedy="resample one onto the grid of the other")
    part = box or Box.whole(target.shape)
    i, j, k = (
        AxisMap(
            axis=int(axis),
            offset=_snapped(float(matrix[axis, 3]), 1),
            scale=_snapped(float(linear[axis, t]), target.shape[t]),
            size=source.shape[axis],
            first=part.start[t],
            count=part.shape[t],
            kernel=kernel,
        )
        for t, axis in enumerate(axes)
    )
    return i, j, k


def _snapped(value: float, reach: int) -> float:
    """Return the whole number that `value` is, up to rounding that grows over `reach` voxels."""
    return round(value) * 1.0 if abs(value - round(value)) * reach < _SNAP else value
