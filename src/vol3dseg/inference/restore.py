"""Restore rows of probabilities on the working grid to labels on the grid of the scan."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import in_memory
from vol3dseg.model.outputs import Outputs
from vol3dseg.space.axes import AxisMap, axis_maps
from vol3dseg.space.box import Shape
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet
from vol3dseg.space.resampling import resample_part

_PORTION = 2**22  # probabilities that are copied to those that wait
_CHUNK = 2**19  # voxels of the scan's grid at once
CHUNK_MB = 30.0  # that a thread takes for them, and its share of a portion


class Restorer:
    """Resamples rows of probabilities to the grid of the scan as they come, and keeps only labels.

    The axes of both grids are parallel. Rows come along the first of `row_axes`, which are the axes
    of the working grid as arrays of rows have them. `labels` are (i, j, k) class indices on
    `source`, decided after interpolation; background outside of the working grid. They are complete
    when all rows have been added.
    """

    def __init__(
        self,
        working: Geometry,
        source: Geometry,
        outputs: Outputs,
        labels: LabelSet,
        keep_probabilities: bool = False,
        threads: int = 1,
        row_axes: Shape = (0, 1, 2),
    ) -> None:
        self._outputs, self._names = outputs, labels
        background = outputs.background
        i, j, k = axis_maps(working, source)
        i, j, k = (replace(m, axis=row_axes.index(m.axis)) for m in (i, j, k))
        self._maps = i, j, k
        across = (working.shape[axis] for axis in row_axes[1:])
        self._axis = next(t for t, m in enumerate(self._maps) if m.axis == 0)
        self._need = _needs(self._maps[self._axis])
        self._waiting = np.zeros((len(background), 0, *across), dtype=np.float32)
        self._first = 0  # row that `_waiting` begins with
        self._todo = ~self._maps[self._axis].outside
        self._threads = threads
        self._kept: NDArray[np.float32] | None = None
        sides = " x ".join(map(str, source.shape))
        with in_memory(
            f"labels of {sides} voxels{' and their probabilities' * keep_probabilities}"
        ):
            self.labels: NDArray[np.uint8] = np.zeros(source.shape, dtype=np.uint8)
            if keep_probabilities:
                self._kept = np.empty((len(background), *source.shape), dtype=np.float32)
                self._kept[:] = background[:, None, None, None]

    @property
    def probabilities(self) -> NDArray[np.float32] | None:
        """Those on `source`, (i, j, k, channel), if they are kept."""
        return None if self._kept is None else np.moveaxis(self._kept, 0, -1)

    def add(self, rows: NDArray[np.float32]) -> None:
        """Take the next (channel, rows, ...) probabilities; the array may be reused afterwards."""
        if all(m.is_indexing for m in self._maps) and self._kept is None:
            decided = np.empty(rows.shape[1:], dtype=np.uint8)
            for row in range(len(decided)):  # of a size that stays in the processor's cache
                decided[row] = self._outputs.decide(rows[:, row], self._names)
            self._place(decided, self._first)
            self._first += rows.shape[1]
            return
        step = max(1, _PORTION // rows[:, :1].size)
        for start in range(0, rows.shape[1], step):
            self._add(rows[:, start : start + step])

    def _add(self, rows: NDArray[np.float32]) -> None:
        first = self._first
        known = np.concatenate([self._waiting, rows], axis=1)
        ready = self._todo & (self._need[:, 1] <= first + known.shape[1])
        with ThreadPoolExecutor(self._threads) as pool:
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
        self.labels[tuple(ours)] = turned[tuple(theirs)]

    def _chunks(self, ready: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
        """Cut the rows of the scan's grid that are ready into ranges."""
        where = np.flatnonzero(ready)
        if where.size:
            plane = self.labels.size // self.labels.shape[self._axis]
            step = max(1, _CHUNK // plane)
            stop = int(where[-1]) + 1
            yield from ((n, min(n + step, stop)) for n in range(int(where[0]), stop, step))

    def _restore(self, known: NDArray[np.float32], first: int, start: int, stop: int) -> None:
        own = replace(self._maps[self._axis], first=start, count=stop - start)
        a, b, c = (own if t == self._axis else m for t, m in enumerate(self._maps))
        low = int(self._need[start:stop, 0].min()) - first
        high = int(self._need[start:stop, 1].max()) - first
        place: tuple[slice, ...] = (slice(None),) * self._axis + (slice(start, stop),)
        background = self._outputs.background

        def channels() -> Iterator[NDArray[np.float32]]:
            for index, values in enumerate(known[:, low:high]):
                fill = float(background[index])
                found = resample_part(values, first + low, (a, b, c), fill=fill)
                if self._kept is not None:
                    self._kept[index][place] = found
                yield found

        self.labels[place] = self._outputs.decide(channels(), self._names)


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
