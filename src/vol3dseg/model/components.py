"""Post-processing of a label map: components are removed and holes filled, in place."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.extras import load_extra
from vol3dseg.model.postprocessing import (
    Change,
    FillHoles,
    KeepLargest,
    RemoveSmall,
    Step,
    members_of,
)
from vol3dseg.space.box import Box
from vol3dseg.space.labels import Segmentation

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Components = NDArray[np.integer]
Sizes = NDArray[np.int64]
# Peak beside the label map, in each voxel of it: two masks, components, and what finds them.
# tests/test_postprocessing.py measures it on noise, which has the most components.
BYTES_PER_VOXEL = 9
_PORTION = 2**20  # voxels that are counted at once
_ROUNDING = 1e-6  # a component of just the smallest volume stays


def postprocess(segmentation: Segmentation, steps: Iterable[Step]) -> tuple[Change, ...]:
    """Do the steps to a label map, in order and in place; return what each has changed.

    Volumes are those of the map's own grid. "First in memory" is the order of i, then j, then k.
    """
    labels, array = segmentation.labels, segmentation.array
    voxel_ml = segmentation.geometry.voxel_volume_mm3 / 1000
    changes = []
    for number, step in enumerate(steps, start=1):
        pieces, voxels = 0, 0
        found = crop_to(array, members_of(step.of, labels))
        if found is not None:
            box, mask = found
            part = array[box.slices]
            if isinstance(step, FillHoles):
                pieces, chosen = _filled(mask, part)
            else:
                pieces, chosen = _removed(mask, step, voxel_ml)
            voxels = int(np.count_nonzero(chosen))
            part[chosen] = labels.index(step.becomes)
            del found, mask, chosen
        changes.append(Change(step=number, what=str(step), pieces=pieces, voxels=voxels))
    return tuple(changes)


def crop_to(array: Labels, members: Iterable[int]) -> tuple[Box, Mask] | None:
    """Return the box around some classes, and where they are in it; None where there are none."""
    table = np.zeros(256, dtype=np.bool_)
    table[list(members)] = True
    mask = looked_up(table, array)
    box = Box.around(mask)
    return None if box is None else (box, np.ascontiguousarray(mask[box.slices]))


def component_library() -> Any:
    """Return the package that finds components; `MissingExtraError` where it is not installed."""
    # 19 MB that only models with post-processing need, and whoever judges lesions.
    return load_extra("cc3d", "postprocess")


def components(mask: Mask, connectivity: int = 26) -> tuple[Components, Sizes]:
    """Return the component of each voxel, from 1 on in memory's order, and the voxels of each.

    Voxels hang together by faces (6 neighbours), edges too (18), or corners too (26); what is not
    in the mask is component 0.
    """
    odd = [(0, side % 2) for side in mask.shape]
    if any(more for _, more in odd):  # cc3d 4.1 makes room for one component in 2 x 2 x 2 voxels
        mask = np.pad(mask, odd)
    found, count = component_library().connected_components(
        mask, connectivity=connectivity, binary_image=True, return_N=True
    )
    i, j, k = (side - more for side, (_, more) in zip(mask.shape, odd, strict=True))
    return found[:i, :j, :k], _sizes(found, count)


def holes(mask: Mask) -> tuple[Components, Mask]:
    """Return the components of what is not in a mask, and which of them no face touches.

    The mask, which is inverted, touches all faces of its array, so what is beyond is outside.
    """
    np.logical_not(mask, out=mask)
    found, count = component_library().connected_components(
        mask, connectivity=6, binary_image=True, return_N=True
    )
    enclosed = np.ones(count + 1, dtype=np.bool_)
    enclosed[0] = False
    for axis in range(3):
        for end in (0, -1):
            enclosed[found.take(end, axis)] = False
    return found, enclosed


def not_largest(sizes: Sizes) -> Mask:
    """Return which components, by their voxels, are not the largest; of equals the first is."""
    gone = np.ones(sizes.size, dtype=np.bool_)
    gone[[0, 1 + int(sizes[1:].argmax())]] = False
    return gone


def smaller(sizes: Sizes, voxel_ml: float, volume_ml: float) -> Mask:
    """Return which components, by their voxels, are smaller than a volume by more than rounding."""
    gone = np.asarray(sizes * voxel_ml < volume_ml * (1 - _ROUNDING))
    gone[0] = False
    return gone


def looked_up(table: Mask, numbers: NDArray[np.integer]) -> Mask:
    """Return `table[numbers]`, plane by plane: NumPy turns indices into eight bytes each."""
    mask = np.empty(numbers.shape, dtype=np.bool_)
    for plane, of in zip(mask, numbers, strict=True):
        plane[:] = table[of]
    return mask


def _removed(mask: Mask, step: KeepLargest | RemoveSmall, voxel_ml: float) -> tuple[int, Mask]:
    """Return how many components a step removes, and their voxels."""
    found, sizes = components(mask)
    if isinstance(step, KeepLargest):
        gone = not_largest(sizes)
    else:
        gone = smaller(sizes, voxel_ml, step.volume_ml)
    return int(gone.sum()), looked_up(gone, found)


def _filled(mask: Mask, part: Labels) -> tuple[int, Mask]:
    """Return how many holes have background in them, and its voxels."""
    found, enclosed = holes(mask)
    chosen = looked_up(enclosed, found)
    filled = np.zeros(enclosed.size, dtype=np.bool_)
    for plane, of, labels in zip(chosen, found, part, strict=True):
        plane &= labels == 0
        filled[of[plane]] = True
    return int(filled.sum()), chosen


def _sizes(found: Components, count: int) -> Sizes:
    """Return the voxels of each component, those of none first."""
    sizes = np.zeros(count + 1, dtype=np.int64)
    flat = found.ravel()
    portion = max(_PORTION, sizes.size)
    for start in range(0, flat.size, portion):  # the whole would be turned into eight bytes each
        sizes += np.bincount(flat[start : start + portion], minlength=sizes.size)
    return sizes
