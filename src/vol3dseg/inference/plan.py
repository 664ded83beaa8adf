"""Which tiles a network is run on: the cheapest that fit into memory, and what they cost.

Where outputs depend on their receptive field alone (`Network.local`), a tile with a halo as wide as
that gives what one pass over the whole volume would give. Tiles begin at multiples of the network's
divisor, so that pooling takes the same voxels together, and end where the padded volume ends, so
that the network's own padding lies where it would lie in one pass. Elsewhere tiles are training
patches, and overlapping ones are blended.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import MemoryLimitError
from vol3dseg.inference.manifest import Manifest
from vol3dseg.volumes.box import Box, Shape, grid_boxes

# Widths of a halo to be tried where one as wide as the receptive field costs too much [voxels].
_NARROWER = (64, 48, 32)
# Computed voxels, over those with the narrowest halo: more is too much.
_DEARER = 1.5
_FLOAT = 4  # bytes
_MB = 2**20


@dataclass(frozen=True, slots=True)
class Tile:
    """What the network is run on, and which part of its answer is used.

    Parameters
    ----------
    read : Box
        Input, in voxels of the volume; beyond the volume are zeros.
    keep : Box
        Output that is used, inside `read` and inside the volume.
    """

    read: Box
    keep: Box


@dataclass(frozen=True, slots=True)
class Plan:
    """How a volume goes through a network.

    Parameters
    ----------
    shape : (3,) tuple of int
        The volume [voxels].
    padded : (3,) tuple of int
        The volume with the zeros behind it, where tiles with a halo end [voxels].
    size : (3,) tuple of int
        Of the largest tile, halo included [voxels].
    step : (3,) tuple of int
        From tile to tile [voxels]; a tile without its halo has this size.
    halo : int
        Computed around a tile and thrown away, on each side inside the volume [voxels].
    blended : bool
        Whether overlapping tiles are averaged by Gaussian weights.
    exact : bool
        Whether the result equals one pass over the whole volume.
    computed : int
        Voxels of all tiles together.
    memory_mb : float
        Of the network for the largest tile, and of unfinished rows of the result [MB].
    """

    shape: Shape
    padded: Shape
    size: Shape
    step: Shape
    halo: int
    blended: bool
    exact: bool
    computed: int
    memory_mb: float

    @property
    def tiles(self) -> list[Tile]:
        """All tiles, in order of i, then j, then k; together they keep every voxel."""
        whole = Box.whole(self.shape)
        if self.blended:
            boxes = grid_boxes(self.shape, self.size, self.step)
            return [Tile(box, box.intersection(whole)) for box in boxes]
        axes = [_reads(n, s, self.halo) for n, s in zip(self.padded, self.step, strict=True)]
        a, b, c = (range(0, n, s) for n, s in zip(self.padded, self.step, strict=True))
        return [
            Tile(_box(reads), Box.at(start, self.step).intersection(whole))
            for reads, start in zip(product(*axes), product(a, b, c), strict=True)
        ]

    def __str__(self) -> str:
        count, size = len(self.tiles), "x".join(map(str, self.size))
        if self.blended:
            what = f"{count} tiles of {size} voxels, {'x'.join(map(str, self.step))} apart, blended"
        elif count == 1:
            what = f"one pass over {size} voxels"
        else:
            result = "equal to one pass" if self.exact else "close to one pass, not equal"
            what = f"{count} tiles of up to {size} voxels with a halo of {self.halo}: {result}"
        times = self.computed / math.prod(self.shape)
        return f"{what}; {times:.2f} times the volume is computed, in {self.memory_mb:.0f} MB"


@dataclass(frozen=True, slots=True)
class Planner:
    """Chooses the plan for a volume.

    Parameters
    ----------
    manifest : Manifest
        Tells the network's divisor and receptive field, the patch, the overlap of blended tiles.
    bytes_per_voxel : float
        What the network needs for each voxel of a tile.
    most_mb : float
        What the network may take at most, whatever is left [MB].
    """

    manifest: Manifest
    bytes_per_voxel: float
    most_mb: float = math.inf

    def plan(self, shape: Shape, memory_mb: float) -> Plan:
        """Return the plan that computes least within `memory_mb`; the widest halo of about equals.

        Parameters
        ----------
        shape : (3,) tuple of int
            Of the prepared volume [voxels].
        memory_mb : float
            What network and unfinished rows may take [MB].

        Raises
        ------
        MemoryLimitError
            No plan fits; the message says what the smallest one needs.
        """
        memory_mb = min(memory_mb, self.most_mb)
        plans = self._with_halo(shape, memory_mb) if self.manifest.network.local else []
        if plans:
            least = plans[-1].computed
            return next(plan for plan in plans if plan.computed <= _DEARER * least)
        blended = self.blended(shape)
        if blended.memory_mb > memory_mb:
            raise MemoryLimitError(
                f"a volume of {'x'.join(map(str, shape))} voxels needs at least "
                f"{blended.memory_mb:.0f} MB for {blended}, and {max(memory_mb, 0):.0f} MB are "
                "left; raise --max-memory, close other programs, or use --precision bfloat16"
            )
        return blended

    def blended(self, shape: Shape) -> Plan:
        """Return the plan with overlapping training patches, whatever it needs."""
        size = self.manifest.recipe.patch_size
        i, j, k = (max(1, round(n * (1 - self.manifest.overlap))) for n in size)
        step = (i, j, k)
        count = sum(1 for _ in grid_boxes(shape, size, step))
        rows_mb = self._rows_mb(size[0], shape, numbers=self._classes + 1)
        return Plan(
            shape=shape,
            padded=shape,
            size=size,
            step=step,
            halo=0,
            blended=True,
            exact=False,
            computed=count * math.prod(size),
            memory_mb=math.prod(size) * self.bytes_per_voxel / _MB + rows_mb,
        )

    def _with_halo(self, shape: Shape, memory_mb: float) -> list[Plan]:
        """Return the cheapest plan for each width of the halo that fits, the widest first."""
        network = self.manifest.network
        exact = _multiple(network.receptive_field, network.divisor)
        narrower = (_multiple(n, network.divisor) for n in _NARROWER)
        halos = [exact, *(n for n in narrower if n < exact)]
        found = (self._cheapest(shape, halo, halo == exact, memory_mb) for halo in halos)
        return [plan for plan in found if plan is not None]

    def _cheapest(self, shape: Shape, halo: int, exact: bool, memory_mb: float) -> Plan | None:
        divisor = self.manifest.network.divisor
        i, j, k = (_multiple(n, divisor) for n in shape)
        padded = (i, j, k)
        cuts = [_cuts(n, divisor, halo) for n in padded]
        computed = _products([[cut.computed for cut in axis] for axis in cuts])
        voxels = _products([[cut.largest for cut in axis] for axis in cuts])
        rows_mb = np.array([self._rows_mb(cut.step, shape, self._classes) for cut in cuts[0]])
        memory = voxels * self.bytes_per_voxel / _MB + rows_mb[:, None, None]
        memory[0, 0, 0] -= rows_mb[0]  # of one pass the network's own answer is the result
        fitting = np.where(memory <= memory_mb, computed, np.inf)
        best = np.unravel_index(fitting.argmin(), fitting.shape)
        if not np.isfinite(fitting[best]):
            return None
        a, b, c = (axis[int(n)] for axis, n in zip(cuts, best, strict=True))
        return Plan(
            shape=shape,
            padded=padded,
            size=(a.largest, b.largest, c.largest),
            step=(a.step, b.step, c.step),
            halo=halo,
            blended=False,
            exact=exact or (a.count, b.count, c.count) == (1, 1, 1),
            computed=int(computed[best]),
            memory_mb=float(memory[best]),
        )

    @property
    def _classes(self) -> int:
        return len(self.manifest.labels.classes)

    def _rows_mb(self, rows: int, shape: Shape, numbers: int) -> float:
        """Return the memory of rows of the result that wait for their neighbours [MB]."""
        return rows * shape[1] * shape[2] * numbers * _FLOAT / _MB


@dataclass(frozen=True, slots=True)
class _Cut:
    """One way to cut an axis: pieces of `step` voxels, with halo `largest`, `computed` in all."""

    count: int
    step: int
    largest: int
    computed: int


def _cuts(extent: int, divisor: int, halo: int) -> list[_Cut]:
    """Return every way to cut an axis, from one piece on."""
    units = extent // divisor
    steps = sorted({divisor * -(-units // count) for count in range(1, units + 1)}, reverse=True)
    cuts = []
    for step in steps:
        lengths = [stop - start for start, stop in _reads(extent, step, halo)]
        cuts.append(_Cut(len(lengths), step, max(lengths), sum(lengths)))
    return cuts


def _reads(extent: int, step: int, halo: int) -> list[tuple[int, int]]:
    """Return what each piece of an axis reads: itself and the halo, as far as there is volume."""
    starts = range(0, extent, step)
    return [(max(0, start - halo), min(extent, start + step + halo)) for start in starts]


def _box(ranges: tuple[tuple[int, int], ...]) -> Box:
    (a, b), (c, d), (e, f) = ranges
    return Box((a, c, e), (b, d, f))


def _multiple(extent: int, divisor: int) -> int:
    return divisor * -(-extent // divisor)


def _products(axes: list[list[int]]) -> NDArray[np.float64]:
    """Return the (a, b, c) products of one number of each axis."""
    a, b, c = (np.array(axis, dtype=np.float64) for axis in axes)
    return a[:, None, None] * b[:, None] * c
