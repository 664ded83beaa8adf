"""Whether the voxels that a header promises are there, counted before SimpleITK reads them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from zlib_ng import zlib_ng

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.gzipped import DAMAGED, MAGIC, MAX_RATIO, PORTION
from vol3dseg.formats.itk.text_header import Header

_EITHER = 32 + zlib_ng.MAX_WBITS  # gzip or zlib, by their first bytes


def require_room(path: Path, header: Header, axes: tuple[int, ...], size: int) -> None:
    """Refuse a header that claims more than its file can hold, before anything is allocated.

    So are raw voxels with something behind them: most often bytes that were lost or added before,
    which would shift all.

    Parameters
    ----------
    path : Path
        Of the header, for messages.
    header : Header
    axes : tuple of int
        Voxels along each axis.
    size : int
        What all of them take [bytes].

    Raises
    ------
    FileFormatError
    """
    if not math.prod(axes):
        raise FileFormatError(
            f"header says {axes} voxels",
            where=path,
            expected="at least one per axis",
            remedy="save it again",
        )
    stored = header.data.stat().st_size - (header.start or 0)
    if (header.length or 0) > stored:
        raise FileFormatError(
            f"truncated: header promises {header.length} bytes of packed voxels, "
            f"{header.data.name} holds {max(0, stored)}",
            where=path,
            expected="all of them",
            remedy="copy or export it again",
        )
    if not header.packed and header.start is not None and stored > size:
        raise _too_much(path, stored - size)
    most = stored * (MAX_RATIO if header.packed else 1)
    if size > most:
        raise FileFormatError(
            f"truncated: header promises {size} bytes of voxels, {header.data.name} can hold at "
            f"most {max(0, most)}",
            where=path,
            expected="all of them",
            remedy="copy or export it again",
        )


def verify_payload(path: Path, header: Header, size: int) -> None:
    """Unpack packed voxels, count them and verify their checksum; keep nothing.

    Raises
    ------
    FileFormatError
        They are damaged, cannot be read, or are not `size` bytes.
    """
    if not header.packed:
        return  # `require_room` has counted them
    found = 0
    try:
        with header.data.open("rb") as file:
            file.seek(header.start or 0)
            for portion in _unpacked_sizes(_portions(file, header.length)):
                found += portion
    except (EOFError, DAMAGED) as error:
        raise FileFormatError(
            f"truncated or damaged voxels in {header.data.name} ({error})",
            where=path,
            expected="all of them",
            remedy="copy or export it again",
        ) from error
    except OSError as error:
        raise FileFormatError(
            f"{header.data.name} cannot be read ({error.strerror})",
            where=path,
            remedy="mend its permissions, or copy it again",
        ) from error
    if found < size:
        raise FileFormatError(
            f"truncated: {size - found} bytes of its voxels are missing",
            where=path,
            expected="all of them",
            remedy="copy or export it again",
        )
    if found > size:
        raise _too_much(path, found - size)


def _too_much(path: Path, more: int) -> FileFormatError:
    return FileFormatError(
        f"holds {more} bytes more than its header promises",
        where=path,
        expected="nothing behind the voxels",
        remedy="export it again",
    )


def _portions(file: BinaryIO, length: int | None) -> Iterator[bytes]:
    """Give `length` bytes of a file, or all that follow."""
    while (length is None or length > 0) and (portion := file.read(PORTION)):
        yield portion[:length]
        length = None if length is None else length - len(portion)


def _unpacked_sizes(portions: Iterator[bytes]) -> Iterator[int]:
    """Unpack one zlib stream, or the members of a gzip stream; give the size of each portion."""
    packed = next(portions, b"")
    member = True
    while member:
        unpacker = zlib_ng.decompressobj(wbits=_EITHER)
        while packed and not unpacker.eof:
            yield len(unpacker.decompress(packed, PORTION))
            packed = unpacker.unconsumed_tail or unpacker.unused_data or next(portions, b"")
        if not unpacker.eof:
            raise EOFError("the stream ends before its end is marked")
        member = packed.startswith(MAGIC)
