"""Which tiles a network is run on: the cheapest that fit into memory, and what they cost.

Where outputs depend on their receptive field alone (`Network.local`), a tile with a halo as wide as
that gives what one pass over the whole volume would give. Tiles begin at multiples of the network's
divisor, so that pooling takes the same voxels together, and end where the padded volume ends, so
that the network's own padding lies where it would lie in one pass. Elsewhere tiles are training
patches, and overlapping ones are blended.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import MemoryLimitError, ModelError
from vol3dseg.inference.tiling.cuts import cuts_of, multiple_of, places_on
from vol3dseg.model.manifest import Manifest
from vol3dseg.space.box import Box, Shape, grid_boxes

# Widths of a halo to be tried where one as wide as the receptive field costs too much [voxels].
_NARROWER = (64, 48, 32, 16)
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
        Of a tile, halo included [voxels].
    step : (3,) tuple of int
        From tile to tile, where there are several [voxels].
    halo : int
        Computed around a tile and thrown away, on each side inside the volume [voxels].
    blended : bool
        Whether overlapping tiles are averaged by Gaussian weights.
    exact : bool
        Whether the result equals one pass over the whole volume.
    computed : int
        Voxels of all tiles together.
    memory_mb : float
        Of the network for a tile, and of unfinished rows of the result [MB].
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
        if self.blended:
            whole = Box.whole(self.shape)
            boxes = grid_boxes(self.shape, self.size, self.step)
            return [Tile(box, box.intersection(whole)) for box in boxes]
        axes = zip(self.padded, self.size, self.shape, strict=True)
        places = product(*(places_on(n, size, self.halo, kept) for n, size, kept in axes))
        return [Tile(_box(read for read, _ in p), _box(keep for _, keep in p)) for p in places]

    def __str__(self) -> str:
        count, size = self.computed // math.prod(self.size), "x".join(map(str, self.size))
        if self.blended:
            what = f"{count} tiles of {size} voxels, {'x'.join(map(str, self.step))} apart, blended"
        elif count == 1:
            what = f"one pass over {size} voxels"
        else:
            result = "equal to one pass" if self.exact else "close to one pass, not equal"
            what = f"{count} tiles of {size} voxels with a halo of {self.halo}: {result}"
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
    fixed_mb : float
        What the network takes whatever the tile [MB].
    only_exact : bool
        Whether to take nothing but what equals one pass, however dear.

    Raises
    ------
    ModelError
        `only_exact`, but outputs depend on the whole tile.
    """

    manifest: Manifest
    bytes_per_voxel: float
    most_mb: float = math.inf
    fixed_mb: float = 0.0
    only_exact: bool = False

    def __post_init__(self) -> None:
        if self.only_exact and not self.manifest.network.local:
            raise ModelError(
                "no tiling of this model is exact: its norm takes its statistics from the whole "
                "tile; leave --exact away, or train with model.norm: batch"
            )

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
        blended = [plan for plan in self._blended(shape) if plan.memory_mb <= memory_mb]
        plans = [plan for plan in [*plans, *blended[:1]] if plan.exact or not self.only_exact]
        if not plans:
            smallest = self._blended(shape)[-1]
            raise MemoryLimitError(
                f"a volume of {'x'.join(map(str, shape))} voxels needs more than the "
                f"{max(memory_mb, 0):.0f} MB that are left; {smallest.memory_mb:.0f} MB would do "
                f"for {smallest}; raise --max-memory, close other programs, use --precision "
                f"bfloat16{', or leave --exact away' if self.only_exact else ''}"
            )
        least = min(plan.computed for plan in plans)
        return next(plan for plan in plans if plan.computed <= _DEARER * least)

    def blended(self, shape: Shape) -> Plan:
        """Return the plan with overlapping training patches, whatever it needs."""
        return self._blended(shape)[0]

    def _blended(self, shape: Shape) -> list[Plan]:
        """Return plans with overlapping tiles: of training patches; of smaller ones, if local."""
        patch, divisor = self.manifest.recipe.patch_size, self.manifest.network.divisor
        longest = max(patch)
        smallest = 0 if self.manifest.network.local else longest - 1
        sides = range(longest, smallest, -divisor)
        a, b, c = patch
        sizes = [(min(a, side), min(b, side), min(c, side)) for side in sides]
        return [self._with_overlap(shape, size) for size in sizes]

    def _with_overlap(self, shape: Shape, size: Shape) -> Plan:
        i, j, k = (max(1, round(n * (1 - self.manifest.overlap))) for n in size)
        step = (i, j, k)
        count = math.prod(
            1 if extent <= side else 1 + -(-(extent - side) // each)
            for extent, side, each in zip(shape, size, step, strict=True)
        )
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
            memory_mb=math.prod(size) * self.bytes_per_voxel / _MB + rows_mb + self.fixed_mb,
        )

    def with_halo(self, shape: Shape, halo: int, memory_mb: float) -> Plan | None:
        """Return the cheapest plan with a halo of at least this width, None if none fits."""
        network = self.manifest.network
        wide = multiple_of(halo, network.divisor)
        return self._cheapest(shape, wide, wide >= network.receptive_field, memory_mb)

    def _with_halo(self, shape: Shape, memory_mb: float) -> list[Plan]:
        """Return the cheapest plan for each width of the halo that fits, the widest first."""
        network = self.manifest.network
        exact = multiple_of(network.receptive_field, network.divisor)
        halos = [exact, *(n for n in _NARROWER if multiple_of(n, network.divisor) < exact)]
        found = (self.with_halo(shape, halo, memory_mb) for halo in halos)
        return [plan for plan in found if plan is not None]

    def _cheapest(self, shape: Shape, halo: int, exact: bool, memory_mb: float) -> Plan | None:
        divisor = self.manifest.network.divisor
        i, j, k = (multiple_of(n, divisor) for n in shape)
        padded = (i, j, k)
        cuts = [cuts_of(n, divisor, halo) for n in padded]
        computed = _products([[cut.computed for cut in axis] for axis in cuts])
        voxels = _products([[cut.size for cut in axis] for axis in cuts])
        rows_mb = np.array([self._rows_mb(cut.size, shape, self._classes) for cut in cuts[0]])
        memory = voxels * self.bytes_per_voxel / _MB + rows_mb[:, None, None] + self.fixed_mb
        memory[0, 0, 0] -= rows_mb[0]  # of one pass the network's own answer is the result
        fitting = np.where(memory <= memory_mb, computed, np.inf)
        best = np.unravel_index(fitting.argmin(), fitting.shape)
        if not np.isfinite(fitting[best]):
            return None
        a, b, c = (axis[int(n)] for axis, n in zip(cuts, best, strict=True))
        return Plan(
            shape=shape,
            padded=padded,
            size=(a.size, b.size, c.size),
            step=(a.step(halo), b.step(halo), c.step(halo)),
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


def _box(ranges: Iterable[range]) -> Box:
    i, j, k = ranges
    return Box((i.start, j.start, k.start), (i.stop, j.stop, k.stop))


def _products(axes: list[list[int]]) -> NDArray[np.float64]:
    """Return the (a, b, c) products of one number of each axis."""
    a, b, c = (np.array(axis, dtype=np.float64) for axis in axes)
    return a[:, None, None] * b[:, None] * c
