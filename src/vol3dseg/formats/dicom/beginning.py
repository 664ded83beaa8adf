"""Whether a file is DICOM, by its first bytes.

A file of DICOM begins with 128 bytes of any kind and the letters `DICM`; behind them come elements,
each with a tag above that of the one before. Some programs write the elements alone. Such a file is
refused, not passed over: a series would lack a slice.
"""

import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from zlib_ng import gzip_ng

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.streams import DAMAGED, MAGIC, unfit_file, unreadable

PREAMBLE = 132  # bytes, `DICM` the last of them
_START = 540  # bytes, in which several elements begin
_ENOUGH = 3  # elements that do not stand in a row by chance
_FIRST = (2, 8)  # groups of tags that files begin with
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


def is_dicom(start: bytes) -> bool:
    """Tell whether a file that starts so is DICOM, with a preamble or without."""
    return has_preamble(start) or any(
        _has_elements(start[at:], order)
        for at in (0, PREAMBLE, *[4] * start.startswith(b"DICM"))
        for order in "<>"
    )


def has_preamble(start: bytes) -> bool:
    """Tell whether `DICM` stands behind 128 bytes."""
    return start[PREAMBLE - 4 : PREAMBLE] == b"DICM"


def _has_elements(start: bytes, order: str) -> bool:
    """Tell whether elements of DICOM stand in a row, in this order of bytes."""
    at, last = 0, (0, 0)
    for number in range(_ENOUGH):
        if at + 12 > len(start):
            return False
        group, element, kind, short, long = struct.unpack_from(f"{order}HH2sHI", start, at)
        if (group, element) <= last or (number == 0 and group not in _FIRST):
            return False
        last = group, element
        if kind in _LONG:
            at += 12 + long
        elif kind in _SHORT:
            at += 8 + short
        else:  # of implicit types the length stands in the place of the type
            at += 8 + struct.unpack_from(f"{order}I", start, at + 4)[0]
    return True


def is_dicom_file(path: Path) -> bool:
    """Tell whether there is a file that starts as DICOM does; FileFormatError: it is unreadable."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(_START)
            packed = start.startswith(MAGIC) and is_dicom(_unpacked(file))
    except OSError as error:
        raise unreadable(error, path) from error
    if packed:
        remedy = "decompress it, as gunzip does"
        raise unfit_file("is DICOM, compressed with gzip", path, "a DICOM file as it is", remedy)
    return is_dicom(start)


def _unpacked(file: BinaryIO) -> bytes:
    """Return the first bytes of a gzip file; none if it is damaged: others will say that."""
    file.seek(0)
    with suppress(EOFError, DAMAGED, OSError):
        return bytes(gzip_ng.open(file).read(_START))
    return b""


def require_preamble(start: bytes, path: Path) -> None:
    """Refuse DICOM that begins with its elements."""
    if not has_preamble(start):
        raise FileFormatError(
            "is DICOM without its preamble",
            where=path,
            expected="128 bytes and the letters DICM at its start",
            remedy="write it again, as dcmconv of DCMTK does, or convert its series to NIfTI, as "
            "dcm2niix does",
        )
