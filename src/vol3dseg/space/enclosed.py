"""What a mask encloses: holes that no path of voxels, from face to face, leads out of.

Rows of voxels are bits of 64-bit words. What is outside spreads from the array's faces into all
that is not in the mask: whole planes forwards and backwards along two axes, and within words along
the third, until nothing changes. Each turn takes an eighth of a byte for each voxel, and a few
turns do for anatomy; only a maze takes many.
"""

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.memory_layout import slowest_first

_WORD = 64
Words = NDArray[np.uint64]


def fill_holes(mask: NDArray[np.bool_]) -> None:
    """Add to an (i, j, k) mask, in place, what it encloses; beyond the array is outside."""
    rows = mask.transpose(slowest_first(mask))
    size = rows.shape[2]
    open_ = _packed(rows)
    outside = np.zeros_like(open_)
    for face in (outside[0], outside[-1], outside[:, 0], outside[:, -1]):
        face[...] = ~np.uint64(0)
    outside[..., 0] |= np.uint64(1)
    outside[..., -1] |= np.uint64(1) << np.uint64((size - 1) % _WORD)
    outside &= open_
    reached = -1
    while (now := int(np.bitwise_count(outside).sum(dtype=np.int64))) != reached:
        reached = now
        for axis in (0, 1):
            _spread_over_planes(np.moveaxis(outside, axis, 0), np.moveaxis(open_, axis, 0))
        for row, way in zip(outside, open_, strict=True):
            _spread_along_words(row, way)
    for plane, words in zip(rows, outside, strict=True):
        plane |= ~_unpacked(words, size)


def _packed(rows: NDArray[np.bool_]) -> Words:
    """Return what is not in the mask as bits of (i, j, word), those behind a row's end 0."""
    i, j, k = rows.shape
    packed = np.zeros((i, j, -(-k // _WORD) * (_WORD // 8)), dtype=np.uint8)
    for plane, of in zip(packed, rows, strict=True):
        bits = np.packbits(~of, axis=1, bitorder="little")
        plane[:, : bits.shape[1]] = bits
    return packed.view("<u8").astype(np.uint64, copy=False)


def _unpacked(words: Words, size: int) -> NDArray[np.bool_]:
    octets = words.astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=size, bitorder="little").view(np.bool_)


def _spread_over_planes(outside: Words, open_: Words) -> None:
    """Go from plane to plane along the first axis, forwards and backwards."""
    for way in (slice(None), slice(None, None, -1)):
        planes = outside[way]
        for before, plane, passage in zip(planes, planes[1:], open_[way][1:], strict=False):
            plane |= before & passage


def _spread_along_words(outside: Words, open_: Words) -> None:
    """Go along the rows of a plane, (row, word), from bit to bit and on into the next word."""
    count = outside.shape[1]
    for word in range(count):
        if word:
            outside[:, word] |= (outside[:, word - 1] >> np.uint64(_WORD - 1)) & open_[:, word]
        outside[:, word] = _filled(outside[:, word], open_[:, word], np.left_shift)
    for word in reversed(range(count)):
        if word + 1 < count:
            first = outside[:, word + 1] << np.uint64(_WORD - 1)
            outside[:, word] |= first & open_[:, word]
        outside[:, word] = _filled(outside[:, word], open_[:, word], np.right_shift)


def _filled(start: Words, passage: Words, shift: np.ufunc) -> Words:
    """Spread bits in one direction through a passage: by 1, 2, 4, ... at once."""
    for step in (1, 2, 4, 8, 16, 32):
        start = start | (passage & shift(start, np.uint64(step)))
        passage = passage & shift(passage, np.uint64(step))
    return start
