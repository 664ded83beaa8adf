"""Label maps from one grid to another whose axes are parallel to it."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.axes import AxisMap, axis_maps
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.resampling import resample


def resample_labels(
    array: NDArray[np.uint8], source: Geometry, target: Geometry, box: Box | None = None
) -> NDArray[np.uint8]:
    """Bring a label map to another grid so that, if that is finer, nothing is lost.

    As `interpolate_labels`, but where the target is nowhere coarser than the source, the target
    voxel that holds the centre of a source voxel keeps its label. So `nearest_labels` restores the
    map unchanged; interpolation alone would lose an isolated voxel, which has a weight of 1/8 where
    it lies between eight finer ones.

    Parameters
    ----------
    array : (i, j, k) array of uint8
        Class indices on `source`; 0 is what lies outside.
    source, target : Geometry
    box : Box or None
        Compute this part of the target only.

    Returns
    -------
    (*target.shape,) array of uint8, or (*box.shape,)
    """
    result = interpolate_labels(array, source, target, box)
    back = axis_maps(target, source)
    if all(abs(m.scale) >= 1 for m in back):
        _pin(result, array, back, (box or Box.whole(target.shape)).start)
    return result


def interpolate_labels(
    array: NDArray[np.uint8], source: Geometry, target: Geometry, box: Box | None = None
) -> NDArray[np.uint8]:
    """Interpolate each class of a label map by itself and keep the largest; 0 outside.

    Parameters and result are those of `resample_labels`.
    """
    maps = axis_maps(source, target, box)
    if all(m.is_indexing for m in maps):
        return np.asarray(resample(array, source, target, box=box))

    def share(value: int) -> NDArray[np.float32]:
        return resample(array, source, target, float(value == 0), box, partial(_mask, value))

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


def _mask(value: int, array: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.equal(array, value).astype(np.float32)


def nearest_labels(
    array: NDArray[np.uint8], source: Geometry, target: Geometry
) -> NDArray[np.uint8]:
    """Give each target voxel the label of the source voxel that its centre lies in; 0 outside."""
    maps = axis_maps(source, target)
    result = np.zeros(target.shape, dtype=array.dtype)
    inside = [np.flatnonzero((m.nearest >= 0) & (m.nearest < m.size)) for m in maps]
    nearest = [m.nearest[keep] for m, keep in zip(maps, inside, strict=True)]
    ordered = np.moveaxis(array, [m.axis for m in maps], [0, 1, 2])
    result[np.ix_(*inside)] = ordered[np.ix_(*nearest)]
    return result


def _pin(
    result: NDArray[np.uint8], array: NDArray[np.uint8], back: tuple[AxisMap, ...], start: Shape
) -> None:
    """Put each voxel of `array` into the voxel of `result` where `nearest_labels` will look for it.

    `back` leads from the axes of `array` to those of the whole target, `result` begins at `start`.
    """
    nearest = [m.nearest - start[m.axis] for m in back]
    inside = [
        np.flatnonzero((n >= 0) & (n < result.shape[m.axis]))
        for n, m in zip(nearest, back, strict=True)
    ]
    axes = np.argsort([m.axis for m in back])  # the source axis s runs along back[s].axis
    values = np.transpose(array[np.ix_(*inside)], axes)
    result[np.ix_(*(nearest[a][inside[a]] for a in axes))] = values
