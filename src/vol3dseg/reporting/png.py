"""PNG files of 8 bits, grey or with a palette, by zlib alone: pages need no other package for them.

ISO/IEC 15948: chunks of length, name, content and CRC-32 between a signature and IEND.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int, int]  # red, green, blue and opacity, from 0 to 255
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3  # kinds of colour
_AS_IS, _UP = 0, 2  # filters of rows: as they are; less the row above


def grey_png(pixels: Pixels) -> bytes:
    """Return (rows, columns) of brightness as a PNG file."""
    # Neighbouring rows are alike, so that their differences are packed better.
    rows = np.diff(pixels, axis=0, prepend=np.zeros((1, pixels.shape[1]), np.uint8))
    return _file(rows, _UP, _GREY)


def palette_png(pixels: Pixels, colours: Sequence[Colour]) -> bytes:
    """Return (rows, columns) of numbers of colours, 256 at most, as a PNG file."""
    table = np.array(colours, np.uint8)
    more = [(b"PLTE", table[:, :3].tobytes()), (b"tRNS", table[:, 3].tobytes())]
    return _file(pixels, _AS_IS, _PALETTE, more)


def _file(
    rows: Pixels, row_filter: int, kind: int, more: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    height, width = rows.shape
    filtered = np.insert(rows, 0, np.uint8(row_filter), axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    content = zlib.compress(filtered.tobytes(), 9)
    chunks = [(b"IHDR", head), *more, (b"IDAT", content), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(*each) for each in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
