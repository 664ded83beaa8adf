"""From one grid to another whose axes are parallel to it.

Parallel axes make resampling separable: one short list of source voxels and weights per axis and
output voxel. Sums run over these taps elementwise, in a fixed order, and places are counted from
the start of the whole target, so a voxel's value does not depend, to the last bit, on which other
voxels are computed with it.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.volumes.axes import AxisMap, axis_maps
from vol3dseg.volumes.box import Box, Shape
from vol3dseg.volumes.geometry import Geometry

_PORTION = 2**23  # source voxels at once


def resample(
    array: NDArray[Any],
    source: Geometry,
    target: Geometry,
    fill: float = 0.0,
    box: Box | None = None,
) -> NDArray[Any]:
    """Bring an image, or probabilities, from one grid to another: linear, anti-aliased.

    Where the target is coarser, the triangle of linear interpolation is widened by the ratio of
    spacings, which keeps it from skipping voxels. Between the centre and the edge of an outermost
    voxel (of the coarser of both grids) its value is repeated; farther out is `fill`.

    Parameters
    ----------
    array : (i, j, k, ...) array
        On `source`. Where the grids only differ by order and direction of axes, cropping and
        padding, the result is exact and keeps the type; otherwise it is float32.
    source, target : Geometry
    fill : float
        Value of target voxels outside the source.
    box : Box or None
        Compute this part of the target only; its voxels equal those of the whole bit for bit.

    Returns
    -------
    (*target.shape, ...) array, or (*box.shape, ...)

    Raises
    ------
    GridError
        The axes are not parallel.
    """
    maps = axis_maps(source, target, box)
    rows = next(t for t, m in enumerate(maps) if m.axis == 0)
    step = _rows_at_once(maps, rows)
    if maps[rows].is_indexing or step >= maps[rows].count:
        return _brought(array, maps, fill)
    # Terms of all taps at once would take several times the memory of the result.
    result = np.empty((*(m.count for m in maps), *array.shape[3:]), dtype=np.float32)
    for start in range(0, maps[rows].count, step):
        count = min(step, maps[rows].count - start)
        part = replace(maps[rows], first=maps[rows].first + start, count=count)
        a, b, c = (part if t == rows else m for t, m in enumerate(maps))
        place: list[Any] = [slice(None)] * 3
        place[rows] = slice(start, start + count)
        low, high = part.reach()
        result[tuple(place)] = _brought(array[low:high], (a, b, c), fill, low)
    return result


def turned(array: NDArray[Any], source: Geometry, target: Geometry) -> NDArray[Any]:
    """Return a view of an image on a grid that differs by order and direction of axes only.

    Parameters
    ----------
    array : (i, j, k) array
        On `source`.
    source, target : Geometry

    Returns
    -------
    (*target.shape,) array
    """
    maps = axis_maps(source, target)
    result = np.moveaxis(array, [m.axis for m in maps], [0, 1, 2])
    for axis, axis_map in enumerate(maps):
        result = _indexed(result, axis, axis_map, 0)
    return result


def resample_part(
    part: NDArray[Any], start: int, maps: tuple[AxisMap, AxisMap, AxisMap], fill: float = 0.0
) -> NDArray[Any]:
    """Bring some rows of an image to those voxels of another grid that need no other rows.

    Parameters
    ----------
    part : (rows, j, k) array
        The rows of the source from `start` on.
    start : int
    maps : (3,) tuple of AxisMap
        From the axes of the whole source to those of a box in the target. The one of the source's
        first axis has no voxel outside, and none that any other row has weight in.
    fill : float
        Value of target voxels outside the source.

    Returns
    -------
    (*box.shape,) array
        Equal to `resample` of the whole, bit for bit.
    """
    return _brought(part, maps, fill, start)


def resample_labels(
    array: NDArray[np.uint8], source: Geometry, target: Geometry, box: Box | None = None
) -> NDArray[np.uint8]:
    """Bring a label map to another grid so that, if that is finer, nothing is lost.

    As `interpolate_labels`, but where the target is nowhere coarser than the source, the target
    voxel that holds the centre of a source voxel keeps its label. So `nearest_labels` brings the
    map home unchanged; interpolation alone would lose an isolated voxel, which has a weight of 1/8
    where it lies between eight finer ones.

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
    shape = tuple(m.count for m in maps)
    best = np.zeros(shape, dtype=np.float32)
    result = np.zeros(shape, dtype=np.uint8)
    for value in np.unique(array).tolist():
        mask = (array == value).astype(np.float32)
        share = resample(mask, source, target, fill=float(value == 0), box=box)
        wins = share > best
        result[wins], best[wins] = value, share[wins]
    return result


