"""Label maps from one grid to another whose axes are parallel to it."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.axes import AxisMap, axis_maps
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.resampling import resample


def resample_labels(
    array: NDArray[np.uint8], source: Geometry, target: Geometry, box: Box | None = None
) -> NDArray[np.uint8]:
    """Bring an (i, j, k) label map, or a `box` of it, to a grid that, if finer, loses nothing.

    As `interpolate_labels`, but where the target is nowhere coarser than the source, the target
    voxel that holds the centre of a source voxel keeps its label. So `nearest_labels` restores the
    map unchanged; interpolation alone would lose an isolated voxel, which has a weight of 1/8 where
    it lies between eight finer ones.
    """
    result = interpolate_labels(array, source, target, box)
    back = axis_maps(target, source)
    if all(abs(m.scale) >= 1 for m in back):
        # Each voxel goes to where `nearest_labels` will look for it.
        inside, nearest = _inside(back, result.shape, (box or Box.whole(target.shape)).start)
        np.moveaxis(result, [m.axis for m in back], [0, 1, 2])[nearest] = array[inside]
    return result


def interpolate_labels(
    array: NDArray[np.uint8], source: Geometry, target: Geometry, box: Box | None = None
) -> NDArray[np.uint8]:
    """Interpolate each class of a label map by itself and keep the largest; 0 outside."""
    maps = axis_maps(source, target, box)
    if all(m.is_indexing for m in maps):
        return np.asarray(resample(array, source, target, box=box))

    def share(value: int) -> NDArray[np.float32]:
        return resample(array, source, target, float(value == 0), box, lambda a: mask_of(a, value))

    return largest_share(array, tuple(m.count for m in maps), share)


def largest_share(
    array: NDArray[np.uint8], shape: tuple[int, ...], share: Callable[[int], NDArray[np.float32]]
) -> NDArray[np.uint8]:
    """Return the class with the largest share of each voxel, of equals the smaller one.

    `share` returns the share of one class of `array` in all voxels of `shape`.
    """
    best, result = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for value in np.unique(array).tolist():
        found = share(value)
        wins = found > best
        result[wins], best[wins] = value, found[wins]
    return result


def mask_of(array: NDArray[np.uint8], value: int) -> NDArray[np.float32]:
    """Return 1 where a label map holds `value`, else 0."""
    return np.equal(array, value).astype(np.float32)


def nearest_labels(
    array: NDArray[np.uint8], source: Geometry, target: Geometry
) -> NDArray[np.uint8]:
    """Give each target voxel the label of the source voxel that its centre lies in; 0 outside."""
    maps = axis_maps(source, target)
    result = np.zeros(target.shape, dtype=array.dtype)
    inside, nearest = _inside(maps, array.shape)
    result[inside] = np.moveaxis(array, [m.axis for m in maps], [0, 1, 2])[nearest]
    return result


def _inside(
    maps: Sequence[AxisMap], shape: tuple[int, ...], start: Shape = (0, 0, 0)
) -> tuple[tuple[NDArray[np.intp], ...], tuple[NDArray[np.intp], ...]]:
    """Return the voxels whose centres lie in the box of `shape` at `start`, and where in it.

    Both as indices along the axes that the maps are for.
    """
    nearest = [m.nearest - start[m.axis] for m in maps]
    inside = [
        np.flatnonzero((n >= 0) & (n < shape[m.axis])) for n, m in zip(nearest, maps, strict=True)
    ]
    return np.ix_(*inside), np.ix_(*(n[keep] for n, keep in zip(nearest, inside, strict=True)))
