"""Interpolation with many taps along each axis, as of splines: products with small matrices.

A block of target voxels along an axis is a matrix of weights times the source voxels around it.
Factors are kept so small that BLAS stays in the thread that calls it, since this process may not be
given all cores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import prod

import numpy as np
from numpy.typing import NDArray

from vol3dseg.machine import thread_pool
from vol3dseg.space.axes import AxisMap, AxisMaps
from vol3dseg.space.memory_layout import contiguous, copy_voxels

Image = NDArray[np.float32]
Part = tuple[slice, slice, slice]
_BLOCK = 16  # target voxels along an axis
_PLANES = 4  # those along an axis that is interpolated alone
_SMALL = 2**18  # multiplications: OpenBLAS takes more threads for more
_CHUNK = 2**18  # source voxels that are read at once


@dataclass(frozen=True, slots=True)
class Block:
    """Some target voxels along an axis, the source voxels that they come from, and the weights."""

    target: slice
    source: slice
    weights: NDArray[np.float32]  # (target, source)


def resample_by_products(
    read: Callable[[Part], Image],
    maps: AxisMaps,
    out: Image,
    order: Sequence[int],
    limits: tuple[float, float],
    alone: int | None = None,
) -> None:
    """Bring an image to another grid with the same axes, portion by portion.

    `read` gives a part of the (i, j, k) source, whose axes in memory have this `order`, the slowest
    first. The result is kept within `limits`; but where one axis is interpolated `alone`, each
    plane across it is interpolated first and kept within its own range, and what is between planes
    has no limits.
    """
    if alone is not None:
        order = [alone, *(axis for axis in order if axis != alone)]
    place = np.argsort(order).tolist()
    along = list(blocks_of(maps[order[0]], _BLOCK if alone is None else _PLANES))
    across = [list(blocks_of(maps[axis])) for axis in order[1:]]
    _, wide, deep = (maps[axis].size for axis in order)
    target = out.transpose(order)

    def part(rows: slice, columns: slice) -> Image:
        i, j, k = ((rows, columns, slice(None))[at] for at in place)
        return contiguous(read((i, j, k)).transpose(order))

    def portion(own: Block) -> None:
        inside = replace(own, target=slice(0, len(own.weights)), source=slice(None))
        if alone is None:
            step = max(1, _CHUNK // (own.weights.shape[1] * deep))
            found = np.empty((len(own.weights), wide, deep), dtype=np.float32)
            for first in range(0, wide, step):
                columns = slice(first, first + step)
                found[:, columns] = _product(part(own.source, columns), 0, [inside])
            np.clip(_products(found, across), *limits, out=target[own.target])
        else:
            planes = part(own.source, slice(None))
            ends = [end(planes, axis=(1, 2), keepdims=True) for end in (np.min, np.max)]
            planes = _products(planes, across)
            np.clip(planes, *ends, out=planes)
            copy_voxels(target[own.target], _product(planes, 0, [inside]))

    with thread_pool() as pool:
        list(pool.map(portion, along))


def portion_bytes(maps: AxisMaps, alone: int | None = None) -> int:
    """Return what a thread takes for `resample_by_products`, at most, beside what it reads."""
    most = 0
    for slow, wide, deep in permutations(range(3)):
        if alone in (None, slow):
            a, b = maps[wide], maps[deep]
            rows = _BLOCK
            if alone is not None:
                rows = max(block.weights.shape[1] for block in blocks_of(maps[slow], _PLANES))
            first, last = a.size * b.size + a.count * b.size, a.count * (b.size + b.count)
            most = max(most, rows * max(first, last))
    return 4 * (most + _CHUNK)


def interpolate_rows(rows: Image, start: int, axes: Sequence[Sequence[Block]]) -> Image:
    """Bring (channel, rows, ...) rows, from `start` on, to another grid with the same axes.

    `axes` are the blocks of each axis; those of rows need no others.
    """
    along, *across = axes
    places = (slice(b.source.start - start, b.source.stop - start) for b in along)
    own = [replace(block, source=at) for block, at in zip(along, places, strict=True)]
    for axis, blocks in enumerate((own, *across), start=1):
        rows = _product(rows, axis, blocks)
    return rows


def _products(array: Image, across: Sequence[Sequence[Block]]) -> Image:
    """Interpolate along the second axis, and then along the third."""
    for axis, blocks in enumerate(across, start=1):
        array = _product(array, axis, blocks)
    return array


def _product(array: Image, axis: int, blocks: Sequence[Block]) -> Image:
    """Interpolate along one axis of an array, best without gaps."""
    before, behind = array.shape[:axis], array.shape[axis + 1 :]
    given = array.reshape(prod(before), array.shape[axis], prod(behind))
    result = np.empty((len(given), blocks[-1].target.stop, given.shape[2]), dtype=np.float32)
    for block in blocks:
        source, target = given[:, block.source], result[:, block.target]
        step = max(1, _SMALL // block.weights.size)
        if given.shape[2] == 1:  # rows of the fastest axis
            for at in range(0, len(given), step):
                rows = source[at : at + step, :, 0]
                np.matmul(rows, block.weights.T, out=target[at : at + step, :, 0])
        else:
            for at in range(0, given.shape[2], step):
                columns = source[..., at : at + step]
                np.matmul(block.weights, columns, out=target[..., at : at + step])
    return result.reshape(*before, result.shape[1], *behind)


def blocks_of(axis_map: AxisMap, length: int = _BLOCK) -> Iterator[Block]:
    """Cut the target voxels of an axis into blocks."""
    taps, weights = axis_map.taps()
    for first in range(0, axis_map.count, length):
        stop = min(first + length, axis_map.count)
        target, number = np.nonzero(weights[first:stop])
        source = taps[first:stop][target, number]
        low, high = int(source.min()), int(source.max()) + 1
        matrix = np.zeros((stop - first, high - low), dtype=np.float32)
        np.add.at(matrix, (target, source - low), weights[first:stop][target, number])
        yield Block(slice(first, stop), slice(low, high), matrix)
