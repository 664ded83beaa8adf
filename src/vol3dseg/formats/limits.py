"""How much may come out of a file, settled before it does: a small one may unpack to anything.

Headers are believed up to what their file can hold and what memory can take; what stands beside
voxels, up to a bound that no honest file comes near.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from vol3dseg.errors import FileFormatError, MemoryLimitError
from vol3dseg.machine import available_mb

MAX_RATIO = 1032  # of RFC 1951: more than this no deflate stream can expand
MOST_BESIDE = 2**28  # bytes before or behind voxels: extensions, padding
MOST_INFLATED = 2**29  # bytes of a deflated DICOM file, which pydicom unpacks in one go
_MB = 2**20
_SMALL = 256 * _MB  # bytes that need no look at the memory
_LARGE = 2**30  # bytes, from which on what is compressed must hold something
_THINNEST = 200  # times that it may be compressed then; scans are twice, label maps a hundred times
_PER_VOXEL = 4  # bytes: images are held as float32
SMALLER = "crop the file, or use a machine with more"


def require_memory(shape: tuple[int, ...], where: object, per_voxel: int = _PER_VOXEL) -> None:
    """Refuse an image of more voxels than memory can take, before any is read.

    Systems hand out memory that they do not have, and end whoever uses it.
    """
    size = math.prod(shape) * per_voxel
    left = available_mb() if size > _SMALL else None
    if left is not None and size > left * _MB:
        raise MemoryLimitError(
            f"its {shape} voxels do not fit into memory: they take {size // _MB} MB, and "
            f"{left:.0f} MB are free",
            where=where,
            remedy=SMALLER,
        )


def require_scan(size: int, packed: int, path: Path) -> None:
    """Refuse a compressed file that promises gigabytes of next to nothing."""
    if size > _LARGE and size > packed * _THINNEST:
        raise FileFormatError(
            f"header promises {size // _MB} MB, {size // max(packed, 1)} times the compressed file",
            where=path,
            expected=f"at most {_THINNEST} times, where it is as large as that",
            remedy="store it uncompressed, if it is a scan",
        )


def bounded(portions: Iterable[bytes], path: Path, what: str) -> Iterator[bytes]:
    """Give portions until they are more than may stand beside voxels; FileFormatError then."""
    size = 0
    for portion in portions:
        size += len(portion)
        if size > MOST_BESIDE:
            raise too_much(path, what)
        yield portion


def too_much(path: Path, what: str) -> FileFormatError:
    """Return the error of a file that holds, or unpacks to, too much beside its voxels."""
    return FileFormatError(
        f"{what} has more than {MOST_BESIDE // _MB} MB",
        where=path,
        expected="at most that",
        remedy="export it again",
    )
