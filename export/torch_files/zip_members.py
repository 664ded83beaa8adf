"""The zip file that torch writes: members one behind the other, none of them compressed.

Only that is read. All that a zip file may say otherwise (compression, encryption, several disks,
members that overlap) is refused, so that no member can be larger than its file.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader

from vol3dseg.errors import FileFormatError
from vol3dseg.model.operators import quoted

_MOST_MEMBERS = 2**17  # networks have thousands of arrays, each of them one
_MOST_OF_DIRECTORY = 2**24  # bytes
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LARGE, _LARGE_SHORT = 2**32 - 1, 2**16 - 1  # stand for "see the longer field"
_PICKLE = b"\x80"  # that one of these begins with
_EXPECTED = "a zip file with nothing compressed in it, as torch has written it since 1.6"
_ENCRYPTED = 0x2041  # any of these flags
_PIECE = 2**24


@dataclass(frozen=True, slots=True)
class _Member:
    start: int  # of its own header
    size: int
    crc: int
    end: int  # where the next one begins, or the directory


class TorchZip:
    """An open zip file of torch.

    Parameters
    ----------
    file : binary file
        Read at any place for as long as this is used.
    """

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        if _bytes(file, 0, min(1, file.seek(0, 2))) == _PICKLE:
            raise FileFormatError(
                "is a bare pickle, as torch wrote checkpoints before 1.6",
                expected=_EXPECTED,
                remedy="load it with torch where you trust it, and save it again with torch.save",
            )
        self._members = dict(_members(file))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members."""
        return tuple(self._members)

    def size(self, name: str) -> int:
        """Return how many bytes a member has."""
        return self._member(name).size

    def read(self, name: str) -> bytearray:
        """Return the bytes of a member, whose checksum is right."""
        member = self._member(name)
        head = _unpacked(_LOCAL, _bytes(self._file, member.start, _LOCAL.size), b"PK\3\4")
        start = member.start + _LOCAL.size + head[-2] + head[-1]
        if start + member.size > member.end:
            raise _damaged(f"its member {quoted(name)} reaches into the next")
        content, crc = bytearray(member.size), 0
        self._file.seek(start)
        for place in range(0, member.size, _PIECE):
            piece = memoryview(content)[place : place + _PIECE]
            if self._file.readinto(piece) != len(piece):
                raise _damaged("it ends early")
            crc = zlib.crc32(piece, crc)
        if crc != member.crc:
            raise _damaged(f"its member {quoted(name)} has another checksum")
        return content

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            raise _damaged(f"it has no member {quoted(name)}")
        return self._members[name]


def _members(file: BufferedReader) -> Iterator[tuple[str, _Member]]:
    """Give all members by name, in the order of their places."""
    count, start, size = _directory(file)
    content, place, found = _bytes(file, start, size), 0, []
    for _ in range(count):
        entry = _unpacked(_ENTRY, content[place : place + _ENTRY.size], b"PK\1\2")
        lengths = entry[10:13]  # of its name, what is more of it, and a comment
        place += _ENTRY.size
        behind = place + lengths[0]
        called, more = content[place:behind], content[behind : behind + lengths[1]]
        place += sum(lengths)
        found.append(_entry(_text(called), entry, more))
    if place != size or len({name for name, *_ in found}) < count:
        raise _damaged("its directory holds a name twice, or not as much as it says")
    found.sort(key=lambda each: each[1])
    starts = [*(begin for _, begin, *_ in found), start]
    for (name, begin, number, crc), end in zip(found, starts[1:], strict=True):
        if begin + _LOCAL.size + number > end:
            raise _damaged(f"its member {quoted(name)} reaches into the next")
        yield name, _Member(begin, number, crc, end)


def _directory(file: BufferedReader) -> tuple[int, int, int]:
    """Return the number of members, and where their directory stands: start and bytes."""
    length = file.seek(0, 2)
    stop = length - _END.size
    end = _unpacked(_END, _bytes(file, stop, _END.size), b"PK\5\6")
    disks, count, size, start = end[1:3], end[4], end[5], end[6]
    place = stop - _LOCATOR.size
    if place >= 0 and (locator := _bytes(file, place, _LOCATOR.size)).startswith(b"PK\6\7"):
        stop = _LOCATOR.unpack(locator)[2]
        if stop + _END_64.size != place:
            raise _damaged("its directory does not stand at its end")
        wide = _unpacked(_END_64, _bytes(file, stop, _END_64.size), b"PK\6\6")
        short = (count, size, start)
        disks, (count, size, start) = wide[4:6], wide[7:10]
        limits = (_LARGE_SHORT, _LARGE, _LARGE)
        if short != tuple(map(min, (count, size, start), limits)):
            raise _damaged("it says two sizes of its directory")
    if any(disks) or start + size != stop:
        raise _damaged("its directory does not stand at its end")
    if count > _MOST_MEMBERS or size > _MOST_OF_DIRECTORY:
        raise FileFormatError(
            f"names {count} members in {size} bytes",
            expected=f"at most {_MOST_MEMBERS} in {_MOST_OF_DIRECTORY}",
        )
    return count, start, size


def _entry(name: str, entry: tuple[int, ...], more: bytes) -> tuple[str, int, int, int]:
    """Return name, start, size and checksum of one member."""
    flags, method, crc, packed, size, start = (*entry[3:5], *entry[7:10], entry[16])
    wide = _wide(more)
    size, packed, start = (next(wide, n) if n == _LARGE else n for n in (size, packed, start))
    if flags & _ENCRYPTED or method or packed != size:
        raise FileFormatError(
            f"its member {quoted(name)} is compressed or encrypted", expected="members as they are"
        )
    return name, start, size, crc


def _wide(more: bytes) -> Iterator[int]:
    """Give the numbers of a member that take more than 32 bits."""
    while len(more) >= 4:
        kind, length = struct.unpack_from("<HH", more)
        if kind == 1 and length % 8 == 0 and length + 4 <= len(more):
            yield from struct.unpack_from(f"<{length // 8}Q", more, 4)
        more = more[4 + length :]


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise _damaged(f"it names a member {quoted(repr(name))}") from None


def _bytes(file: BufferedReader, start: int, size: int) -> bytes:
    if not 0 <= start <= start + size <= file.seek(0, 2):
        raise _damaged("it ends early")
    file.seek(start)
    return file.read(size)


def _unpacked(form: struct.Struct, content: bytes, magic: bytes) -> tuple[int, ...]:
    if len(content) != form.size or not content.startswith(magic):
        raise _damaged("parts of it are not where they should be")
    return form.unpack(content)


def _damaged(what: str) -> FileFormatError:
    return FileFormatError(
        f"not a whole file of torch: {what}",
        expected=_EXPECTED,
        remedy="copy the checkpoint again",
    )
