"""Harm done to bytes, whatever they mean; and how a sample is harmed as a whole."""

import gzip
import re
import struct
import zlib
from dataclasses import replace
from random import Random

from tests.fuzzing.sample import Content, Family, Mutation, Sample

_LONGEST = 65536  # bytes that a harmed file may have; duplication must not make it grow for ever
_GZIP = b"\x1f\x8b"
_NUMBER = re.compile(rb"-?\d+(\.\d+)?(e-?\d+)?", re.IGNORECASE)
_NUMBERS = (
    *(b"0", b"-1", b"1", b"2", b"65536", b"2147483648", b"-2147483649", b"9223372036854775808"),
    *(b"nan", b"inf", b"-inf", b"1e39", b"1e308", b"1e-308", b"1e400", b"0.0", b"-0", b"9" * 40),
    *(b"", b"1,5", b"0x10", b"\xff", b"\n"),
)
_PATTERNS = ("<b", "<h", ">h", "<i", ">i", "<q", ">q", "<f", ">f", "<d", ">d")
FLOATS = (0.0, -1.0, 1e38, -1e38, 1e-38, float("nan"), float("inf"), float("-inf"))


def extremes(pattern: str) -> tuple[float, ...]:
    """Return values at the limits of a number of `struct`'s pattern."""
    if pattern[-1] in "fd":
        return FLOATS if pattern[-1] == "f" else (*FLOATS, 1e300, -1e300, 5e-324)
    bits = 8 * struct.calcsize(pattern)
    if pattern[-1].isupper():
        return (0, 1, 2**bits - 1, 2 ** (bits - 1))
    return (0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)))


def flip_bit(content: Content, rng: Random) -> None:
    """Flip one bit."""
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def set_byte(content: Content, rng: Random) -> None:
    """Set one byte to anything."""
    content[rng.randrange(len(content))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))


def set_number(content: Content, rng: Random) -> None:
    """Put a number at its limit anywhere."""
    pattern = rng.choice(_PATTERNS)
    stored = struct.pack(pattern, rng.choice(extremes(pattern)))
    start = rng.randrange(len(content))
    content[start : start + len(stored)] = stored


def truncate(content: Content, rng: Random) -> None:
    """Cut the end off."""
    del content[rng.randrange(len(content)) :]


def delete_span(content: Content, rng: Random) -> None:
    """Take some bytes out."""
    start, stop = _span(content, rng)
    del content[start:stop]


def repeat_span(content: Content, rng: Random) -> None:
    """Put some bytes in once more, somewhere else."""
    start, stop = _span(content, rng)
    place = rng.randrange(len(content) + 1)
    content[place:place] = content[start:stop]


def fill_span(content: Content, rng: Random) -> None:
    """Overwrite some bytes with one value, or with anything."""
    start, stop = _span(content, rng)
    filler = rng.choice((b"\0", b"\xff", b"A", b"9", None))
    content[start:stop] = filler * (stop - start) if filler else rng.randbytes(stop - start)


def number_in_text(content: Content, rng: Random) -> None:
    """Replace a number that stands in text."""
    found = list(_NUMBER.finditer(content[:2048]))
    if found:
        start, stop = rng.choice(found).span()
        content[start:stop] = rng.choice(_NUMBERS)


def line_of_text(content: Content, rng: Random) -> None:
    """Take a line of text out, put it in twice, or put it elsewhere."""
    lines = bytes(content).split(b"\n", 24)
    picked = rng.randrange(len(lines))
    line = lines[picked]
    if rng.random() < 0.6:
        del lines[picked]
    if rng.random() < 0.6:
        lines.insert(rng.randrange(len(lines) + 1), line)
    content[:] = b"\n".join(lines)


BYTES: tuple[Mutation, ...] = (
    *(flip_bit, set_byte, set_number, truncate, delete_span, repeat_span, fill_span),
)
TEXT: tuple[Mutation, ...] = (number_in_text, number_in_text, line_of_text)


def _span(content: Content, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(content))
    length = rng.choice((1, 2, 4, 8, rng.randrange(1, 64), rng.randrange(1, len(content) + 1)))
    return start, min(len(content), start + length)


def harmed(family: Family, rng: Random) -> Sample:
    """Return a sample of a family that has been harmed at least once."""
    sample = rng.choice(family.samples)
    files = dict(sample.files)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        name = rng.choice(sorted(files))
        files[name] = _harmed_file(files[name], family, rng)
    if rng.random() < 0.02:  # a file of several is missing
        del files[rng.choice(sorted(files))]
    return replace(sample, files=files)


def _harmed_file(content: bytes, family: Family, rng: Random) -> bytes:
    """Harm a file; a packed one mostly within, or nothing would get beyond its checksum."""
    if content.startswith(_GZIP) and rng.random() < 0.75:
        try:
            inner = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):  # harmed before
            inner = b""
        if inner:
            return gzip.compress(_harmed_file(inner, family, rng), 1, mtime=0)
    harmed = bytearray(content)
    if rng.random() < 0.08:
        _splice(harmed, rng.choice(family.samples), rng)
    elif harmed:
        rng.choice(family.mutations)(harmed, rng)
    return bytes(harmed[:_LONGEST])


def _splice(content: Content, other: Sample, rng: Random) -> None:
    """Go on with another file from some place on."""
    donor = other.files[rng.choice(sorted(other.files))]
    start = rng.randrange(len(content) + 1)
    content[start:] = donor[rng.choice((start, rng.randrange(len(donor)))) :]
