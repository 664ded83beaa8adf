"""From one grid to another whose axes are parallel to it.

Parallel axes make resampling separable: one short list of source voxels and weights per axis and
output voxel. Sums run over these taps elementwise, along the target's axes in a fixed order, and
positions are counted from the start of the whole target, so a voxel's value does not depend, to the
last bit, on which other voxels are computed with it, nor on how files hold them. The last axis is
the first, since in most files its planes lie apart: whole planes are added up, and fewer are left.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.machine import usable_cores
from vol3dseg.space.axes import AxisMap, AxisMaps, axis_maps
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.memory_layout import contiguous, copy_voxels

_PORTION = 2**22  # source voxels that a thread resamples at once
Function = Callable[[NDArray[Any]], NDArray[Any]]


def resample(
    array: NDArray[Any],
    source: Geometry,
    target: Geometry,
    fill: float = 0.0,
    box: Box | None = None,
    each: Function | None = None,
    out: NDArray[np.float32] | None = None,
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
    box : Box or None
        Compute this part of the target only; its voxels equal those of the whole bit for bit.
    fill, each, out
        As those of `resample_along`.

    Returns
    -------
    (*target.shape, ...) array, or (*box.shape, ...)

    Raises
    ------
    GridError
        The axes are not parallel.
    """
    return resample_along(array, axis_maps(source, target, box), fill, each, out)


def resample_along(
    array: NDArray[Any],
    maps: AxisMaps,
    fill: float = 0.0,
    each: Function | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[Any]:
    """Bring an image to another grid as `resample` does, by the kernel of its axis maps.

    Parameters
    ----------
    array : (i, j, k, ...) array
        On the source of the maps.
    maps : (3,) tuple of AxisMap
        All of one kernel, widened where the target is coarser.
    fill : float
        Value of target voxels outside the source.
    each : callable or None
        Applied to the voxels of the source first, each by itself, portion by portion, so that no
        second array of the source's size is needed.
    out : array of float32, or None
        Where the result goes.

    Returns
    -------
    (i, j, k, ...) array
        With as many voxels along each axis as its map has.
    """
    if all(m.is_indexing for m in maps):
        found = _interpolated(array if each is None else each(array), maps, fill)
        if out is None:
            return np.ascontiguousarray(found)
        out[...] = found
        return out
    slow = max(range(3), key=lambda axis: abs(array.strides[axis]))
    along = next(t for t, m in enumerate(maps) if m.axis == slow)  # the target's axis of portions
    shape = (*(m.count for m in maps), *array.shape[3:])
    result = np.empty(shape, np.float32) if out is None else out
    step = _planes_at_once(array, maps[along])

    def portion(start: int) -> None:
        count = min(step, maps[along].count - start)
        own = replace(maps[along], first=maps[along].first + start, count=count)
        low, high = own.support()
        part = array[(slice(None),) * slow + (slice(low, high),)]
        a, b, c = (own if t == along else m for t, m in enumerate(maps))
        found = _interpolated(part if each is None else each(part), (a, b, c), fill, slow, low)
        copy_voxels(result[(slice(None),) * along + (slice(start, start + count),)], found)

    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(portion, range(0, maps[along].count, step)))
    return result


def reoriented(array: NDArray[Any], source: Geometry, target: Geometry) -> NDArray[Any]:
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
    part: NDArray[Any], start: int, maps: AxisMaps, fill: float = 0.0
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
    return contiguous(_interpolated(part, maps, fill, start=start))


def _interpolated(
    array: NDArray[Any], maps: AxisMaps, fill: float, axis: int = 0, start: int = 0
) -> NDArray[Any]:
    """Interpolate along all axes; along `axis`, `array` holds the source from `start` on."""
    result = np.moveaxis(array, [m.axis for m in maps], [0, 1, 2])
    for target in (2, 1, 0):
        first = start if maps[target].axis == axis else 0
        result = _along(result, target, maps[target], first)
    return _filled(result, maps, fill)


def _planes_at_once(array: NDArray[Any], slow: AxisMap) -> int:
    """Return how many target planes are made at once, so that those of the source are few."""
    plane = array.size / array.shape[slow.axis]
    return max(1, int(_PORTION / plane / max(1.0, abs(slow.scale))))


def _filled(array: NDArray[Any], maps: tuple[AxisMap, ...], fill: float) -> NDArray[Any]:
    for axis, axis_map in enumerate(maps):
        if axis_map.outside.any():  # then `array` is a copy
            index: list[Any] = [slice(None)] * array.ndim
            index[axis] = axis_map.outside
            array[tuple(index)] = fill
    return array


def _along(array: NDArray[Any], axis: int, axis_map: AxisMap, start: int) -> NDArray[Any]:
    """Interpolate along one axis; `array` holds the source from `start` on.

    Plane by plane of the axis that is the slowest in memory, so that sums stay in the cache.
    """
    if axis_map.is_indexing:
        return _indexed(array, axis, axis_map, start)
    taps, weights = axis_map.taps()
    taps = np.clip(taps - start, 0, array.shape[axis] - 1)  # those without weight may lie outside
    order = sorted(range(array.ndim), key=lambda a: -abs(array.strides[a]))
    planes, at = array.transpose(order), order.index(axis)
    shape = [axis_map.count if a == axis else array.shape[a] for a in order]
    result = np.empty(shape, dtype=np.float32)
    term = np.empty(shape[1:], dtype=np.float32)
    if at == 0:
        for total, chosen, factors in zip(result, taps, weights, strict=True):
            _add_up(total, term, ((planes[tap], f) for tap, f in zip(chosen, factors, strict=True)))
    else:
        aligned = [1] * len(shape[1:])
        aligned[at - 1] = axis_map.count
        columns = [w.reshape(aligned) for w in weights.T]
        for total, plane in zip(result, planes, strict=True):
            _add_up(total, term, zip(_taken(plane, taps, at - 1), columns, strict=True))
    return result.transpose(np.argsort(order))


def _taken(plane: NDArray[Any], taps: NDArray[np.intp], axis: int) -> Iterator[NDArray[Any]]:
    plane = contiguous(plane)
    for tap in taps.T:
        yield np.take(plane, tap, axis=axis)


def _add_up(
    total: NDArray[np.float32],
    term: NDArray[np.float32],
    products: Iterable[tuple[NDArray[Any], Any]],
) -> None:
    """Write the sum of products into `total`; `term` is scratch."""
    for number, (values, factor) in enumerate(products):
        np.multiply(values, factor, out=term if number else total)
        if number:
            total += term


def _indexed(array: NDArray[Any], axis: int, axis_map: AxisMap, start: int) -> NDArray[Any]:
    if axis_map.outside.any():
        nearest = np.clip(axis_map.nearest - start, 0, array.shape[axis] - 1)
        return np.take(array, nearest, axis=axis)
    step = int(axis_map.scale)
    first = int(axis_map.offset) + step * axis_map.first - start
    last = first + step * axis_map.count
    index = [slice(None)] * array.ndim
    index[axis] = slice(first, last if last >= 0 else None, step)
    return array[tuple(index)]
