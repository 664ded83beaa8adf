"""Restore rows of values on the working grid to labels on the grid of the scan."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import in_memory
from vol3dseg.inference.deciding import Decision
from vol3dseg.inference.halves import round_to_half
from vol3dseg.inference.uncertainty import Uncertainty
from vol3dseg.machine import thread_pool
from vol3dseg.space.axes import AxisMap, AxisMaps, axis_maps
from vol3dseg.space.box import Shape
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.many_taps import Block, blocks_of, interpolate_rows
from vol3dseg.space.resampling import resample_part

_PORTION = 2**22  # values that are copied to those that wait
_ROWS = 2  # or as many rows, where they are interpolated fast
_AT_ONCE = 4  # channels that are interpolated together, or as many as make so many numbers
_CACHED = 2**18
_STRIP = 4  # blocks of an axis in which channels are compared before they are interpolated
_CHUNK = 2**19  # voxels of the scan's grid at once
_FEWER_AT_ONCE = 2**16  # where all channels of a network are held
CHUNK_MB = 30.0  # that a thread takes for them, and its share of a portion


def measuring_takes_mb(uncertainty: Uncertainty, channels: int, source: Shape) -> float:
    """Return what a thread takes to measure uncertainty, beside what it takes anyway [MB]."""
    plane = math.prod(source) // min(source)
    voxels = max(plane, _FEWER_AT_ONCE if uncertainty.members else _CHUNK)
    return voxels * uncertainty.arrays(channels) * 4 / 2**20


class Restorer:
    """Resamples rows of values to the grid of the scan as they come, and keeps only labels.

    The axes of both grids are parallel, and `maps` say how they are interpolated: as `resample`
    does, bit for bit, where there are none; then they are rounded to float16, if it `rounds`. Rows
    come along the first of `row_axes`, which are the axes of the working grid as arrays of rows
    have them. `labels` are (i, j, k) class indices on `source`, decided after interpolation;
    background outside of the working grid. They are complete when all rows have been added.
    """

    def __init__(
        self,
        working: Geometry,
        source: Geometry,
        decision: Decision,
        keep_probabilities: bool = False,
        threads: int = 1,
        row_axes: Shape = (0, 1, 2),
        maps: AxisMaps | None = None,
        rounds: bool = False,
    ) -> None:
        self._decision, self._threads, self._rounds = decision, threads, rounds
        i, j, k = maps or axis_maps(working, source)
        turned = [replace(m, axis=row_axes.index(m.axis)) for m in (i, j, k)]
        self._whole, covered = _covered(turned)
        # The target's axes in the order of those of rows, and how each comes from them.
        self._turned = [[m.axis for m in self._whole].index(axis) for axis in range(3)]
        self._axis = self._turned[0]
        self._need = _needs(self._whole[self._axis])
        self._row_axes = row_axes
        # Of many channels few can be the largest in a small part of the grid.
        self._keeps_probabilities = keep_probabilities
        nothing = decision.nothing(keep_probabilities)
        self._compares = decision.compares and not len(nothing) and _are_means(self._whole)
        self._in_strips = self._compares or bool(decision.uncertainty.members)
        self._by_products = maps is not None
        across = (working.shape[axis] for axis in row_axes[1:])
        self._nothing = np.zeros((decision.channels, 0, *across), dtype=np.float32)
        self._least_rows = _ROWS if maps else 1
        self._kept: NDArray[np.float32] | None = None
        self._all_kept: NDArray[np.float32] | None = None
        sides = " x ".join(map(str, source.shape))
        with in_memory(
            f"labels of {sides} voxels{' and their probabilities' * keep_probabilities}"
            f"{' and their uncertainty' * decision.uncertainty.asked}"
        ):
            self.labels: NDArray[np.uint8] = np.zeros(source.shape, dtype=np.uint8)
            self._all_inside = self.labels[covered]
            if len(nothing):
                self._kept = np.empty((len(nothing), *source.shape), dtype=np.float32)
                self._kept[:] = nothing[:, None, None, None]
                self._all_kept = self._kept[:, *covered]
        self.begin()

    def begin(self, band: range | None = None, axis: int = 0) -> None:
        """Let rows come from the first on, to restore what begins in a band of the working grid.

        The band lies along an axis across rows; None restores everything.
        """
        place, maps = [slice(None)] * 3, list(self._whole)
        if band is not None:
            target = self._turned[self._row_axes.index(axis)]
            start = _needs(maps[target])[:, 0]
            owned = np.flatnonzero((start >= band.start) & (start < band.stop))
            first, stop = (int(owned[0]), int(owned[-1]) + 1) if owned.size else (0, 0)
            place[target] = slice(first, stop)
            maps[target] = replace(
                maps[target], first=maps[target].first + first, count=stop - first
            )
        a, b, c = maps
        self._maps: AxisMaps = (a, b, c)
        self._inside = self._all_inside[tuple(place)]
        self._kept_inside = None if self._all_kept is None else self._all_kept[:, *place]
        self._across: list[list[_Strip]] | None = None
        if self._by_products:
            count = _STRIP if self._in_strips else None
            self._across = [_strips(self._maps[axis], count) for axis in self._turned[1:]]
        self._waiting = self._nothing
        self._first = 0  # row that `_waiting` begins with
        self._todo = np.ones(len(self._need), dtype=bool)

    @property
    def probabilities(self) -> NDArray[np.float32] | None:
        """Those on `source`, (i, j, k, channel), if they are kept."""
        if self._kept is None or not self._keeps_probabilities:
            return None
        count = len(self._kept) - len(self._decision.uncertainty.names)
        return np.moveaxis(self._kept[:count], 0, -1)

    @property
    def uncertainty(self) -> dict[str, NDArray[np.float32]]:
        """What is measured of it on `source`, by its name [nat]."""
        names = self._decision.uncertainty.names
        if self._kept is None:
            return {}
        return dict(zip(names, self._kept[len(self._kept) - len(names) :], strict=True))

    def add(self, rows: NDArray[np.float32]) -> None:
        """Take the next (channel, rows, ...) values; the array may be reused afterwards."""
        if all(m.is_indexing for m in self._maps) and self._kept is None:
            decided = np.empty(rows.shape[1:], dtype=np.uint8)
            for row in range(len(decided)):  # of a size that stays in the processor's cache
                decided[row] = self._decision.decide(iter(rows[:, row]), decided[row].shape)
            self._place(decided, self._first)
            self._first += rows.shape[1]
            return
        step = max(self._least_rows, _PORTION // rows[:, :1].size)
        for start in range(0, rows.shape[1], step):
            self._add(rows[:, start : start + step])

    def _add(self, rows: NDArray[np.float32]) -> None:
        first = self._first
        known = np.concatenate([self._waiting, rows], axis=1)
        ready = self._todo & (self._need[:, 1] <= first + known.shape[1])
        with thread_pool(self._threads) as pool:
            list(pool.map(lambda part: self._restore(known, first, *part), self._chunks(ready)))
        self._todo &= ~ready
        self._first = int(self._need[self._todo, 0].min(initial=first + known.shape[1]))
        self._waiting = known[:, self._first - first :].copy()

    def _place(self, labels: NDArray[np.uint8], first: int) -> None:
        """Copy label rows to the source, where every voxel of one grid is a voxel of the other."""
        theirs, ours = [], []
        for axis_map in self._maps:
            start = first if axis_map.axis == 0 else 0
            at = axis_map.nearest - start
            inside = np.flatnonzero((at >= 0) & (at < labels.shape[axis_map.axis]))
            if inside.size == 0:
                return
            ours.append(slice(int(inside[0]), int(inside[-1]) + 1))
            theirs.append(_steps(int(at[inside[0]]), int(at[inside[-1]])))
        turned = np.moveaxis(labels, [m.axis for m in self._maps], [0, 1, 2])
        self._inside[tuple(ours)] = turned[tuple(theirs)]

    def _chunks(self, ready: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
        """Cut the rows of the scan's grid that are ready into ranges."""
        where = np.flatnonzero(ready)
        if where.size:
            plane = self._inside.size // self._inside.shape[self._axis]
            voxels = _FEWER_AT_ONCE if self._decision.uncertainty.members else _CHUNK
            step = max(1, voxels // max(1, plane))
            stop = int(where[-1]) + 1
            yield from ((n, min(n + step, stop)) for n in range(int(where[0]), stop, step))

    def _restore(self, known: NDArray[np.float32], first: int, start: int, stop: int) -> None:
        own = self._maps[self._axis]
        own = replace(own, first=own.first + start, count=stop - start)
        low = int(self._need[start:stop, 0].min()) - first
        high = int(self._need[start:stop, 1].max()) - first
        place: tuple[slice, ...] = (slice(None),) * self._axis + (slice(start, stop),)
        labels = self._inside[place]
        kept = None if self._kept_inside is None else self._kept_inside[:, *place]
        values: Iterator[NDArray[np.float32]]
        if self._across is None:
            a, b, c = (own if t == self._axis else m for t, m in enumerate(self._maps))
            values = (resample_part(each, first + low, (a, b, c)) for each in known[:, low:high])
            labels[...] = self._decided(values, labels.shape, kept)
            return
        # Decided as rows lie, and turned afterwards.
        labels = labels.transpose(self._turned)
        kept = None if kept is None else kept.transpose(0, *(1 + t for t in self._turned))
        along = list(blocks_of(own))
        for wide, deep in product(*self._across):
            there = np.s_[..., wide.target, deep.target]
            rows = known[:, low:high, wide.source, deep.source]
            chosen: NDArray[np.intp] | None = None
            if self._compares:
                chosen = self._decision.contenders(rows)
                rows = rows[chosen]
            part, axes = labels[there], (along, wide.blocks, deep.blocks)
            values = _interpolated(rows, first + low, axes, part.size)
            found = self._decided(values, part.shape, None if kept is None else kept[there])
            part[...] = found if chosen is None else chosen[found]

    def _decided(
        self,
        values: Iterator[NDArray[np.float32]],
        shape: tuple[int, ...],
        kept: NDArray[np.float32] | None,
    ) -> NDArray[np.uint8]:
        if self._rounds:
            values = map(round_to_half, values)
        return self._decision.decide(values, shape, kept)


@dataclass(frozen=True, slots=True)
class _Strip:
    """Blocks beside each other along an axis, as places in what they read and make together."""

    source: slice
    target: slice
    blocks: list[Block]


def _strips(axis_map: AxisMap, count: int | None) -> list[_Strip]:
    """Cut an axis into strips of so many blocks; None makes it one."""
    every: list[Block] = list(blocks_of(axis_map))
    found, step = [], count or max(1, len(every))
    for start in range(0, len(every), step):
        blocks = every[start : start + step]
        low, first = min(b.source.start for b in blocks), blocks[0].target.start
        source = slice(low, max(b.source.stop for b in blocks))
        own = [
            replace(
                block,
                source=slice(block.source.start - low, block.source.stop - low),
                target=slice(block.target.start - first, block.target.stop - first),
            )
            for block in blocks
        ]
        found.append(_Strip(source, slice(first, blocks[-1].target.stop), own))
    return found


def _interpolated(
    known: NDArray[np.float32], start: int, axes: Sequence[Sequence[Block]], voxels: int
) -> Iterator[NDArray[np.float32]]:
    step = max(_AT_ONCE, _CACHED // max(1, voxels))
    for channel in range(0, len(known), step):
        yield from interpolate_rows(known[channel : channel + step], start, axes)


def _covered(maps: Iterable[AxisMap]) -> tuple[AxisMaps, tuple[slice, slice, slice]]:
    """Return axis maps of that part of the target which the source covers, and where it lies."""
    found = []
    for axis_map in maps:
        inside = np.flatnonzero(~axis_map.outside)
        start, stop = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
        own = replace(axis_map, first=axis_map.first + start, count=stop - start)
        found.append((own, slice(start, stop)))
    (i, i_range), (j, j_range), (k, k_range) = found
    return (i, j, k), (i_range, j_range, k_range)


def _are_means(maps: AxisMaps) -> bool:
    """Tell whether all that is interpolated lies between what it comes from."""
    return all(m.is_indexing or bool((m.taps()[1] >= 0).all()) for m in maps)


def _needs(axis_map: AxisMap) -> NDArray[np.intp]:
    """Return (count, 2): the source rows that each target row has weight in, half-open."""
    if axis_map.is_indexing:
        at = axis_map.nearest
        return np.stack([at, at + 1], axis=1)
    taps, weights = axis_map.taps()
    low = np.where(weights > 0, taps, axis_map.size).min(axis=1)
    high = np.where(weights > 0, taps, -1).max(axis=1)
    return np.stack([low, high + 1], axis=1)


def _steps(first: int, last: int) -> slice:
    """Return the slice from one place to another, both included, forwards or backwards."""
    if last >= first:
        return slice(first, last + 1)
    return slice(first, last - 1 if last else None, -1)
