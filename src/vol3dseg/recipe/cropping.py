"""Cropping to what is not zero: the box of a scan, and the same in an ONNX graph."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.axes import axis_maps
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.kernels import LINEAR, Kernel

if TYPE_CHECKING:
    from vol3dseg.recipe.graph_values import Value

AXES = (0, 1, 2)


def nonzero_box(
    array: NDArray[np.float32], source: Geometry, grid: Geometry, kernel: Kernel = LINEAR
) -> Box:
    """Return the box, in voxels of `grid`, of what is not zero in an (i, j, k) array on `source`.

    `source` has closest-canonical axes, and `grid` the same field of view. All voxels of `grid`
    that non-zero voxels influence by interpolation lie inside. Zeros alone have the whole grid as
    box.
    """
    box = Box.around(array != 0)
    if box is None:
        return Box.whole(grid.shape)
    maps = axis_maps(source, grid, kernel=kernel)
    ends = [m.influenced(a, b) for m, a, b in zip(maps, box.start, box.stop, strict=True)]
    start, stop = zip(*ends, strict=True)
    return Box(start, stop)


@dataclass(frozen=True, slots=True)
class WrittenBox:
    """A half-open box that a graph finds; `found` is (1,) int64, 1 if any voxel is not zero."""

    start: "Value"
    stop: "Value"
    found: "Value"

    def union(self, other: "WrittenBox") -> "WrittenBox":
        """Return the smallest box that contains both."""
        start, stop = self.start.at_most(other.start), self.stop.at_least(other.stop)
        return WrittenBox(start, stop, self.found.at_least(other.found))


def write_nonzero_box(image: "Value") -> WrittenBox:
    """Append the box of what is not zero in an (i, j, k) image to a graph.

    The first and the last largest of the marks along an axis are its ends, and also the ends of
    the whole axis where all marks are 0: so the rule for an image of zeros comes by itself.
    """
    marks = image.differs(0).to(np.uint8)
    first, last = [], []
    for axis in AXES:
        others = [a for a in AXES if a != axis]
        along = marks.then("ReduceMax", axes=others, keepdims=0)
        first.append(along.then("ArgMax", dtype=np.int64, axis=0))
        last.append(along.then("ArgMax", dtype=np.int64, axis=0, select_last_index=1))
    start, stop = (ends[0].joined(*ends[1:], axis=0) for ends in (first, last))
    return WrittenBox(start, stop + 1, along.then("ReduceMax", axes=[0]).to(np.int64))
