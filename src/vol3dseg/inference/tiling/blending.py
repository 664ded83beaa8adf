"""Overlapping tiles as one volume: weighted outputs are added up in a window that moves along."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from vol3dseg.inference.halves import round_to_half
from vol3dseg.inference.tiling.tile_plan import Plan, Tile
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.space.box import Shape

Array = NDArray[np.float32]

_NNUNET_PEAK = 10.0  # of nnU-Net's weights, which keeps more of them above float16's zero
_SLAB = 2**16  # voxels of a channel that are weighted at once: they stay in the processor's cache


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
        self._members = plan.members_apart
        self._weights = tile_weights(plan.size, tiling)
        self._rounds = tiling.sums == "float16"
        self._first = 0  # row that the window begins with
        self._height = min(plan.size[self._axis], plan.shape[self._axis])
        sides = list(plan.shape)
        sides[self._axis] = self._height
        self._total = np.zeros((channels, *sides), dtype=np.float32)
        self._norm = np.zeros(sides, dtype=np.float32)

    def add(self, tile: Tile, output: Array) -> None:
        """Add the (channel, i, j, k) output of a tile."""
        kept = tile.keep.relative_to(tile.read).slices
        offset = [0, 0, 0]
        offset[self._axis] = -self._first
        window = tile.keep.shifted(offset).slices
        weights = self._weights[kept]
        self._add(self._norm[window], weights)

        def weighted(channel: int) -> None:
            self._add(self._total[channel][window], weights, output[channel][kept])

        if self._threads == 1:
            for channel in range(len(output)):
                weighted(channel)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(weighted, range(len(output))))

    def _add(self, sums: Array, weights: Array, values: Array | None = None) -> None:
        """Add weighted values, or weights alone, slab by slab."""
        step = max(1, _SLAB // weights[0].size)
        products = np.empty_like(weights[:step])
        for start in range(0, len(weights), step):
            slab = slice(start, start + step)
            found = weights[slab]
            if values is not None:
                found = np.multiply(values[slab], found, out=products[: len(found)])
            sums[slab] += found
            self._round(sums[slab])

    def finish(self, stop: int) -> Array:
        """Return the (channel, rows, ...) means up to row `stop`, good until `move_to` it.

        Of several networks, each has the means of its own, and what comes is the mean of these.
        """
        total, norm = self._rows()
        count = stop - self._first
        for sums in total:
            for row in range(count):
                sums[row] /= norm[row]
                self._round(sums[row])
        first, *others = np.split(total[:, :count], self._members)
        if others:
            self._average(first, others)
        return first

    def _average(self, first: Array, others: list[Array]) -> None:
        """Put the mean of all networks into the place of the first."""
        for channel, mean in enumerate(first):
            for row, values in enumerate(mean):
                for other in others:
                    values += other[channel, row]
                    self._round(values)
                values /= np.float32(self._members)
                self._round(values)

    def _round(self, values: Array) -> None:
        if self._rounds:
            round_to_half(values)

    def move_to(self, stop: int) -> None:
        """Let the window begin with row `stop`."""
        total, norm = self._rows()
        count = stop - self._first
        kept = self._height - count
        for sums in (*total, norm):
            for start in range(0, kept, count):  # none overlaps what it moves to
                rows = min(count, kept - start)
                sums[start : start + rows] = sums[start + count : start + count + rows]
            sums[kept:] = 0
        self._first = stop

    def _rows(self) -> tuple[Array, Array]:
        """Return sums and weights with the axis of rows in front of those of the volume."""
        return np.moveaxis(self._total, 1 + self._axis, 1), np.moveaxis(self._norm, self._axis, 0)
