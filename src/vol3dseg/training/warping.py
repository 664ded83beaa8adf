"""Where the voxels of a training patch lie in their case: turned, resized and bent, in mm.

A patch is interpolated once, straight from the case, so nothing is missing in its corners but what
the scan itself does not have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray

from vol3dseg.config import AugmentConfig
from vol3dseg.extras import load_extra
from vol3dseg.space.axes import AxisMap
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.geometry import Spacing
from vol3dseg.space.kernels import Kernel
from vol3dseg.space.resampling import resample_along

ndimage = load_extra("scipy.ndimage", "train")
Floats = NDArray[np.float64]
Image = NDArray[np.float32]
Label = NDArray[np.uint8]
_CLOSEST = 1.5  # voxels between control points: fewer would be no spline
_BEYOND = -1  # in label maps, where the scan has ended


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


def warped(
    read: Callable[[Box], tuple[Image, Label]],
    shape: Shape,
    size: Shape,
    warp: Warp,
    offset: Floats,
) -> tuple[Image, Label]:
    """Return a patch (c, i, j, k) and its label (i, j, k): linear, and nearest for labels.

    `read` gives a box (i, j, k, c) of the case, whose `shape` it lies in. Half a voxel beyond the
    centres of its outermost voxels the scan ends, and the patch is 0.
    """
    places = None if warp.bend is None else _places(warp.matrix, warp.bend, offset)
    wanted = _reach(size, warp.matrix, offset) if places is None else _around(places)
    region = wanted.intersection(Box.whole(shape))
    if not all(region.shape):  # a small scan was turned out of the patch
        region = Box.whole((1, 1, 1))
    image, label = read(region)
    if places is None:
        start = np.array(region.start)
        take = partial(
            ndimage.affine_transform, matrix=warp.matrix, offset=offset - start, output_shape=size
        )
    else:
        places -= np.array(region.start, np.float32)[:, None, None, None]
        take = partial(ndimage.map_coordinates, coordinates=places)
    moved = np.empty((image.shape[-1], *size), np.float32)
    for channel, target in enumerate(moved):
        take(image[..., channel], output=target, order=1, mode="nearest")
    nearest = np.empty(size, np.int16)
    take(label, output=nearest, order=0, mode="grid-constant", cval=_BEYOND)
    if region != wanted:
        beyond = nearest == _BEYOND
        moved[:, beyond] = 0
        nearest[beyond] = 0
    return moved, nearest.astype(np.uint8)


def _places(matrix: Floats, bend: Image, offset: Floats) -> Image:
    """Return the (3, i, j, k) places in the case of all voxels of a bent patch."""
    grid = np.indices(bend.shape[1:], np.float32) + bend
    places = np.tensordot(matrix.astype(np.float32), grid, 1)
    places += offset.astype(np.float32)[:, None, None, None]
    return places


def _reach(size: Shape, matrix: Floats, offset: Floats) -> Box:
    """Return the box that all voxels of a patch are interpolated from."""
    corners = np.array(list(product(*((0, n - 1) for n in size))))
    return _around((corners @ matrix.T + offset).T)


def _around(places: NDArray[np.floating]) -> Box:
    points = places.reshape(3, -1)
    low, high = np.floor(points.min(axis=1)), np.floor(points.max(axis=1)) + 2
    return Box(_voxel(low), _voxel(high))


def _voxel(point: NDArray[np.floating]) -> Shape:
    i, j, k = (int(n) for n in point)
    return i, j, k
