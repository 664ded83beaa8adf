"""Files as streams of bytes, plain or gzip, front to back; checksums are verified.

gzip goes through zlib-ng: it unpacks twice as fast as zlib and packs several times as fast at the
same size. (ISA-L packs faster still, but what it makes of one input depends, now and then, on what
memory held before.) What is read or written comes in portions, so that neither the packed nor the
unpacked file is ever held as a whole.
"""

import gzip
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from zlib_ng import gzip_ng, zlib_ng

from vol3dseg.errors import FileFormatError
from vol3dseg.files import atomic_path

PORTION = 2**20  # bytes: what was just unpacked is still in the processor's cache
_LEVEL = 4  # of zlib-ng's 1 to 9; less packs little faster, more makes little smaller
DAMAGED = cast("type[Exception]", zlib_ng.error)  # its stub takes the class for an instance
MAGIC = b"\x1f\x8b"
MAX_RATIO = 1032  # of RFC 1951: more than this no deflate stream can expand
# Of RFC 1952, without time, name and system; and an empty last block of deflate (RFC 1951).
_HEADER = MAGIC + b"\x08\0\0\0\0\0\0\xff"
_END = b"\x03\0"
_ZLIB_HEADER = b"\x78\x5e"  # of RFC 1950: a window of 32 kB, packed for speed


class Stream:
    """An open file, unpacked as it is read if it is gzip, whatever its name says.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    path : Path
    packed : bool
        It is gzip.
    most : int
        No more bytes than this can come out.

    Raises
    ------
    FileFormatError
        The file is missing, irregular, empty or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            found = "is no regular file" if path.exists() else "does not exist"
            raise FileFormatError(
                found,
                where=path,
                expected="an image file, such as .nii.gz",
                remedy="check the path",
            )
        try:
            with path.open("rb") as file:
                start = file.read(len(MAGIC))
                self.most = os.fstat(file.fileno()).st_size
            self.packed = start == MAGIC
            if self.packed:
                self.most *= MAX_RATIO
            self._file: Any = gzip_ng.open(path) if self.packed else path.open("rb")
        except OSError as error:
            raise _unreadable(path, error) from error
        if not start:
            self.close()
            raise FileFormatError(
                "the file is empty",
                where=path,
                expected="an image",
                remedy="copy or export it again",
            )

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only where the stream ends.

        Raises
        ------
        FileFormatError
            The gzip stream is truncated or damaged, or the file cannot be read.
        """
        try:
            return bytes(self._file.read(size))
        except (EOFError, DAMAGED, gzip.BadGzipFile) as error:
            raise FileFormatError(
                f"truncated or damaged gzip stream ({error})",
                where=self.path,
                expected="a whole one",
                remedy="copy or export it again",
            ) from error
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def skip(self, size: int) -> None:
        """Pass over `size` bytes, or to the end; errors are those of `read`."""
        while size > 0 and (passed := len(self.read(min(size, PORTION)))):
            size -= passed

    def drain(self) -> None:
        """Read to the end, which is what verifies the checksum; errors are those of `read`."""
        while self.read(PORTION):
            pass

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_stream(path: Path, portions: Iterable[bytes | memoryview], threads: int = 1) -> None:
    """Write a file atomically; packed by threads if its name ends in .gz.

    Parameters
    ----------
    path : Path
    portions : iterable of bytes or memoryview
    threads : int
        That pack; the bytes written do not depend on their number.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    packed = path.name.lower().endswith(".gz")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines(gzip_stream(portions, threads) if packed else portions)


def gzip_stream(portions: Iterable[bytes | memoryview], threads: int) -> Iterator[bytes]:
    """Give a gzip stream of one member, whose portions are packed side by side."""
    checksum, size = 0, 0

    def counted() -> Iterator[bytes | memoryview]:
        nonlocal checksum, size
        for portion in portions:
            checksum = zlib_ng.crc32(portion, checksum)
            size += memoryview(portion).nbytes
            yield portion

    yield _HEADER
    yield from _blocks(counted(), threads)
    yield _END + struct.pack("<LL", checksum, size % 2**32)


def zlib_stream(portions: Iterable[bytes | memoryview], threads: int) -> Iterator[bytes]:
    """Give a zlib stream, whose portions are packed side by side."""
    checksum = 1

    def counted() -> Iterator[bytes | memoryview]:
        nonlocal checksum
        for portion in portions:
            checksum = zlib_ng.adler32(portion, checksum)
            yield portion

    yield _ZLIB_HEADER
    yield from _blocks(counted(), threads)
    yield _END + struct.pack(">L", checksum)


def _blocks(portions: Iterable[bytes | memoryview], threads: int) -> Iterator[bytes]:
    """Pack portions side by side; what they make in order is a deflate stream without its end."""
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for portion in portions:
            waiting.append(pool.submit(_block, portion))
            if len(waiting) > 2 * threads:  # no more of them are held
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _block(portion: bytes | memoryview) -> bytes:
    """Return a piece of a deflate stream that ends with a whole byte and refers to no other."""
    packer = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, -zlib_ng.MAX_WBITS)
    return bytes(packer.compress(portion) + packer.flush(zlib_ng.Z_SYNC_FLUSH))


def _unreadable(path: Path, error: OSError) -> FileFormatError:
    return FileFormatError(
        f"cannot be read ({error.strerror})",
        where=path,
        expected="a readable file",
        remedy="mend its permissions, or copy it again",
    )
