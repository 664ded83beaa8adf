"""Batches of patches from prepared cases, drawn in a fixed order and read ahead by threads.

Batch number n is a function of the seed and n alone, so a run repeats whatever its threads do, and
a resumed one goes on where it stopped.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from vol3dseg.machine import thread_pool
from vol3dseg.preprocessing.patch_table import FOREGROUND, ORIGIN, VOXELS, patch_step
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.space.box import Box, Shape, read_padded
from vol3dseg.training.off_grid import CasePart

Patch = tuple[NDArray[np.float32], NDArray[np.uint8]]
Batch = Patch  # of arrays with one axis more


@dataclass(frozen=True, slots=True)
class Draw:
    """A patch that was drawn, and the generator to augment it with.

    It was drawn for the class `wanted`, of which `held` is a voxel of the case inside the box; both
    are None for a patch of any content.
    """

    case: int
    box: Box
    wanted: int | None
    held: tuple[int, int, int] | None
    rng: np.random.Generator


class CaseReader:
    """Reads patches; keeps whole cases in memory up to `cache_mb`, first come, first kept."""

    def __init__(self, cases: Sequence[StoredCase], cache_mb: int) -> None:
        self.cases = cases
        self._free = cache_mb * 2**20
        self._kept: dict[int, Patch] = {}
        self._lock = Lock()

    def patch(self, draw: Draw) -> Patch:
        """Read the patch of a draw as it is."""
        return self.read(draw.case, draw.box)

    def read(self, number: int, box: Box) -> Patch:
        """Read `box` of case `number`; what lies outside the case is 0."""
        kept = self._kept.get(number) or self._keep(number)
        if kept is None:
            return self.cases[number].read(box)
        return read_padded(kept[0], box), read_padded(kept[1], box)

    def around(self, number: int, box: Box) -> CasePart:
        """Read what there is of a case in `box`; all of it, if it is in memory."""
        kept, case = self._kept.get(number) or self._keep(number), self.cases[number]
        whole = Box.whole(case.shape)
        part = whole if kept is not None else box.intersection(whole)
        if not all(part.shape):  # a small scan, and a box that misses it
            part = whole
        image, label = kept if kept is not None else case.read(part)
        modalities = [np.ascontiguousarray(modality) for modality in np.moveaxis(image, -1, 0)]
        return CasePart(modalities, np.ascontiguousarray(label), part.start, case.shape)

    def read_label(self, number: int, box: Box) -> NDArray[np.uint8]:
        """Read the label of `box` alone."""
        kept = self._kept.get(number) or self._keep(number)
        return self.cases[number].read_label(box) if kept is None else read_padded(kept[1], box)

    def _keep(self, number: int) -> Patch | None:
        case = self.cases[number]
        size = case.memory_bytes
        with self._lock:
            if number in self._kept:
                return self._kept[number]
            if size > self._free:
                return None
            self._free -= size
            self._kept[number] = case.read(Box.whole(case.shape))
            return self._kept[number]


class PatchSampler:
    """Chooses patches: every case equally often, and within it every class that it has.

    `foreground` is the share of patches that are drawn to hold a foreground class: that many in any
    row of them, so that batches are alike. A class is drawn in proportion to its weight, by its
    index, and to its voxels as well, with `by_voxels`.
    """

    def __init__(
        self,
        reader: CaseReader,
        size: Shape,
        foreground: float,
        seed: int,
        weights: Mapping[int, float] | None = None,
        by_voxels: bool = False,
    ) -> None:
        self._reader = reader
        self._weights, self._by_voxels = weights or {}, by_voxels
        self._tables = [case.patches() for case in reader.cases]
        self._size = size
        self._foreground = foreground
        self._seed = seed

    def draw(self, number: int, size: Shape | None = None) -> Draw:
        """Return patch `number`, of the sampler's size or of a smaller one.

        Cases come in shuffled rounds, each case once a round; the patch's origin is jittered by up
        to half a step of the grid of stored patches, and a voxel of the wanted class stays inside.
        A smaller patch lies anywhere in the stored one.
        """
        round_, place = divmod(number, len(self._tables))
        order = np.random.default_rng([self._seed, 0, round_]).permutation(len(self._tables))
        rng = np.random.default_rng([self._seed, 1, number])
        case = int(order[place])
        forced = math.floor((number + 1) * self._foreground) > math.floor(number * self._foreground)
        origin, wanted = self._choose(self._tables[case], forced, rng)
        held = None if wanted is None else self._voxel_of(wanted, case, origin, rng)
        box = self._jittered(case, origin, held, size or self._size, rng)
        return Draw(case, box, wanted, held, rng)

    def _choose(
        self, table: NDArray[np.int64], forced: bool, rng: np.random.Generator
    ) -> tuple[list[int], int | None]:
        candidates, wanted = np.arange(len(table)), None
        voxels = table[:, VOXELS].sum(axis=0)
        present = 1 + np.flatnonzero(voxels[1:])  # of foreground classes
        if present.size and forced:
            chances = np.array([self._weights.get(int(index), 1.0) for index in present])
            if self._by_voxels:
                chances = chances * voxels[present]
            wanted = int(rng.choice(present, p=chances / chances.sum()))
            candidates = np.flatnonzero(table[:, VOXELS][:, wanted])
        return table[rng.choice(candidates), ORIGIN].tolist(), wanted

    def _voxel_of(
        self, wanted: int, case: int, origin: Sequence[int], rng: np.random.Generator
    ) -> Shape:
        """Return a voxel of a class at random from a patch that holds some."""
        first_i, first_j, first_k = origin
        box = Box.at((first_i, first_j, first_k), self._size)
        label = self._reader.read_label(case, box)
        found = rng.choice(np.flatnonzero(label == wanted))
        inside = np.unravel_index(found, label.shape)
        i, j, k = (o + int(v) for o, v in zip(origin, inside, strict=True))
        return i, j, k

    def _jittered(
        self,
        case: int,
        origin: Sequence[int],
        held: Sequence[int] | None,
        size: Shape,
        rng: np.random.Generator,
    ) -> Box:
        start = []
        for axis, extent in enumerate(self._reader.cases[case].shape):
            side, here = size[axis], origin[axis]
            half, room = patch_step(self._size)[axis] // 2, self._size[axis] - side
            low = max(here - half, min(0, extent - side))
            high = min(here + half + room, max(0, extent - side))
            if held is not None:
                low, high = max(low, held[axis] - side + 1), min(high, held[axis])
            start.append(int(rng.integers(low, high + 1)))
        i, j, k = start
        return Box.at((i, j, k), size)


def validation_boxes(
    cases: Sequence[StoredCase], size: Shape, per_case: int, seed: int
) -> list[list[tuple[int, Box]]]:
    """Return a fixed list of patches (case, box) from every case, in pairs: rich and poor.

    The first of a pair is rich in classes, the second has the least foreground that is left, so a
    loss pooled over the pair sees what is missed and what is found in the wrong place, and is the
    same on every machine. A case has fewer than `per_case` where it has no more stored patches; an
    odd number ends with a single one.
    """
    rng = np.random.default_rng([seed, 2])
    pairs = []
    for number, case in enumerate(cases):
        table = rng.permutation(case.patches())
        order = _rich_and_poor(table[:, FOREGROUND])[:per_case]
        boxes = [(number, Box.at(tuple(table[row, ORIGIN].tolist()), size)) for row in order]
        pairs += [boxes[first : first + 2] for first in range(0, len(boxes), 2)]
    return pairs


def _rich_and_poor(voxels: NDArray[np.int64]) -> list[int]:
    """Return all rows of a table, in turn the one with most classes and with fewest voxels."""
    rich = np.argsort(-(voxels > 0).sum(axis=1), kind="stable")
    poor = np.argsort(voxels.sum(axis=1), kind="stable")
    return list(dict.fromkeys(np.column_stack([rich, poor]).ravel().tolist()))


def validation_batches(
    reader: CaseReader, boxes: Sequence[Sequence[tuple[int, Box]]]
) -> Callable[[int], Batch]:
    """Return the function from the number of a batch of the fixed list to the batch."""
    return lambda number: stacked([reader.read(case, box) for case, box in boxes[number]])


def read_ahead(
    batch: Callable[[int], Batch], numbers: Iterator[int], workers: int
) -> Iterator[Batch]:
    """Yield `batch(n)` for n in `numbers`, in order, while `workers` threads prepare the next ones.

    At most twice as many batches as threads are in memory.
    """
    with thread_pool(workers, name="patches") as pool:
        queue: deque[Future[Batch]] = deque()
        try:
            for number in numbers:
                queue.append(pool.submit(batch, number))
                if len(queue) >= 2 * workers:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()


def stacked(patches: Sequence[Patch]) -> Batch:
    """Return patches as one batch, contiguous in the order of its axes however they lie."""
    images, labels = (
        np.stack(arrays, out=np.empty((len(arrays), *arrays[0].shape), arrays[0].dtype))
        for arrays in zip(*patches, strict=True)
    )
    return images, labels
