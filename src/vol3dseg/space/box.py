"""Boxes of voxels. All boxes are half-open: `start` belongs to them, `stop` does not."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import GridError

Shape = tuple[int, int, int]
_PAIR = re.compile(r"(-?[0-9]{1,9}):(-?[0-9]{1,9})")


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A half-open box along the axes i, j, k.

    Parameters
    ----------
    start, stop : (3,) tuple of int
        First voxel inside and first voxel outside, per axis; `start` may be negative and `stop` may
        lie beyond a volume where a box stands for a padded region.

    Raises
    ------
    GridError
        `stop` lies before `start`.
    """

    start: Shape
    stop: Shape

    def __post_init__(self) -> None:
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            found = f"box {self}: stop lies before start"
            raise GridError(found, expected="stop at or behind start", remedy="swap them")

    def __str__(self) -> str:
        return " ".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))

    @classmethod
    def parse(cls, text: str) -> "Box":
        """Return the box that prints as `text`."""
        pairs = [_PAIR.fullmatch(part) for part in text.split()]
        if len(pairs) != 3 or not all(pairs):
            raise GridError(
                f"{text!r} is not a box",
                expected="three start:stop pairs",
                remedy="write it like '0:4 0:4 0:4'",
            )
        ends = [(int(pair[1]), int(pair[2])) for pair in pairs if pair]
        return cls(_shape(a for a, _ in ends), _shape(b for _, b in ends))

    @classmethod
    def whole(cls, shape: Shape) -> "Box":
        """Return the box of a volume of `shape`."""
        return cls((0, 0, 0), shape)

    @classmethod
    def at(cls, start: Shape, shape: Shape) -> "Box":
        """Return the box of `shape` that begins at `start`."""
        return cls(start, _shape(a + n for a, n in zip(start, shape, strict=True)))

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> "Box | None":
        """Return the smallest box with every true voxel of `mask`, or None if none is true."""
        bounds = []
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            hits = np.flatnonzero(mask.any(axis=others))
            if hits.size == 0:
                return None
            bounds.append((int(hits[0]), int(hits[-1]) + 1))
        return cls(_shape(a for a, _ in bounds), _shape(b for _, b in bounds))

    @property
    def shape(self) -> Shape:
        """Voxels along each axis."""
        return _shape(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index into an array; meaningless where `start` is negative."""
        i, j, k = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    def shifted(self, offset: Sequence[int]) -> "Box":
        """Return the box moved by `offset` voxels."""
        start = _shape(a + d for a, d in zip(self.start, offset, strict=True))
        return Box.at(start, self.shape)

    def relative_to(self, origin: "Box") -> "Box":
        """Return the box in coordinates that count from the start of `origin`."""
        return self.shifted([-a for a in origin.start])

    def union(self, other: "Box") -> "Box":
        """Return the smallest box that holds both."""
        return Box(
            _shape(map(min, self.start, other.start)), _shape(map(max, self.stop, other.stop))
        )

    def intersection(self, other: "Box") -> "Box":
        """Return what both have in common; an empty box where that is nothing."""
        start = _shape(map(max, self.start, other.start))
        stop = _shape(map(max, start, map(min, self.stop, other.stop)))
        return Box(start, stop)


def _shape(values: Any) -> Shape:
    i, j, k = values
    return int(i), int(j), int(k)


def read_padded(source: Any, box: Box, fill: float = 0) -> NDArray[Any]:
    """Read `box` from `source`; voxels of the box that lie outside `source` get `fill`.

    Parameters
    ----------
    source : (i, j, k, ...) array or HDF5 dataset
        Only the part inside `box` is read.
    box : Box
        In voxels of `source`; may reach beyond it on every side.
    fill : float
        Value of the voxels outside.

    Returns
    -------
    (*box.shape, ...) array
    """
    shape = _shape(source.shape[:3])
    inside = box.intersection(Box.whole(shape))
    if inside == box:
        return np.asarray(source[box.slices])
    result = np.full((*box.shape, *source.shape[3:]), fill, dtype=source.dtype)
    if all(inside.shape):
        result[inside.relative_to(box).slices] = source[inside.slices]
    return result


def grid_boxes(shape: Shape, size: Shape, step: Shape) -> Iterator[Box]:
    """Cover a volume with boxes of one size on a regular grid.

    Origins are 0, step, 2 step, ...; the last one is moved back so that its box ends with the
    volume. Along an axis that is shorter than the box there is one box, with the volume in its
    middle (so its start is negative and the caller pads).

    Parameters
    ----------
    shape : (3,) tuple of int
        Voxels of the volume.
    size : (3,) tuple of int
        Voxels of a box.
    step : (3,) tuple of int
        Voxels between origins, 1 to `size`.

    Yields
    ------
    Box
        In order of i, then j, then k; together they hold every voxel of the volume.

    Raises
    ------
    GridError
        A step is smaller than 1 or larger than the box.
    """
    if any(not 1 <= s <= n for s, n in zip(step, size, strict=True)):
        raise GridError(
            f"step {step} does not fit boxes of {size}",
            expected="1 to the box's size",
            remedy="choose another step",
        )
    for start in product(*map(_origins, shape, size, step)):
        yield Box.at(_shape(start), size)


def _origins(extent: int, size: int, step: int) -> list[int]:
    if extent <= size:
        return [-((size - extent) // 2)]
    return [*range(0, extent - size, step), extent - size]
