"""Which bits of a voxel are its value, whatever the transfer syntax.

Uncompressed voxels and those packed by run lengths are words of BitsAllocated, in which old files
keep overlays above or below the value. A JPEG stream, of whichever kind, holds numbers of a
precision of its own: the header's, or that of the whole word. In all of them a value is what
BitsStored, HighBit and PixelRepresentation say.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.formats.streams import damaged

_WAVELETS = b"\xff\x4f", b"\x00\x00\x00\x0c"  # JPEG 2000 begins so, as it is or in a JP2 file
_FRAME = {*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC}  # JPEG's start of a frame


def _bits(header: Any) -> tuple[int, int, int]:
    """Return how many bits a voxel takes, how many are its value's, and the highest of these."""
    allocated = int(header.BitsAllocated)
    own = int(header.get("BitsStored") or allocated)
    return allocated, own, int(header.get("HighBit", own - 1))


def check_bits(header: Any, path: Path) -> None:
    """Refuse (FileFormatError) a header that does not tell which bits are a value."""
    allocated, own, highest = _bits(header)
    expected = "the bits of a value among those of a voxel"
    if own <= allocated and own - 1 <= highest < allocated:
        if highest == own - 1 or not _is_stream(header):
            return
        expected = f"bit {own - 1}, since the voxels are compressed"
    found = f"header says {own} of {allocated} bits, of which the highest is bit {highest}"
    raise damaged(found, path, expected)


def _is_stream(header: Any) -> bool:
    """Tell whether voxels are numbers in a stream, not words of BitsAllocated."""
    from pydicom.uid import RLELossless

    syntax = header.file_meta.TransferSyntaxUID
    return bool(syntax.is_encapsulated and syntax != RLELossless)


def own_bits(stored: NDArray[Any], dataset: Any, frame: int, path: Path) -> NDArray[Any]:
    """Return the values of a decoded frame: without bits that are no value's, its sign extended.

    FileFormatError: the stream it was decoded from tells other numbers than the header.
    """
    if stored.dtype.kind == "f":
        return stored
    if _is_stream(dataset):
        _check_stream(stored, dataset, frame, path)
    _, own, highest = _bits(dataset)
    room = stored.itemsize * 8  # what a decoder returns may be narrower than BitsAllocated
    if own >= room:
        return stored
    values: NDArray[Any] = (stored << (room - 1 - highest)) >> (room - own)
    return values


def _check_stream(stored: NDArray[Any], dataset: Any, frame: int, path: Path) -> None:
    """Refuse a stream of wider numbers than a voxel has, or with another sign than they have."""
    allocated, own, _ = _bits(dataset)
    precision, signed = _precision(_stream(dataset, frame))
    wanted = bool(dataset.get("PixelRepresentation", 0))
    # A short unsigned stream of signed values: whether its highest bit is a sign, nobody knows.
    unclear = wanted and not signed and precision < own
    if (
        precision > allocated
        or (signed and not wanted)
        or (unclear and np.any(stored >> (precision - 1) & 1))
    ):
        kinds = ("unsigned", "signed")
        found = f"its compressed voxels are {kinds[signed]} numbers of {precision} bits"
        raise damaged(found, path, f"{kinds[wanted]} ones of {own}, as its header says")


def _stream(dataset: Any, frame: int) -> bytes:
    from pydicom.encaps import get_frame

    offsets = [dataset.get(f"ExtendedOffsetTable{name}") for name in ("", "Lengths")]
    return bytes(
        get_frame(
            dataset.PixelData,
            frame,
            number_of_frames=int(dataset.get("NumberOfFrames") or 1),
            extended_offsets=tuple(offsets) if all(offsets) else None,
        )
    )


def _precision(stream: bytes) -> tuple[int, bool]:
    """Return the bits of a stream's numbers, and whether they are signed."""
    if stream.startswith(_WAVELETS):
        from pydicom.pixels.utils import get_j2k_parameters

        found = get_j2k_parameters(stream)
        return found["precision"], found["is_signed"]
    at, marker = 2, 0
    while marker not in _FRAME:
        at += stream[at : at + 2] == b"\xff\xff"  # markers may be padded
        marker, length = struct.unpack_from(">HH", stream, at)
        at += 2 + length
    return stream[at - length + 2], False
