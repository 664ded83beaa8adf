"""Values of a case at places off its grid: of all modalities, and of the label map, at once.

Places are worked out once for all of them, slab by slab so that they stay in the processor's cache:
several times as quick as an interpolation of each array by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.box import Shape
from vol3dseg.training.warping import Floats, Image, Warp

Label = NDArray[np.uint8]
Index = NDArray[np.signedinteger]
_Places = tuple[Index, list[Image], NDArray[np.bool_], Index]
_SLAB = 2**15  # voxels
_MOST_INT32 = 2**30  # voxels of a part whose flat indices, and their neighbours', are int32


@dataclass(frozen=True, slots=True)
class CasePart:
    """A part of a case, from its voxel `start` on, and the `whole` shape of the case.

    `modalities` and `label` are contiguous (i, j, k) arrays.
    """

    modalities: Sequence[Image]
    label: Label
    start: Shape
    whole: Shape


def interpolated(part: CasePart, warp: Warp, offset: Floats, size: Shape) -> tuple[Image, Label]:
    """Return a (c, i, j, k) image, linear, and its (i, j, k) label, that of the nearest voxel.

    Farther than half a voxel from the outermost centres of the case both are 0, up to there the
    outermost values are repeated. What is in the part beyond `warp.reach` changes no bit.
    """
    image = np.empty((len(part.modalities), *size), np.float32)
    nearest = np.empty(size, np.uint8)
    step = max(1, _SLAB // (size[1] * size[2]))
    for first in range(0, size[0], step):
        slab = slice(first, min(first + step, size[0]))
        axes = np.ogrid[slab, : size[1], : size[2]]
        at = [axis.astype(np.float32) for axis in axes]
        if warp.bend is not None:
            at = [axis + moved[slab] for axis, moved in zip(at, warp.bend, strict=True)]
        start, shares, inside, near = _between(at, warp.matrix, offset, part)
        for modality, target in zip(part.modalities, image[:, slab], strict=True):
            np.multiply(_linear(modality, start, shares), inside, out=target)
        nearest[slab] = _taken(part.label, near) * inside
    return image, nearest


def _between(at: Sequence[Image], matrix: Floats, offset: Floats, part: CasePart) -> _Places:
    """Return for each voxel where it lies among those of a part of a case.

    The flat index of the voxel below and before it, how far it is from that along each axis,
    whether it is inside of the case at all, and the flat index of the nearest voxel.
    """
    integer: Any = np.int32 if part.label.size < _MOST_INT32 else np.int64
    start: Any = 0
    near: Any = 0
    inside: Any = True
    shares = []
    for axis, count in enumerate(part.whole):
        row = matrix[axis].astype(np.float32)
        place = (row[0] * at[0] + (row[1] * at[1] + np.float32(offset[axis]))) + row[2] * at[2]
        inside = inside & (place >= -0.5) & (place <= count - 0.5)
        np.clip(place, 0, count - 1, out=place)
        below = place.astype(integer)
        place -= below
        below -= part.start[axis]
        step = integer(np.prod(part.label.shape[axis + 1 :]))
        below *= step
        start, near = start + below, near + (below + (place > 0.5) * step)
        shares.append(place)
    return start, shares, inside, near


def _linear(source: Image, start: Index, shares: Sequence[Image]) -> Image:
    """Interpolate between the eight voxels around each place.

    Where a place lies upon the last voxel along an axis, the next is another or none: its weight
    is 0.
    """
    rows, columns = source.shape[1] * source.shape[2], source.shape[2]

    def along_last(shift: int) -> Image:
        return _mixed(_taken(source, start + shift), _taken(source, start + (shift + 1)), shares[2])

    def along_two(shift: int) -> Image:
        return _mixed(along_last(shift), along_last(shift + columns), shares[1])

    return _mixed(along_two(0), along_two(rows), shares[0])


def _mixed(first: Image, second: Image, share: Image) -> Image:
    """Return `first` with so much of `second`; both are used up."""
    second -= first
    second *= share
    first += second
    return first


def _taken(source: NDArray[Any], index: Index) -> NDArray[Any]:
    return source.reshape(-1).take(index, mode="clip")
