"""What is needed of a header besides what SimpleITK tells: where the voxels stand, and how.

SimpleITK tells sizes, types and geometry. Where the voxels stand is read by `nrrd_header` and
`metaimage_header`, so that they can be counted before they are read; so is what it passes over in
silence: units other than mm, intensities to be scaled, worlds other than the patient's. What both
share is here.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from vol3dseg.errors import FileFormatError

_LONGEST = 2**24  # bytes of a header; with the gradients of a diffusion series it takes thousands
# Numbers, vectors and the words of both formats.
_HARMLESS = re.compile(
    r"([-+.,() \d]|none)*|ascii|txt|text|hex|bz2|bzip2|cm|um|m|in|false|true|scanner-xyz|"
    r"3d-(right|left)-handed",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Header:
    """What is needed of a header besides what SimpleITK tells.

    Parameters
    ----------
    data : Path
        The file that the voxels stand in: that of the header, or one beside it.
    start : int or None
        The first byte of the voxels; None where they end with the file.
    packed : bool
        Whether they are one gzip or zlib stream.
    length : int or None
        Of that stream [bytes], where the header tells.
    oriented : bool
        Whether it says how the axes lie in the patient.
    colours : bool
        Whether a voxel is a colour.
    """

    data: Path
    start: int | None
    packed: bool
    length: int | None
    oriented: bool
    colours: bool


def text_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Give the lines of a header, without white space around them."""
    while file.tell() < _LONGEST and (line := file.readline(_LONGEST)):
        # Names of files may be anything; those that are not UTF-8 come through as they are.
        yield line.decode(errors="surrogateescape").strip()
    if file.tell() >= _LONGEST:
        raise FileFormatError(
            "its header does not end", where=path, remedy="copy or export it again"
        )


def data_file(path: Path, named: str | None) -> tuple[Path, bool]:
    """Return the file of the voxels, and whether it is that of the header.

    Raises
    ------
    FileFormatError
        There are several, or it is missing or lies outside of the header's folder.
    """
    if named is None:
        return path, True
    if named.split()[:1] == ["LIST"] or "%" in named:
        raise FileFormatError(
            "header names several data files",
            where=path,
            expected="one",
            remedy="save it as one file",
        )
    pure = PurePath(named)
    if pure.is_absolute() or ".." in pure.parts:
        raise FileFormatError(
            f"its data file{_quoted(path, named)} lies elsewhere",
            where=path,
            expected="one in the folder of the header",
            remedy="save both there",
        )
    data = path.parent / pure
    if not os.path.isfile(data):  # noqa: PTH113 - for a name that no file can have, pathlib raises
        raise FileFormatError(
            f"its data file{_quoted(path, named)} is missing",
            where=path,
            remedy="copy it into the folder of the header",
        )
    return data, False


def _quoted(path: Path, named: str) -> str:
    """Return the name of a data file where it is called as its header: others may name someone."""
    alike = re.fullmatch(re.escape(path.stem) + r"(\.\w{1,4}){1,2}", PurePath(named).name)
    return f" {named}" if alike and named.isprintable() else ""


def whole_number(path: Path, name: str, value: str) -> int:
    """Return the whole number that a field holds."""
    if not re.fullmatch(r"-?\d{1,20}", value):
        raise unfit(path, name, "no whole number", "a whole number")
    return int(value)


def is_plain(number: float) -> bool:
    """Tell whether a number is finite and can be squared; SimpleITK chokes on others."""
    return number == 0 or 1e-100 < abs(number) < 1e100


def unfit(path: Path, field: str, found: str, expected: str) -> FileFormatError:
    """Return an error that quotes the header only where that cannot name the patient."""
    quoted = repr(found) if _HARMLESS.fullmatch(found) else "another"
    return FileFormatError(
        f"header says {field} {quoted}", where=path, expected=expected, remedy="save it again"
    )
