"""Which patches of a prepared case hold how much of each class, counted once and kept with it.

One row for each patch of a grid: three columns with the origin, then the voxels of each class;
those that are ignored count in none.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.box import Box, Shape, grid_boxes

# Columns of a table.
ORIGIN, VOXELS, FOREGROUND = slice(0, 3), slice(3, None), slice(4, None)


def patch_step(patch_size: Shape) -> Shape:
    """Return the distance between the origins of stored patches: half a patch [voxels]."""
    i, j, k = (max(1, n // 2) for n in patch_size)
    return i, j, k


def patch_table(label: NDArray[np.uint8], size: Shape, classes: int) -> NDArray[np.int64]:
    """Return the table of an (i, j, k) label map, with origins in its own voxels."""
    rows = []
    for box in grid_boxes(label.shape, size, patch_step(size)):
        inside = label[box.intersection(Box.whole(label.shape)).slices]
        rows.append([*box.start, *np.bincount(inside.ravel(), minlength=classes)[:classes]])
    return np.array(rows, dtype=np.int64)


def subset_boxes(boxes: Sequence[Box]) -> list[Box]:
    """Return each box that some choice of modalities spans, given the box of each modality."""
    found: set[Box] = set()
    for box in boxes:
        found |= {box} | {box.union(other) for other in found}
    return sorted(found)
