"""Overlapping tiles as one volume: weighted outputs are added up in a window that moves along."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from vol3dseg.inference.tiling.tile_plan import Plan, Tile
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.space.box import Shape

Array = NDArray[np.float32]

_NNUNET_PEAK = 10.0  # of nnU-Net's weights, which keeps more of them above float16's zero
_PORTION = 2**22  # numbers in float16 that are handed on in float32 at once
_ROWS = 4  # or as many rows, so that few are kept twice while their neighbours come
_SLAB = 2**17  # voxels of a channel that are weighted at once: they stay in the processor's cache


def handing_on_mb(numbers: int, tiling: Tiling) -> float:
    """Return the memory of rows as they are handed on, of so many numbers each [MB]."""
    if tiling.sums == "float32":
        return 0.0
    return max(_ROWS * numbers, _PORTION) * 4 / 2**20


def tile_weights(tile: Shape, tiling: Tiling) -> Array:
    """Return the weight of each voxel of a tile, highest in its middle, never zero.

    Voxels near the border see less of their surroundings, so they count less; see `Tiling`.
    """
    nnunet = tiling.weights == "nnunet"
    middles = [n // 2 if nnunet else (n - 1) / 2 for n in tile]
    axes = [
        np.exp(-0.5 * ((np.arange(n) - middle) / (n * tiling.sigma)) ** 2)
        for n, middle in zip(tile, middles, strict=True)
    ]
    product: NDArray[np.float64] = np.einsum("i,j,k->ijk", *axes)
    if not nnunet:
        return np.maximum(product, tiling.floor).astype(np.float32)
    # As `compute_gaussian` of nnU-Net 2 rounds them: by way of float32.
    rounded = (_NNUNET_PEAK * product).astype(np.float32).astype(np.float16).astype(np.float32)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    return rounded


class Window:
    """Sums of weighted outputs as high as a tile, over the rows along the plan's first axis."""

    def __init__(self, plan: Plan, tiling: Tiling, channels: int, threads: int = 1) -> None:
        self._axis, self._threads = plan.order[0], threads
        self._weights = tile_weights(plan.size, tiling)
        self._first = 0  # row that the window begins with
        self.height = min(plan.size[self._axis], plan.shape[self._axis])
        sides = list(plan.shape)
        sides[self._axis] = self.height
        kind = np.dtype(tiling.sums)
        self._total, self._norm = (np.zeros((n, *sides), dtype=kind) for n in (channels, 1))

    def add(self, tile: Tile, output: Array) -> None:
        """Add the (channel, i, j, k) output of a tile."""
        kept = tile.keep.relative_to(tile.read).slices
        offset = [0, 0, 0]
        offset[self._axis] = -self._first
        window = tile.keep.shifted(offset).slices
        weights = self._weights[kept]
        self._norm[0][window] += weights

        def weighted(channel: int) -> None:
            sums, values = self._total[channel][window], output[channel][kept]
            step = max(1, _SLAB // weights[0].size)
            for start in range(0, len(weights), step):
                slab = slice(start, start + step)
                sums[slab] += values[slab] * weights[slab]

        if self._threads == 1:
            for channel in range(len(output)):
                weighted(channel)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(weighted, range(len(output))))

    def finish(self, stop: int) -> Iterator[Array]:
        """Give the (channel, rows, ...) means up to row `stop`, and move the window there.

        They are good until the next are asked for.
        """
        count = stop - self._first
        total, norm = (np.moveaxis(each, 1 + self._axis, 1) for each in (self._total, self._norm))
        total[:, :count] /= norm[:, :count]
        if total.dtype == np.float32:
            yield total[:, :count]
        else:
            step = max(_ROWS, _PORTION // total[:, 0].size)
            for start in range(0, count, step):
                yield total[:, start : min(start + step, count)].astype(np.float32)
        kept = self.height - count
        for sums in (*total, *norm):
            for start in range(0, kept, count):  # none overlaps what it moves to
                rows = min(count, kept - start)
                sums[start : start + rows] = sums[start + count : start + count + rows]
            sums[kept:] = 0
        self._first = stop
