"""From one grid to another whose axes are parallel to it.

Parallel axes make resampling separable: one short list of source voxels and weights per axis and
output voxel. Sums run over these taps elementwise, along the target's axes in a fixed order, and
positions are counted from the start of the whole target, so a voxel's value does not depend, to the
last bit, on which other voxels are computed with it, nor on how files hold them. The last axis is
the first, since in most files its planes lie apart: whole planes are added up, and fewer are left.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.machine import thread_pool
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
    """Bring an (i, j, k, ...) image, or probabilities, to another grid: linear, anti-aliased.

    Where the target is coarser, the triangle of linear interpolation is widened by the ratio of
    spacings, which keeps it from skipping voxels. Between the centre and the edge of an outermost
    voxel (of the coarser of both grids) its value is repeated; farther out is `fill`. A `box` of
    the target equals that part of the whole bit for bit. Where grids only differ by order and
    direction of axes, cropping and padding, the result is exact and keeps the type; otherwise it is
    float32.
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

    `each` is applied to the voxels of the source first, portion by portion, so that no second array
    of the source's size is needed. The result goes into `out`, if that is given.
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
    planes = _PORTION * array.shape[slow] / array.size / max(1.0, abs(maps[along].scale))
    step = max(1, int(planes))

    def portion(start: int) -> None:
        count = min(step, maps[along].count - start)
        own = replace(maps[along], first=maps[along].first + start, count=count)
        low, high = own.support()
        part = array[(slice(None),) * slow + (slice(low, high),)]
        a, b, c = (own if t == along else m for t, m in enumerate(maps))
        found = _interpolated(part if each is None else each(part), (a, b, c), fill, slow, low)
        copy_voxels(result[(slice(None),) * along + (slice(start, start + count),)], found)

    with thread_pool() as pool:
        list(pool.map(portion, range(0, maps[along].count, step)))
    return result


def reoriented(array: NDArray[Any], source: Geometry, target: Geometry) -> NDArray[Any]:
    """Return a view of an image on a grid that differs by order and direction of axes only."""
    return _interpolated(array, axis_maps(source, target), 0)


def resample_part(
    part: NDArray[Any], start: int, maps: AxisMaps, fill: float = 0.0
) -> NDArray[Any]:
    """Bring some rows of an image to those voxels of another grid that need no other rows.

    `part` holds the rows of the source from `start` on, the maps lead from the whole source to a
    box in the target. The one of the source's first axis has no voxel outside, and none that any
    other row has weight in. The result equals `resample` of the whole, bit for bit.
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
    for target, axis_map in enumerate(maps):
        if axis_map.outside.any():  # then `result` is a copy
            np.moveaxis(result, target, 0)[axis_map.outside] = fill
    return result


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
            taken = map(partial(np.take, contiguous(plane), axis=at - 1), taps.T)
            _add_up(total, term, zip(taken, columns, strict=True))
    return result.transpose(np.argsort(order))


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
    return array[(slice(None),) * axis + (slice(first, last if last >= 0 else None, step),)]
