"""Harm done to one element of a DICOM file in explicit VR, little endian."""

import re
import struct
from random import Random

from tests.fuzzing.mutations import extremes
from tests.fuzzing.sample import Content

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_SHORT = (
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN"),
    *(b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
)
_ELEMENT = re.compile(
    rb"(?s)(?:[\x02-\x7f]\0|\xe0\x7f|\0\x52)..(" + b"|".join((*_LONG, *_SHORT)) + rb")"
)
_BINARY = {b"US": "<H", b"SS": "<h", b"UL": "<I", b"SL": "<i", b"FL": "<f", b"FD": "<d"}
_TEXTS = (
    *(b"", b"0 ", b"-1", b"1 ", b"nan ", b"inf ", b"-inf", b"1e400 ", b"1e39", b"1e-300", b"0\\0 "),
    *(
        b"1\\2\\3 ",
        b"1\\0\\0\\0\\1\\0 ",
        b"\\\\",
        b"9" * 16,
        b"2147483648",
        b"1.2.840.10008.1.2.5 ",
    ),
    *(b"1.2.840.10008.1.2.4.50", b"MONOCHROME1 ", b"RGB ", b"YES ", b"\xff\xfe", b"\n\n", b"SEG "),
)
_LENGTHS = (0, 1, 2, 3, 7, 100, 65535, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


def set_element(content: Content, rng: Random) -> None:
    """Change the value, the length or the representation of one element."""
    found = list(_ELEMENT.finditer(content[128:]))
    if not found:
        return
    place = 128 + rng.choice(found).start()
    kind = bytes(content[place + 4 : place + 6])
    long = kind in _LONG
    start = place + (12 if long else 8)
    what = rng.random()
    if what < 0.12:
        content[place + 4 : place + 6] = rng.choice((*_LONG, *_SHORT, b"??"))
    elif what < 0.24:
        _set_length(content, place, long, rng.choice(_LENGTHS))
    elif what < 0.30:
        content[place : place + 4] = rng.randbytes(4)
    elif what < 0.36:
        del content[place : start + _length(content, place, long)]
    else:
        _set_value(content, place, start, rng)


def _set_value(content: Content, place: int, start: int, rng: Random) -> None:
    """Give an element another value, with the length that it has."""
    kind, long = bytes(content[place + 4 : place + 6]), start - place == 12
    length = _length(content, place, long)
    if pattern := _BINARY.get(kind):
        value = struct.pack(pattern, rng.choice((*extremes(pattern), 2, 3, 8, 16, 32)))
    elif long:
        value = rng.choice((b"", b"\0\0", rng.randbytes(min(length, 64) & ~1)))
    else:
        value = rng.choice(_TEXTS)
    content[start : start + length] = value
    _set_length(content, place, long, len(value))


def _length(content: Content, place: int, long: bool) -> int:
    start, pattern = (place + 8, "<I") if long else (place + 6, "<H")
    stored = bytes(content[start : start + struct.calcsize(pattern)])
    found = int.from_bytes(stored, "little")
    return found if found < len(content) else 0


def _set_length(content: Content, place: int, long: bool, length: int) -> None:
    start, pattern = (place + 8, "<I") if long else (place + 6, "<H")
    size = struct.calcsize(pattern)
    content[start : start + size] = struct.pack(pattern, min(length, 256**size - 1))
