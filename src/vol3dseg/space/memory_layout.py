"""Arrays by the order of their axes in memory: copies from one order to another, and portions.

In NIfTI files the first axis is the fastest, in what networks take it is the last one. Copied
voxel by voxel along either, most of every cache line that is fetched is thrown away; copied block
by block, each line is fetched once: three times as fast.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALONG = 32  # voxels of a block along the axis that is the target's fastest
_PORTION = 2**16  # voxels
_ACROSS = 16  # voxels along the axis that is the fastest of neither


def copy_voxels(target: NDArray[Any], source: NDArray[Any]) -> None:
    """Copy `source` into `target`, which has its shape, as `target[...] = source` does."""
    fast, source_fast = _fastest(target), _fastest(source)
    if target.ndim != 3 or fast == source_fast:
        target[...] = source
        return
    across = 3 - fast - source_fast
    block: list[slice] = [slice(None)] * 3
    for start in range(0, target.shape[across], _ACROSS):
        block[across] = slice(start, start + _ACROSS)
        for along in range(0, target.shape[fast], _ALONG):
            block[fast] = slice(along, along + _ALONG)
            target[tuple(block)] = source[tuple(block)]


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` itself if its last axis is the fastest without gaps, else such a copy."""
    if array.flags.c_contiguous:
        return array
    result = np.empty(array.shape, dtype=array.dtype)
    copy_voxels(result, array)
    return result


def in_portions(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Give arrays of one shape in portions of one dimension, each small enough for the cache.

    The first must be contiguous in some order of axes, the others in the same one (as those that
    `numpy.empty_like` makes are), if portions shall be views to write into.
    """
    flat = [array.ravel(order="K") for array in arrays]
    for start in range(0, flat[0].size, _PORTION):
        yield tuple(array[start : start + _PORTION] for array in flat)


def slowest_first(array: NDArray[Any]) -> list[int]:
    """Return the axes of an array, those whose voxels lie farthest apart in memory first."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _fastest(array: NDArray[Any]) -> int:
    """Return the axis whose voxels lie closest together, the last of equals."""
    steps = [abs(step) for step in array.strides]
    return max(range(array.ndim), key=lambda axis: (-steps[axis], axis), default=0)
