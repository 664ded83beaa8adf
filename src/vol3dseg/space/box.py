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
_BOX = re.compile(" ".join([r"(-?[0-9]{1,9}):(-?[0-9]{1,9})"] * 3))


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A half-open box along the axes i, j, k.

    `start` is the first voxel inside and may be negative, `stop` the first outside and may lie
    beyond a volume, where a box stands for a padded region; GridError: `stop` lies before `start`.
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
        found = _BOX.fullmatch(" ".join(text.split()))
        if found is None:
            wanted, remedy = "three start:stop pairs", "write it like '0:4 0:4 0:4'"
            raise GridError(f"{text!r} is not a box", expected=wanted, remedy=remedy)
        return cls(_shape(found.groups()[::2]), _shape(found.groups()[1::2]))

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
        hits = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        if not hits[0].size:
            return None
        return cls(_shape(n[0] for n in hits), _shape(n[-1] + 1 for n in hits))

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
    """Return `box` of an (i, j, k, ...) array or HDF5 dataset, with `fill` outside of it.

    Only the part inside `box` is read.
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
    """Cover a volume with boxes of one size on a regular grid, in order of i, then j, then k.

    Origins are 0, step, 2 step, ...; the last one is moved back so that its box ends with the
    volume. Along an axis that is shorter than the box there is one box, with the volume in its
    middle (so its start is negative and the caller pads). GridError: a step is not 1 to `size`.
    """
    if any(not 1 <= s <= n for s, n in zip(step, size, strict=True)):
        found, wanted = f"step {step} does not fit boxes of {size}", "1 to the box's size"
        raise GridError(found, expected=wanted, remedy="choose another step")
    for start in product(*map(origins, shape, size, step)):
        yield Box.at(_shape(start), size)


def origins(extent: int, size: int, step: int) -> list[int]:
    """Return where the boxes of `grid_boxes` begin along an axis."""
    if extent <= size:
        return [-((size - extent) // 2)]
    return [*range(0, extent - size, step), extent - size]
