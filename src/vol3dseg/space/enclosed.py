"""What a mask encloses: holes that no path of voxels, from face to face, leads out of.

Rows of voxels are bits of 64-bit words. What is outside spreads from the array's faces into all
that is not in the mask, word by word: within a word along its row, and to the words beside it. Only
words that were reached anew are looked at again, so that winding ways, as through noise, take no
longer than they are.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.memory_layout import slowest_first

# Peak beside the mask, in each voxel of it: bits of what is open and outside, and the words that
# were reached, which are many in noise.
ENCLOSED_BYTES = 1.5
_WORD = 64
_PORTION = 2**15  # words at once
_ALL = ~np.uint64(0)
_ONE, _END = np.uint64(1), np.uint64(_WORD - 1)
Words = NDArray[np.uint64]
Places = NDArray[np.int64]


def fill_holes(mask: NDArray[np.bool_]) -> None:
    """Add to an (i, j, k) mask, in place, what it encloses; beyond the array is outside."""
    rows = mask.transpose(slowest_first(mask))
    size = rows.shape[2]
    open_ = _packed(rows)
    outside = np.zeros_like(open_)
    for face in (outside[1], outside[-2], outside[:, 1], outside[:, -2]):
        face[...] = _ALL
    outside[..., 0] |= _ONE
    outside[..., -2] |= _ONE << np.uint64((size - 1) % _WORD)
    outside &= open_
    _, row, word = outside.shape
    _spread(outside.reshape(-1), open_.reshape(-1), row * word, word)
    for plane, words in zip(rows, outside[1:-1, 1:-1, :-1], strict=True):
        octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
        plane |= ~np.unpackbits(octets, axis=1, count=size, bitorder="little").view(np.bool_)


def _packed(rows: NDArray[np.bool_]) -> Words:
    """Return what is not in the mask as bits of (i, j, word), with words of zeros all round it.

    Those behind a row stand before the next one as well.
    """
    i, j, k = rows.shape
    words = -(-k // _WORD)
    packed = np.zeros((i + 2, j + 2, words + 1), dtype=np.uint64)
    octets = np.zeros((j, words * (_WORD // 8)), dtype=np.uint8)
    for plane, of in zip(packed[1:-1], rows, strict=True):
        octets[:, : -(-k // 8)] = np.packbits(~of, axis=1, bitorder="little")
        plane[1:-1, :-1] = octets.view("<u8")
    return packed


def _spread(outside: Words, open_: Words, plane: int, row: int) -> None:
    """Let bits spread through those that are open, from face to face of voxels."""
    active = np.flatnonzero(outside)
    while active.size:
        parts = np.split(active, range(_PORTION, active.size, _PORTION))
        reached = [there for part in parts for there in _steps(outside, open_, part, plane, row)]
        active = np.unique(np.concatenate(reached))


def _steps(outside: Words, open_: Words, active: Places, plane: int, row: int) -> Iterator[Places]:
    """Spread within some words, and to those beside them; give those that this has changed."""
    passage = open_[active]
    bits = _along(_along(outside[active], passage, np.left_shift), passage, np.right_shift)
    outside[active] = bits
    moves = [(step, bits) for step in (plane, -plane, row, -row)]
    for step, moved in (*moves, (1, bits >> _END), (-1, bits << _END)):
        there = active + step
        new = moved & open_[there] & ~outside[there]
        hit = np.flatnonzero(new)
        there = there[hit]
        outside[there] |= new[hit]
        yield there


def _along(start: Words, passage: Words, shift: np.ufunc) -> Words:
    """Spread bits in one direction through a passage: by 1, 2, 4, ... at once."""
    for step in (1, 2, 4, 8, 16, 32):
        start = start | (passage & shift(start, np.uint64(step)))
        passage = passage & shift(passage, np.uint64(step))
    return start
