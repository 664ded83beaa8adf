"""Where the voxels of a training patch lie in their case: turned, resized and bent, in mm.

A patch is interpolated once, straight from the case, so nothing is missing in its corners but what
the scan itself does not have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray

from vol3dseg.config import AugmentConfig
from vol3dseg.space.axes import AxisMap
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.geometry import Spacing
from vol3dseg.space.kernels import Kernel
from vol3dseg.space.resampling import resample_along

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
_ROUNDING = 0.01  # voxels: places are worked out in float32
_CLOSEST = 1.5  # voxels between control points: fewer would be no spline


@dataclass(frozen=True, slots=True)
class Warp:
    """How a patch lies in its case: voxel o of the patch at matrix @ (o + bend) and an offset.

    `bend` is a (3, i, j, k) array [voxels], or None.
    """

    matrix: Floats
    bend: Image | None

    def offset(self, box: Box, held: Sequence[int] | None) -> Floats:
        """Return the offset that puts the patch's centre upon that of `box`, or close to it.

        The voxel `held` of the case would then lie in some place; the closest voxel of the patch is
        put exactly upon it, so that it is there whatever the warp does.
        """
        size = np.array(box.shape)
        middle = (size - 1) / 2
        offset = np.array(box.start) + middle - self.matrix @ middle
        if held is None:
            return np.asarray(offset)
        place = np.linalg.solve(self.matrix, np.array(held) - offset)
        i, j, k = np.clip(np.rint(place), 0, size - 1).astype(int)
        bent = 0.0 if self.bend is None else self.bend[:, i, j, k]
        return np.asarray(np.array(held) - self.matrix @ (np.array([i, j, k]) + bent))

    def reach(self, size: Shape, offset: Floats) -> Box:
        """Return a box of the case that all voxels of a patch are interpolated from."""
        beyond = np.zeros(3) if self.bend is None else np.abs(self.bend).max(axis=(1, 2, 3))
        corners = list(product(*((-b, n - 1 + b) for n, b in zip(size, beyond, strict=True))))
        places = np.array(corners) @ self.matrix.T + offset
        low, high = places.min(axis=0) - _ROUNDING, places.max(axis=0) + _ROUNDING
        return Box(_voxel(np.floor(low)), _voxel(np.floor(high) + 2))


def _voxel(place: Floats) -> Shape:
    i, j, k = (int(n) for n in place)
    return i, j, k


def draw_warp(
    size: Shape, spacing: Spacing, config: AugmentConfig, rng: np.random.Generator
) -> Warp | None:
    """Return a warp by chance; None where patches stay as they are."""
    turned, scaled = rng.random() < config.rotation, rng.random() < config.scaling
    bent = rng.random() < config.elastic
    if not (turned or scaled or bent):
        return None
    spacing_mm, thick = np.array(spacing), thick_axis(spacing, config.in_plane_above)
    angles = rng.uniform(-1, 1, size=3) * np.deg2rad(config.rotate_degrees) * turned
    factors = np.full(3, factor(config.scale, rng) if scaled else 1.0)
    if thick is not None:
        angles[np.arange(3) != thick] = 0
        factors[thick] = 1
    # The matrix leads from the patch into the case: to enlarge is to step less.
    rotation = np.asarray(euler2mat(*angles[::-1]))
    matrix = rotation * spacing_mm / spacing_mm[:, None] / factors
    return Warp(matrix, _bend(size, spacing, thick, config, rng) if bent else None)


def thick_axis(spacing: Spacing, above: float) -> int | None:
    """Return the axis along which voxels are more than `above` times as long as along the others.

    None where there is no such axis.
    """
    *_, second, longest = sorted(spacing)
    return spacing.index(longest) if longest > above * second else None


def factor(span: tuple[float, float], rng: np.random.Generator) -> float:
    """Return a factor from a range; where that spans 1, as often below as above it."""
    low, high = span
    if low < 1 < high:
        low, high = (low, 1.0) if rng.random() < 0.5 else (1.0, high)
    return float(rng.uniform(low, high))


def _bend(
    size: Shape,
    spacing: Spacing,
    thick: int | None,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Image:
    """Return displacements by cubic B-splines over control points that move by chance."""
    i, j, k = (
        _between_points(axis, count, max(_CLOSEST, config.elastic_spacing_mm / mm))
        for axis, (count, mm) in enumerate(zip(size, spacing, strict=True))
    )
    most = rng.uniform(0, config.elastic_mm)
    moved = rng.uniform(-most, most, size=(i.size, j.size, k.size, 3)) / spacing
    if thick is not None:
        moved[..., thick] = 0
    return np.moveaxis(resample_along(moved.astype(np.float32), (i, j, k)), -1, 0)


def _between_points(axis: int, count: int, distance: float) -> AxisMap:
    """Return how an axis lies over control points so far apart [voxels], one before its start."""
    points = int((count - 1) / distance) + 4
    return AxisMap(axis, 1.0, 1 / distance, points, 0, count, _B_SPLINE)


def _b_spline(distance: Floats) -> Floats:
    x = np.abs(distance)
    near = 2 / 3 - x * x * (1 - x / 2)
    return np.where(x < 1, near, np.maximum(2 - x, 0) ** 3 / 6)


_B_SPLINE = Kernel(2, _b_spline, repeats_edge=True)
