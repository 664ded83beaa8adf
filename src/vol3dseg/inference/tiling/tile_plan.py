"""A plan: the tiles that a volume goes through a network in, and how an axis is divided into them.

All tiles of a plan have one size, for which runtimes make their code once.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from vol3dseg.space.box import Box, Shape, origins

_AVERAGED = "outputs of several networks are averaged before they are blended, not after"


@dataclass(frozen=True, slots=True)
class Tile:
    """What the network is run on, and which part of its answer is used."""

    read: Box  # input, in voxels of the volume; beyond the volume are zeros
    keep: Box  # output that is used, inside `read` and inside the volume


@dataclass(frozen=True, slots=True)
class Plan:
    """How a volume goes through a network.

    Parameters
    ----------
    shape : (3,) tuple of int
        The volume [voxels].
    size : (3,) tuple of int
        Of a tile, halo included [voxels].
    computed : int
        Voxels of all tiles together.
    memory_mb : float
        Of the network for a tile, and of unfinished rows of the result [MB].
    padded : (3,) tuple of int
        The volume with the zeros behind it, where tiles with a halo end [voxels].
    step : (3,) tuple of int or None
        From tile to tile, where tiles overlap and are averaged by Gaussian weights [voxels].
    spread : float or None
        The most from tile to tile, as a share of their side, where they are spread evenly instead.
    halo : (3,) tuple of int
        Computed around a tile and thrown away, on each side inside the volume [voxels].
    exact : bool
        Whether the result equals one pass over the whole volume.
    cost : str
        What makes labels differ from those of one pass; empty where they do not, and where the
        network knows training patches only.
    views : int
        Mirrored ones of each tile that the network runs on, the tile itself among them.
    order : (3,) tuple of int
        Axes from the slowest to the fastest; rows of the result come along the first.
    members_apart : int
        Networks whose outputs are blended each by itself, and averaged then.
    averaged : bool
        Whether they are averaged tile by tile instead, since memory is short.
    bands : tuple of range
        Voxels along `band_axis` that are blended one range after the other, all rows of each, since
        memory is short; tiles that lie in two are computed twice.
    told : int
        Networks whose outputs come behind those of their mean, to be compared.
    """

    shape: Shape
    size: Shape
    computed: int
    memory_mb: float
    padded: Shape
    step: Shape | None = None
    spread: float | None = None
    halo: Shape = (0, 0, 0)
    exact: bool = False
    cost: str = ""
    views: int = 1
    order: Shape = (0, 1, 2)
    members_apart: int = 1
    averaged: bool = False
    bands: tuple[range, ...] = ()
    told: int = 0

    @property
    def blended(self) -> bool:
        """Whether overlapping tiles are averaged."""
        return self.step is not None

    @property
    def row_axes(self) -> Shape:
        """Axes of the volume in the order in which rows of the result have them."""
        first, *others = self.order[0], *sorted(self.order[1:])
        return first, others[0], others[1]

    @property
    def band_axis(self) -> int:
        """The longest axis across rows."""
        return max(self.row_axes[1:], key=lambda axis: self.shape[axis])

    @property
    def parts(self) -> "list[Plan]":
        """A plan for each band; itself where there is one at most."""
        return [replace(self, bands=(band,)) for band in self.bands] or [self]

    @property
    def box(self) -> Box:
        """What is blended: of bands also the voxel behind them, which is interpolated with them."""
        start, stop = [0, 0, 0], list(self.shape)
        if self.bands:
            axis = self.band_axis
            start[axis] = self.bands[0].start
            stop[axis] = min(self.bands[-1].stop + 1, self.shape[axis])
        return Box(_three(start), _three(stop))

    @property
    def warning(self) -> str:
        """What it costs in agreement, as is told of every case; empty if it costs nothing."""
        if self.averaged:
            return f"labels may differ from those with more memory: {_AVERAGED}"
        return self.cost and f"labels may differ from those of one pass: {self.cost}"

    @property
    def tiles(self) -> list[Tile]:
        """All tiles, in the order of the axes; together they keep every voxel of `box`."""
        if self.step:
            boxes = [Box.at(start, self.size) for start in product(*self.starts)]
            boxes.sort(key=lambda box: [box.start[axis] for axis in self.order])
            tiles = [Tile(box, box.intersection(self.box)) for box in boxes]
            return [tile for tile in tiles if math.prod(tile.keep.shape)]
        axes = zip(self.padded, self.size, self.halo, self.shape, strict=True)
        places = product(*(_places(n, size, halo, kept) for n, size, halo, kept in axes))
        return [Tile(_box(read for read, _ in p), _box(keep for _, keep in p)) for p in places]

    @property
    def starts(self) -> tuple[list[int], list[int], list[int]]:
        """Where overlapping tiles begin along each axis."""
        axes = zip(self.shape, self.size, self.step or self.size, strict=True)
        i, j, k = (
            origins(extent, side, step)
            if self.spread is None
            else spread_evenly(extent, side, self.spread)
            for extent, side, step in axes
        )
        return i, j, k

    @property
    def what(self) -> str:
        """What is run, as text."""
        count, size = self.computed // math.prod(self.size), by(self.size)
        views = f", in {self.views} mirrored views" if self.views > 1 else ""
        if self.step:
            apart = f"{'' if self.spread is None else 'at most '}{by(self.step)} apart"
            if count == 1:
                return f"one tile of {size} voxels{views}"
            bands = f" in {len(self.bands)} bands" if self.bands else ""
            return f"{count} tiles of {size} voxels, {apart}, blended{bands}{views}"
        if count == 1:
            return f"one pass over {size} voxels{views}"
        halo = by(self.halo) if len(set(self.halo)) > 1 else self.halo[0]
        return f"{count} tiles of {size} voxels with a halo of {halo}{views}"

    def __str__(self) -> str:
        result = ""
        if self.computed > math.prod(self.size) and not self.step:
            result = ": equal to one pass" if self.exact else ": close to one pass, not equal"
        times = self.computed * self.views / math.prod(self.shape)
        cost = f"{times:.2f} times the volume is computed, in {self.memory_mb:.0f} MB"
        return f"{self.what}{result}; {cost}"


def by(shape: Shape) -> str:
    """Return a shape as text, "64x48x32" for example."""
    return "x".join(map(str, shape))


def divisions(extent: int, divisor: int, halo: int) -> list[tuple[int, int]]:
    """Return every way to divide an axis that makes sense: how many tiles, of which size.

    At the ends of the axis a tile needs no halo, so there it keeps that much more.
    """
    found, inner = [(1, extent)], extent - 2 * halo
    for count in range(2, max(inner, 0) // divisor + 1):
        kept = multiple_of(-(-inner // count), divisor)
        if kept + 2 * halo < found[-1][1]:
            found.append((-(-inner // kept), kept + 2 * halo))
    return found


def spread_evenly(extent: int, side: int, share: float) -> list[int]:
    """Return where tiles of an axis begin that are spread over it, at most this share apart.

    Places are rounded to the next voxel, halves to an even one, as in nnU-Net's
    `compute_steps_for_sliding_window`. One tile with the volume in its middle covers a short axis.
    """
    if extent <= side:
        return [-((side - extent) // 2)]
    count = math.ceil((extent - side) / (side * share)) + 1
    return [int(np.rint((extent - side) / (count - 1) * number)) for number in range(count)]


def multiple_of(extent: int, divisor: int) -> int:
    """Return the least multiple of `divisor` that is no less than `extent`."""
    return divisor * -(-extent // divisor)


def multiples(shape: Shape, divisor: Shape) -> Shape:
    """Return the least multiples of `divisor` that are no less than `shape`, along each axis."""
    i, j, k = (multiple_of(n, d) for n, d in zip(shape, divisor, strict=True))
    return i, j, k


def _places(extent: int, size: int, halo: int, kept: int) -> list[tuple[range, range]]:
    """Return what each tile of an axis reads, and what it keeps of the first `kept` voxels."""
    step = size - 2 * halo
    count = 1 if size == extent else -(-(extent - 2 * halo) // step)
    starts = [min(n * step, extent - size) for n in range(count)]
    edges = [0, *(start + size - halo for start in starts[:-1]), kept]
    return [
        (range(start, start + size), range(min(low, kept), min(high, kept)))
        for start, low, high in zip(starts, edges, edges[1:], strict=False)
    ]


def _three(numbers: list[int]) -> Shape:
    i, j, k = numbers
    return i, j, k


def _box(ranges: Iterable[range]) -> Box:
    i, j, k = ranges
    return Box((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
