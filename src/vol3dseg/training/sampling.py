"""Batches of patches from prepared cases, drawn in a fixed order and read ahead by threads.

Batch number n is a function of the seed and n alone, so a run repeats whatever its threads do, and
a resumed one goes on where it stopped.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from vol3dseg.preprocessing.patch_table import FOREGROUND, ORIGIN, patch_step
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.space.box import Box, Shape, read_padded

Patch = tuple[NDArray[np.float32], NDArray[np.uint8]]
Batch = tuple[NDArray[np.float32], NDArray[np.uint8]]


class CaseReader:
    """Reads patches; keeps whole cases in memory up to a limit, first come, first kept.

    Parameters
    ----------
    cases : sequence of StoredCase
    cache_mb : int
        Memory for cases that are kept [MB].
    """

    def __init__(self, cases: Sequence[StoredCase], cache_mb: int) -> None:
        self.cases = cases
        self._free = cache_mb * 2**20
        self._kept: dict[int, Patch] = {}
        self._lock = Lock()

    def read(self, number: int, box: Box) -> Patch:
        """Read `box` of case `number`; what lies outside the case is 0."""
        kept = self._kept.get(number) or self._keep(number)
        if kept is None:
            return self.cases[number].read(box)
        return read_padded(kept[0], box), read_padded(kept[1], box)

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

    Parameters
    ----------
    cases : sequence of StoredCase
    size : (3,) tuple of int
        Voxels of a patch.
    foreground : float
        Share of patches that are drawn to hold a foreground class.
    seed : int
    """

    def __init__(
        self, cases: Sequence[StoredCase], size: Shape, foreground: float, seed: int
    ) -> None:
        self._tables = [case.patches() for case in cases]
        self._shapes = [case.shape for case in cases]
        self._size = size
        self._foreground = foreground
        self._seed = seed

    def draw(self, number: int) -> tuple[int, Box, np.random.Generator]:
        """Return the case and box of patch `number`, and the generator to augment it with.

        Cases come in shuffled rounds, each case once a round; the patch's origin is jittered by up
        to half a step of the grid of stored patches.
        """
        round_, place = divmod(number, len(self._tables))
        order = np.random.default_rng([self._seed, 0, round_]).permutation(len(self._tables))
        rng = np.random.default_rng([self._seed, 1, number])
        case = int(order[place])
        origin = self._choose(self._tables[case], rng)
        start = [
            self._jittered(*axis, rng)
            for axis in zip(
                origin, self._shapes[case], self._size, patch_step(self._size), strict=True
            )
        ]
        return case, Box.at((start[0], start[1], start[2]), self._size), rng

    def _choose(self, table: NDArray[np.int64], rng: np.random.Generator) -> list[int]:
        candidates = np.arange(len(table))
        voxels = table[:, FOREGROUND]
        present = np.flatnonzero(voxels.any(axis=0))
        if present.size and rng.random() < self._foreground:
            candidates = np.flatnonzero(voxels[:, rng.choice(present)])
        return [int(v) for v in table[rng.choice(candidates), ORIGIN]]

    @staticmethod
    def _jittered(origin: int, extent: int, size: int, step: int, rng: np.random.Generator) -> int:
        low, high = min(0, extent - size), max(0, extent - size)
        jitter = int(rng.integers(-(step // 2), step // 2 + 1))
        return min(max(origin + jitter, low), high)


def training_batches(
    reader: CaseReader,
    sampler: PatchSampler,
    batch_size: int,
    augment: Callable[[NDArray[np.float32], NDArray[np.uint8], np.random.Generator], Patch],
) -> Callable[[int], Batch]:
    """Return the function from the number of a batch to the batch.

    A batch is an (n, i, j, k, c) array of float32 and an (n, i, j, k) array of uint8.
    """

    def patch(number: int) -> Patch:
        case, box, rng = sampler.draw(number)
        return augment(*reader.read(case, box), rng)

    def batch(number: int) -> Batch:
        first = number * batch_size
        return _stacked([patch(n) for n in range(first, first + batch_size)])

    return batch


def validation_boxes(
    cases: Sequence[StoredCase], size: Shape, limit: int, seed: int
) -> list[tuple[int, Box]]:
    """Return a fixed list of at most `limit` patches: stored origins, spread over all cases.

    Patches that hold foreground come first in each case, since a patch of background alone says
    little of the classes.
    """
    rng = np.random.default_rng([seed, 2])
    queues = []
    for number, case in enumerate(cases):
        table = rng.permutation(case.patches())
        table = table[np.argsort(~table[:, FOREGROUND].any(axis=1), kind="stable")]
        queues.append([(number, Box.at(tuple(row[ORIGIN].tolist()), size)) for row in table])
    longest = max((len(q) for q in queues), default=0)
    turns = [q[turn] for turn in range(longest) for q in queues if turn < len(q)]
    return turns[:limit]


def validation_batches(
    reader: CaseReader, boxes: Sequence[tuple[int, Box]], batch_size: int
) -> Callable[[int], Batch]:
    """Return the function from the number of a batch of the fixed list to the batch."""

    def batch(number: int) -> Batch:
        part = boxes[number * batch_size : (number + 1) * batch_size]
        return _stacked([reader.read(case, box) for case, box in part])

    return batch


def read_ahead(
    batch: Callable[[int], Batch], numbers: Iterator[int], workers: int
) -> Iterator[Batch]:
    """Yield `batch(n)` for n in `numbers`, in order, while `workers` threads prepare the next ones.

    At most twice as many batches as threads are in memory.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="patches") as pool:
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


def _stacked(patches: Sequence[Patch]) -> Batch:
    images, labels = zip(*patches, strict=True)
    return np.stack(images), np.stack(labels)
