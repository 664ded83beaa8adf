"""NRRD and MetaImage files, opened: voxels are counted before and while they are read.

Other readers return damaged zlib streams, and what they cannot decompress, as if all were well.
"""

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray
from zlib_ng import zlib_ng

from vol3dseg.errors import GridError
from vol3dseg.formats.image_file import Format, ImageFile, ImageHeader, too_long
from vol3dseg.formats.itk.text_header import TextHeader
from vol3dseg.formats.limits import MAX_RATIO, require_scan
from vol3dseg.formats.streams import MAGIC, PORTION, damaged, reading
from vol3dseg.space.geometry import Geometry, unusable
from vol3dseg.space.intake import Intake

_EITHER = 32 + zlib_ng.MAX_WBITS  # gzip or zlib, by their first bytes
_COMPRESSED = 2**16  # bytes that are decompressed at once; those that give more wait for their turn


def _open(path: Path, header: TextHeader, repair: bool) -> ImageFile:
    """Return an NRRD or MetaImage file; refuse a header that promises more than the file holds."""
    intake, size = Intake(repair), math.prod(header.axes) * header.dtype.itemsize
    _require_room(path, header, size)
    if header.quantised:
        intake.note("values were rounded from another range (old min, old max)", "read as stored")
    found = ImageHeader(
        header.axes,
        header.dtype,
        partial(_geometry, path, header, intake),
        partial(_stored, path, header, size),
        interleaved=header.interleaved,
        exact=True,
        unusable=header.unusable,
    )
    return ImageFile(path, found, intake)


def itk_format(
    name: str,
    title: str,
    suffixes: tuple[str, str],
    start: re.Pattern[bytes],
    read: Callable[[Path], TextHeader],
    write: Callable[[Path, NDArray[Any], Geometry], None],
) -> Format:
    """Return a format that begins as `start`; headers of the second suffix stand by themselves."""

    def files(path: Path) -> tuple[Path, ...]:
        return (path, read(path).data) if path.name.lower().endswith(suffixes[1]) else (path,)

    return Format(
        name, title, suffixes[0], suffixes,
        lambda file: not file.compressed and bool(start.match(file.start)),
        lambda file, repair: _open(file.path, read(file.path), repair),
        files, write,
    )  # fmt: skip


def _require_room(path: Path, header: TextHeader, size: int) -> None:
    """Refuse a header that claims more than its file can hold, before anything is allocated."""
    stored = header.data.stat().st_size - (header.start or 0)
    if (header.length or 0) > stored:
        raise damaged(
            f"truncated: header promises {header.length} bytes of compressed voxels, "
            f"{header.data.name} holds {max(0, stored)}",
            path,
        )
    if not header.compressed and header.start is not None and stored > size:
        raise too_long(stored - size, path)
    most = stored * (MAX_RATIO if header.compressed else 1)
    if size > most:
        raise damaged(
            f"truncated: header promises {size} bytes of voxels, {header.data.name} can hold at "
            f"most {max(0, most)}",
            path,
        )
    if header.compressed:
        require_scan(size, stored, path)


def _geometry(path: Path, header: TextHeader, intake: Intake, shape: tuple[int, ...]) -> Geometry:
    if min(header.spacing_mm, default=1.0) <= 0:
        found = f"header says a spacing of {header.spacing_mm} mm"
        raise unusable(found, "positive numbers", path)
    stated_mm = None
    if len(header.spacing_mm) == 3:
        i, j, k = header.spacing_mm
        stated_mm = (i, j, k)
    try:
        geometry = Geometry(shape, header.affine, stated_mm)
    except GridError as error:
        raise error.at(path) from error
    if not header.oriented:
        wanted = "the space that its directions are meant in"
        remedy = "export it again with its orientation"
        unknown = unusable("header says nothing of orientation", wanted, path, remedy)
        intake.mend(unknown, f"read as {geometry.axis_codes}")
    return geometry


def _stored(path: Path, header: TextHeader, size: int) -> Iterator[bytes]:
    """Give the voxels and what stands behind them, decompressed."""
    name = header.data.name
    with reading(path, f"voxels in {name}", name), header.data.open("rb") as file:
        last = header.data.stat().st_size - size
        file.seek(last if header.start is None else header.start)
        yield from (
            _decompressed(file, header.length) if header.compressed else _portions(file, None)
        )


def _portions(file: BinaryIO, length: int | None, step: int = PORTION) -> Iterator[bytes]:
    """Give `length` bytes of a file, or all that follow."""
    while (length is None or length > 0) and (portion := file.read(step)):
        yield portion[:length]
        length = None if length is None else length - len(portion)


def _decompressed(file: BinaryIO, length: int | None) -> Iterator[bytes]:
    """Decompress one zlib stream, or the members of a gzip stream; checksums are verified."""
    portions = _portions(file, length, _COMPRESSED)
    compressed, member = next(portions, b""), True
    while member:
        decompressor = zlib_ng.decompressobj(wbits=_EITHER)
        while compressed and not decompressor.eof:
            yield decompressor.decompress(compressed, PORTION)
            compressed = (
                decompressor.unconsumed_tail or decompressor.unused_data or next(portions, b"")
            )
        if not decompressor.eof:
            raise EOFError("the stream ends before its end is marked")
        member = compressed.startswith(MAGIC)
