"""Files as streams of bytes, plain or gzip, front to back; checksums are verified.

zlib-ng decompresses twice as fast as zlib and compresses several times as fast at the same size.
(ISA-L is faster still, but what it makes of one input depends, now and then, on what memory held
before.) Portions are read and written, so that no file is held as a whole, compressed or not.
"""

import gzip
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from zlib_ng import gzip_ng, zlib_ng

from vol3dseg.errors import FileFormatError
from vol3dseg.files import atomic_path
from vol3dseg.formats.limits import MAX_RATIO
from vol3dseg.machine import thread_pool, usable_cores

PORTION = 2**20  # bytes: what was just decompressed is still in the processor's cache
_LEVEL = 4  # of zlib-ng's 1 to 9; less compresses little faster, more makes little smaller
_START = 540  # bytes: the longest binary header, that of NIfTI-2
DAMAGED = cast("type[Exception]", zlib_ng.error)  # its stub takes the class for an instance
MAGIC = b"\x1f\x8b"
# Of RFC 1952, without time, name and system; and an empty last block of deflate (RFC 1951).
_GZIP_HEADER = MAGIC + b"\x08\0\0\0\0\0\0\xff"
_END = b"\x03\0"
_ZLIB_HEADER = b"\x78\x5e"  # of RFC 1950: a window of 32 kB, compressed for speed

_PLACEHOLDERS = (b"/annex/objects/", b"version https://git-lfs")
_IMAGE = "an image file, such as .nii.gz"
_FETCH = "fetch it (datalad get, git annex get, git lfs pull), or copy it here"


@dataclass(frozen=True, slots=True)
class FileStart:
    """What the first bytes of a file tell: its format is found by them, and it is read on."""

    path: Path
    compressed: bool  # it is gzip, whatever its name says
    most: int  # no more bytes than this can come out of it
    start: bytes  # the first 540, decompressed; fewer only where there are no more

    def portions(self, first: int = 0) -> Iterator[bytes]:
        """Give the content from a byte on, decompressed; the end of it verifies the checksum.

        FileFormatError: the gzip stream is truncated or damaged, or the file cannot be read.
        """
        with reading(self.path), self.path.open("rb") as raw:
            file = gzip_ng.open(raw) if self.compressed else raw
            while first > 0 and (passed := len(file.read(min(first, PORTION)))):
                first -= passed
            while content := file.read(PORTION):
                yield content


def read_start(path: Path) -> FileStart:
    """Read the first bytes of a file; refuse one that is missing, irregular, empty or damaged."""
    if not path.is_file():
        raise _absent(path)
    with reading(path), path.open("rb") as raw:
        start, size = raw.read(_START), os.fstat(raw.fileno()).st_size
        compressed = start.startswith(MAGIC)
        if compressed:
            raw.seek(0)
            start = gzip_ng.open(raw).read(_START)
    if not size:
        raise damaged("the file is empty", path, "an image")
    if start.startswith(_PLACEHOLDERS):
        raise unfit_file("is a placeholder for a file that was not fetched", path, _IMAGE, _FETCH)
    return FileStart(path, compressed, size * MAX_RATIO if compressed else size, start)


def _absent(path: Path) -> FileFormatError:
    if path.is_symlink() and not path.exists():
        return unfit_file("is a link to a file that is not there", path, _IMAGE, _FETCH)
    found = "is no regular file" if path.exists() else "does not exist"
    return unfit_file(found, path, _IMAGE, "check the path")


@contextmanager
def reading(path: Path, what: str = "gzip stream", file: str = "") -> Iterator[None]:
    """Report in our words what is wrong with a file, or with what stands in another `file`."""
    try:
        yield
    except (EOFError, DAMAGED, gzip.BadGzipFile) as error:
        wanted = "all of them" if file else "a whole one"
        raise damaged(f"truncated or damaged {what} ({error})", path, wanted) from error
    except OSError as error:
        raise unreadable(error, path, file) from error


def unreadable(error: OSError, path: Path, file: str = "") -> FileFormatError:
    """Return the error of a file that the system does not give; `file` names a part of it."""
    found = f"{file} cannot be read ({error.strerror or 'damaged'})".strip()
    return unfit_file(found, path, "a readable file", "mend its permissions, or copy it again")


def damaged(found: str, path: Path, expected: str = "all of them") -> FileFormatError:
    """Return the error of a file that was cut or spoilt on its way."""
    return unfit_file(found, path, expected, "copy or export it again")


def unfit_file(
    found: str, path: Path, expected: str, remedy: str = "export it again"
) -> FileFormatError:
    """Return the error of a file that is not what it should be."""
    return FileFormatError(found, where=path, expected=expected, remedy=remedy)


def write_stream(path: Path, portions: Iterable[bytes | memoryview]) -> None:
    """Write a file atomically; compressed if its name ends in .gz."""
    compressed = path.name.lower().endswith(".gz")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines(gzip_stream(portions) if compressed else portions)


def gzip_stream(portions: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Give a gzip stream of one member, whose portions are compressed side by side.

    Not by `gzip_ng_threaded`, whose threads take 50 ms to end: twenty times what a label map takes.
    """
    counted = _Counted(portions, zlib_ng.crc32, 0)
    yield _GZIP_HEADER
    yield from _blocks(counted)
    yield _END + struct.pack("<LL", counted.checksum, counted.size % 2**32)


def zlib_stream(portions: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Give a zlib stream, whose portions are compressed side by side."""
    counted = _Counted(portions, zlib_ng.adler32, 1)
    yield _ZLIB_HEADER
    yield from _blocks(counted)
    yield _END + struct.pack(">L", counted.checksum)


@dataclass(slots=True)
class _Counted:
    """Portions, and the checksum and size [bytes] of those that were given."""

    portions: Iterable[bytes | memoryview]
    update: Callable[[bytes | memoryview, int], int]
    checksum: int
    size: int = 0

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for portion in self.portions:
            self.checksum = self.update(portion, self.checksum)
            self.size += memoryview(portion).nbytes
            yield portion


def _blocks(portions: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Compress portions side by side; in order they make a deflate stream without its end."""
    threads, waiting = usable_cores(), deque[Future[bytes]]()
    with thread_pool(threads) as pool:
        for portion in portions:
            waiting.append(pool.submit(_block, portion))
            if len(waiting) > 2 * threads:  # no more of them are held
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _block(portion: bytes | memoryview) -> bytes:
    """Return a piece of a deflate stream that ends with a whole byte and refers to no other."""
    compressor = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, -zlib_ng.MAX_WBITS)
    return bytes(compressor.compress(portion) + compressor.flush(zlib_ng.Z_SYNC_FLUSH))
