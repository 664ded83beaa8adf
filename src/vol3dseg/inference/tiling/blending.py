"""Overlapping tiles as one volume: weighted outputs are added up in a window that moves along."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.inference.halves import pack, round_to_half, unpack
from vol3dseg.inference.tiling.tile_plan import Plan, Tile
from vol3dseg.machine import thread_pool
from vol3dseg.model.head import Head
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.space.box import Box, Shape

Array = NDArray[np.float32]

_NNUNET_PEAK = 10.0  # of nnU-Net's weights, which keeps more of them above float16's zero
_SLAB = 2**15  # numbers that are weighted at once: they stay in the processor's cache
_HANDED_ON = 2**22  # numbers that are finished at once, or a row


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
    """Sums of weighted outputs as high as a tile, over the rows along the plan's first axis.

    Those that are rounded to float16 are kept as such. With a `head`, tiles hold features.
    """

    def __init__(
        self, plan: Plan, tiling: Tiling, channels: int, head: Head | None = None, threads: int = 1
    ) -> None:
        self._axes, self._threads, self._head = plan.row_axes, threads, head
        self._members = plan.members_apart
        self._told = plan.told > 0 and self._members > 1
        self._weights = tile_weights(plan.size, tiling).transpose(self._axes).copy()
        self._halves = tiling.sums == "float16"
        self._first = 0  # row that the window begins with
        self._box = plan.box
        self._across = tuple(plan.shape[axis] for axis in self._axes[1:])
        rows, *across = (self._box.shape[axis] for axis in self._axes)
        self._height = min(len(self._weights), rows)
        kind = np.uint16 if self._halves else np.float32
        # In memory as rows are handed on: what is read of a window is more than lies together else.
        self._total: NDArray[Any] = np.zeros((channels, self._height, *across), dtype=kind)
        self._norm: NDArray[Any] = np.zeros((self._height, *across), dtype=kind)

    def add(self, tile: Tile, output: Array) -> None:
        """Add the (channel, i, j, k) output of a tile."""
        kept = self._turned(tile.keep.relative_to(tile.read))
        first, *across = self._turned(tile.keep.relative_to(self._box))
        window = slice(first.start - self._first, first.stop - self._first), *across
        output = output.transpose(0, *(1 + axis for axis in self._axes))[:, *kept]
        weights, total, norm = self._weights[kept], self._total[:, *window], self._norm[window]
        step = max(1, _SLAB // weights[0].size)

        def rows(start: int) -> None:
            own = slice(start, start + step)
            self._add(norm[own], weights[own].copy())
            for channels, values in self._outputs(output[:, own]):
                values *= weights[own]
                self._add(total[channels, own], values)

        with thread_pool(self._threads) as pool:
            list(pool.map(rows, range(0, len(weights), step)))

    def _turned(self, box: Box) -> tuple[slice, ...]:
        return tuple(box.slices[axis] for axis in self._axes)

    def _outputs(self, given: Array) -> Iterator[tuple[slice, Array]]:
        """Give some channels after the others of a part of a tile, each in a new array."""
        step = max(1, _SLAB // given[0].size)
        if self._head is not None:
            features = np.ascontiguousarray(given)
            for channels in self._head.groups(step):
                yield channels, self._head.apply(features, channels)
            return
        for start in range(0, len(given), step):
            channels = slice(start, start + step)
            yield channels, np.array(given[channels], order="C")

    def _add(self, sums: NDArray[Any], values: Array) -> None:
        if self._halves:
            values += unpack(sums)
            pack(values, sums)
        else:
            sums += values

    def finished(self, stop: int) -> Iterator[Array]:
        """Give the (channel, rows, ...) means up to row `stop`, some rows after the others.

        Of several networks, each has the means of its own, and what comes is the mean of these,
        and the means themselves behind it where the plan says so.
        Rows are whole; beside the plan's band they hold zeros.
        """
        count = stop - self._first
        step = max(1, _HANDED_ON // self._total[:, 0].size)
        for start in range(0, count, step):
            part = slice(start, min(start + step, count))
            yield self._means(self._total[:, part], self._read(self._norm[part]))

    def _means(self, total: NDArray[Any], norm: Array) -> Array:
        members = np.split(total, self._members)
        each = len(members[0])
        count = each * (1 + self._members * self._told)
        means = np.zeros((count, len(norm), *self._across), dtype=np.float32)
        inside = (slice(None), *self._turned(self._box)[1:])

        def of(channel: int) -> None:
            mean = means[channel][inside]
            for number, member in enumerate(members):
                found = self._read(member[channel])
                found /= norm
                self._rounded(found)
                if self._told:
                    means[channel + each * (1 + number)][inside] = found
                if number:
                    found += mean
                    self._rounded(found)
                mean[:] = found
            if len(members) > 1:
                mean /= np.float32(len(members))
                self._rounded(mean)

        with thread_pool(self._threads) as pool:
            list(pool.map(of, range(each)))
        return means

    def _read(self, sums: NDArray[Any]) -> Array:
        return unpack(sums) if self._halves else np.array(sums)

    def _rounded(self, values: Array) -> Array:
        return round_to_half(values) if self._halves else values

    def move_to(self, stop: int) -> None:
        """Let the window begin with row `stop`."""
        count = stop - self._first
        kept = self._height - count
        for sums in (*self._total, self._norm):
            sums[:kept] = sums[count:]
            sums[kept:] = 0
        self._first = stop