def nearest_labels(
    array: NDArray[np.uint8], source: Geometry, target: Geometry
) -> NDArray[np.uint8]:
    """Give each target voxel the label of the source voxel that its centre lies in; 0 outside."""
    maps = axis_maps(source, target)
    result = np.zeros(target.shape, dtype=array.dtype)
    inside = [np.flatnonzero((m.nearest >= 0) & (m.nearest < m.size)) for m in maps]
    places = [m.nearest[keep] for m, keep in zip(maps, inside, strict=True)]
    turned = np.moveaxis(array, [m.axis for m in maps], [0, 1, 2])
    result[np.ix_(*inside)] = turned[np.ix_(*places)]
    return result


def _pin(
    result: NDArray[np.uint8], array: NDArray[np.uint8], back: tuple[AxisMap, ...], start: Shape
) -> None:
    """Put each voxel of `array` into the voxel of `result` where `nearest_labels` will look for it.

    `back` leads from the axes of `array` to those of the whole target, `result` begins at `start`.
    """
    order = [m.axis for m in back]  # the source axis s runs along the target axis order[s]
    places = [m.nearest - start[m.axis] for m in back]
    inside = [
        np.flatnonzero((p >= 0) & (p < result.shape[m.axis]))
        for p, m in zip(places, back, strict=True)
    ]
    axes = np.argsort(order)
    values = np.transpose(array[np.ix_(*inside)], axes)
    result[np.ix_(*(places[a][inside[a]] for a in axes))] = values


def _brought(
    array: NDArray[Any], maps: tuple[AxisMap, AxisMap, AxisMap], fill: float, start: int = 0
) -> NDArray[Any]:
    """Interpolate along all axes; `array` holds the source's rows from `start` on."""
    result = np.moveaxis(array, [m.axis for m in maps], [0, 1, 2])
    for axis, axis_map in enumerate(maps):
        result = _along(result, axis, axis_map, start if axis_map.axis == 0 else 0)
    return _filled(np.ascontiguousarray(result), maps, fill)


def _rows_at_once(maps: tuple[AxisMap, AxisMap, AxisMap], rows: int) -> int:
    """Return how many target rows are brought at once, so that their source rows are few."""
    plane = math.prod(m.size for t, m in enumerate(maps) if t != rows)
    return max(1, int(_PORTION / plane / max(1.0, abs(maps[rows].scale))))


def _filled(array: NDArray[Any], maps: tuple[AxisMap, ...], fill: float) -> NDArray[Any]:
    for axis, axis_map in enumerate(maps):
        if axis_map.outside.any():
            index: list[Any] = [slice(None)] * array.ndim
            index[axis] = axis_map.outside
            array[tuple(index)] = fill
    return array


def _along(array: NDArray[Any], axis: int, axis_map: AxisMap, start: int = 0) -> NDArray[Any]:
    """Interpolate along one axis; `array` holds the source from `start` on."""
    if axis_map.is_indexing:
        return _indexed(array, axis, axis_map, start)
    taps, weights = axis_map.taps()
    taps = np.clip(taps - start, 0, array.shape[axis] - 1)  # those without weight may lie outside
    shape = [1] * array.ndim
    shape[axis] = axis_map.count
    terms = (
        np.take(array, tap, axis=axis) * weight.reshape(shape)
        for tap, weight in zip(taps.T, weights.T, strict=True)
    )
    total: NDArray[Any] = next(terms)
    for term in terms:
        total += term
    return total


def _indexed(array: NDArray[Any], axis: int, axis_map: AxisMap, start: int) -> NDArray[Any]:
    if axis_map.outside.any():
        return np.take(array, np.clip(axis_map.nearest, 0, axis_map.size - 1), axis=axis)
    step = int(axis_map.scale)
    first = int(axis_map.offset) + step * axis_map.first - start
    last = first + step * axis_map.count
    index = [slice(None)] * array.ndim
    index[axis] = slice(first, last if last >= 0 else None, step)
    return array[tuple(index)]
