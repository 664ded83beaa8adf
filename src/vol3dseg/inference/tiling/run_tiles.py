"""A network over a volume of any size, tile by tile; finished rows are handed on at once."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, groupby

import numpy as np

from vol3dseg.inference.runtimes.session import Backend
from vol3dseg.inference.tiling.blending import Array, Window
from vol3dseg.inference.tiling.tile_plan import Plan, Tile
from vol3dseg.model.head import Head
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.tiling_rule import Axis
from vol3dseg.space.box import Box, read_padded

Progress = Callable[[int, int], None]


def run_bands(
    image: Array,
    backend: Backend,
    manifest: Manifest,
    plan: Plan,
    begin: Callable[[range, int], None],
    progress: Progress,
    threads: int,
    head: Head | None,
) -> Iterator[Array]:
    """Give the rows of one band of a plan after the other, or all; see `run_tiles`.

    `begin` gets each band, and the axis that it lies along, before the first of its rows.
    """
    before, total = 0, plan.computed // math.prod(plan.size)

    def told(done: int, _: int) -> None:
        progress(before + done, total)

    for part in plan.parts:
        if part.bands:
            begin(part.bands[0], part.band_axis)
        yield from run_tiles(image, backend, manifest, part, told, threads, head)
        before += len(part.tiles)


def run_tiles(
    image: Array,
    backend: Backend,
    manifest: Manifest,
    plan: Plan,
    progress: Progress = lambda done, total: None,
    threads: int = 1,
    head: Head | None = None,
) -> Iterator[Array]:
    """Run a network over a volume as planned; give rows of the result as they are finished.

    A tile with nothing but zeros in it is not computed, unless the manifest says that all are. Its
    outputs are those that the network has for a tile of zeros, in the middle, where outputs depend
    on the receptive field alone (and, if the plan is exact, where the tile does not touch the
    volume's border); otherwise background. A volume with nothing in it is background.

    The image is (i, j, k, c). Yields the (channel, rows, ...) values of the next rows, with axes as
    `plan.row_axes` has them, good until the next are asked for; `progress` gets the tiles done and
    their number. Outputs are added up by `threads`; a `head` makes them of what the backend gives.
    """
    run = mirrored(backend, manifest.tiling.mirror)
    runner = _Runner(image, run, manifest, plan, progress, head)
    axis = plan.order[0]
    rows = [list(row) for _, row in groupby(plan.tiles, key=lambda tile: tile.read.start[axis])]
    yield from _blended(rows, runner, threads) if plan.blended else _side_by_side(rows, runner)


def mirrored(backend: Backend, axes: Sequence[Axis]) -> Backend:
    """Return what averages a network over all combinations of mirrored axes."""
    if not axes:
        return backend
    numbers = [2 + "ijk".index(axis) for axis in axes]
    views = [c for n in range(len(numbers) + 1) for c in combinations(numbers, n)]

    def average(patches: Array) -> Array:
        total = np.array(backend(patches))
        for view in views[1:]:
            total += np.flip(backend(np.ascontiguousarray(np.flip(patches, view))), view)
        total /= np.float32(len(views))
        return total

    return average


class _Runner:
    """Runs tiles, and skips empty ones."""

    def __init__(
        self,
        image: Array,
        backend: Backend,
        manifest: Manifest,
        plan: Plan,
        progress: Progress,
        head: Head | None,
    ) -> None:
        self.plan = plan
        self.tiling = manifest.tiling
        self._background = np.tile(manifest.outputs.background, 1 + plan.told)
        self._image = np.moveaxis(image, -1, 0)
        self._backend = backend
        self._progress = progress
        self._done, self._total = 0, len(plan.tiles)
        # Networks side by side whose outputs are averaged tile by tile.
        self._averaged = manifest.tiling.members_apart // plan.members_apart
        self.head = head.averaged if head and self._averaged > 1 else head
        self._skips = manifest.tiling.skip_empty
        self._nothing: Array | None = None if image.any() else self._background

    def outputs(self, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, Array]]:
        """Give each tile with its (channel, i, j, k) output, good until the next is asked for."""
        for tile in tiles:
            # Not bound to a name, so that it is gone before the next.
            yield tile, self._output(tile)
            self._done += 1
            self._progress(self._done, self._total)

    def _output(self, tile: Tile) -> Array:
        patch = _patch(self._image, tile.read)
        if patch.any() or not self._may_skip(tile):
            output = np.asarray(self._backend(patch)[0])
            if self._averaged == 1 or self.head:
                return output
            mean = output.reshape(self._averaged, -1, *output.shape[1:]).mean(axis=0)
            return np.concatenate([mean, output]) if self.plan.told else np.asarray(mean)
        if self._nothing is None:
            self._nothing = self._of_nothing(patch)
        answer = self._nothing[:, None, None, None]
        return np.broadcast_to(answer, (len(self._background), *tile.read.shape))

    def _may_skip(self, tile: Tile) -> bool:
        if not self._skips:
            return False
        if not self.plan.exact or self._nothing is self._background:
            return True
        # Layers pad with zeros at the border, which is not what they hold elsewhere.
        ends = zip(tile.read.start, tile.read.stop, self.plan.padded, strict=True)
        return all(start > 0 and stop < extent for start, stop, extent in ends)

    def _of_nothing(self, patch: Array) -> Array:
        """Return the probabilities in the middle of an empty tile."""
        if self.plan.blended:
            return self._background  # an instance norm has no statistics of an empty tile
        middle = tuple(n // 2 for n in patch.shape[2:])
        return np.array(self._backend(patch)[0][:, *middle])


def _patch(image: Array, box: Box) -> Array:
    """Return the (1, c, i, j, k) input of a tile of a (c, i, j, k) image."""
    patch = np.zeros((1, image.shape[0], *box.shape), dtype=np.float32)
    for number, modality in enumerate(image):
        patch[0, number] = read_padded(modality, box)
    return patch


def _side_by_side(rows: list[list[Tile]], runner: _Runner) -> Iterator[Array]:
    heights = [row[0].keep.shape[0] for row in rows]
    alone, slab = all(len(row) == 1 for row in rows), None
    for row, height in zip(rows, heights, strict=True):
        for tile, output in runner.outputs(row):
            found = output[:, *tile.keep.relative_to(tile.read).slices]
            if alone:
                yield found
            else:
                if slab is None:
                    sides = (len(output), max(heights), *runner.plan.shape[1:])
                    slab = np.zeros(sides, dtype=np.float32)
                slab[:, :height, *tile.keep.slices[1:]] = found
            del output, found  # rather than hold them beside the next
        if slab is not None:
            yield slab[:, :height]


def _blended(rows: list[list[Tile]], runner: _Runner, threads: int) -> Iterator[Array]:
    plan, window = runner.plan, None
    axis = plan.order[0]
    firsts = [row[0].keep.start[axis] for row in rows]
    for following, row in zip([*firsts[1:], plan.shape[axis]], rows, strict=True):
        for tile, output in runner.outputs(row):
            if window is None:
                channels = runner.head.outputs if runner.head else len(output)
                window = Window(plan, runner.tiling, channels, runner.head, threads)
            window.add(tile, output)
            del output  # rather than hold it beside the next
        if window is not None:
            yield from window.finished(following)
            window.move_to(following)
