"""What the headers of NRRD and MetaImage files say that SimpleITK does not act on.

SimpleITK tells sizes, types and geometry. Where the voxels stand is read here, so that they can be
counted before they are read; so is what it passes over in silence: units other than mm, intensities
to be scaled, worlds other than the patient's.

Sources: http://teem.sourceforge.net/nrrd/format.html and https://itk.org/Wiki/MetaIO/Documentation.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

from vol3dseg.errors import FileFormatError

ItkFormat = Literal["NRRD", "MetaImage"]

_STARTS: Mapping[ItkFormat, re.Pattern[bytes]] = {
    "NRRD": re.compile(rb"NRRD000\d\r?\n"),
    "MetaImage": re.compile(rb"\s*[A-Za-z]+ *= *\S"),
}
_LONGEST = (
    2**24
)  # bytes of a header; those of diffusion series, with their gradients, take thousands
_NRRD_SPACES = {
    "left-posterior-superior", "lps", "right-anterior-superior", "ras",
    "left-anterior-superior", "las",
}  # fmt: skip
# Numbers, vectors and the words of both formats.
_HARMLESS = re.compile(
    r"([-+.,() \d]|none)*|ascii|txt|text|hex|bz2|bzip2|cm|um|m|in|false|true|scanner-xyz|"
    r"3d-(right|left)-handed",
    re.IGNORECASE,
)
_TRUE = ("true", "1", "yes")


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


def format_of(start: bytes) -> ItkFormat | None:
    """Return which of the two formats a file is that begins with `start`; None if neither."""
    return next((name for name, pattern in _STARTS.items() if pattern.match(start)), None)


def read_header(path: Path, kind: ItkFormat) -> Header:
    """Read what is needed of a header.

    Parameters
    ----------
    path : Path
        A regular file of this format.
    kind : "NRRD" or "MetaImage"

    Raises
    ------
    FileFormatError
        The header does not end, or says something that would be read wrongly.
    """
    with path.open("rb") as file:
        if kind == "NRRD":
            fields = dict(_nrrd_fields(file, path))
            return _of_nrrd(path, fields, file.tell())
        fields = dict(_meta_fields(file, path))
        return _of_meta(path, fields, file.tell())


def _lines(file: BinaryIO, path: Path) -> Iterator[str]:
    while file.tell() < _LONGEST and (line := file.readline(_LONGEST)):
        # Names of files may be anything; those that are not UTF-8 come through as they are.
        yield line.decode(errors="surrogateescape").strip()
    if file.tell() >= _LONGEST:
        raise FileFormatError(f"{path}: its header does not end; copy or export it again")


def _nrrd_fields(file: BinaryIO, path: Path) -> Iterator[tuple[str, str]]:
    """Give the fields up to the empty line; without comments and free `key:=value` pairs."""
    for line in _lines(file, path):
        if not line:
            return
        name, colon, value = line.partition(": ")
        if colon and ":=" not in name and not line.startswith("#"):
            yield name.lower().replace(" ", ""), value.strip()


def _meta_fields(file: BinaryIO, path: Path) -> Iterator[tuple[str, str]]:
    """Give the fields up to the one that names the data."""
    for line in _lines(file, path):
        name, _, value = (part.strip() for part in line.partition("="))
        yield name, value
        if name == "ElementDataFile":
            return
    raise FileFormatError(
        f"{path}: ends within its header, before ElementDataFile; copy or export it again"
    )


def _of_nrrd(path: Path, fields: Mapping[str, str], end: int) -> Header:
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise _unfit(path, "encoding", encoding, "raw or gzip")
    packed = encoding != "raw"
    data, attached = _data_file(path, fields.get("datafile"))
    lines = _whole(path, "line skip", fields.get("lineskip", "0"))
    if lines:
        raise _unfit(path, "line skip", str(lines), "0")
    skip = _whole(path, "byte skip", fields.get("byteskip", "0"))
    if skip < -1 or (skip and packed):
        raise _unfit(path, "byte skip", str(skip), "0")
    return Header(
        data=data,
        start=None if skip == -1 else skip + attached * end,
        packed=packed,
        length=None,
        oriented=_check_nrrd_world(path, fields),
        colours="color" in fields.get("kinds", "").lower(),
    )


def _check_nrrd_world(path: Path, fields: Mapping[str, str]) -> bool:
    """Refuse worlds other than the patient's in mm; tell whether there is one at all."""
    space, timed = fields.get("space", "").lower(), 0
    if space.endswith("-time"):
        space, timed = space.removesuffix("-time"), 1
    if space and space not in _NRRD_SPACES:
        raise _unfit(path, "space", space, "left-posterior-superior or one like it")
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", fields.get("units", ""))))
    if strange := sorted(units - {"mm", "", "???", "s", "ms"}):
        raise _unfit(path, "space units", strange[0], "mm")
    directions = fields.get("spacedirections", "")
    if directions and directions.count("(") != 3 + timed:
        raise _unfit(path, "space directions", directions, "one for each of three axes")
    return bool(space and directions)


def _of_meta(path: Path, fields: Mapping[str, str], end: int) -> Header:
    _check_meta_sizes(path, fields)
    if fields.get("BinaryData", "").lower() not in _TRUE:
        raise _unfit(path, "BinaryData", fields.get("BinaryData", "False"), "True")
    if fields.get("DistanceUnits", "mm").lower() not in ("mm", "?"):
        raise _unfit(path, "DistanceUnits", fields["DistanceUnits"], "mm")
    for name, plain in (("Slope", "1"), ("Offset", "0")):
        key = f"ElementToIntensityFunction{name}"
        if _number(path, key, fields.get(key, plain)) != float(plain):
            raise _unfit(path, key, fields[key], f"{plain}, intensities as they are stored")
    named = fields["ElementDataFile"]
    data, attached = _data_file(path, None if named.lower() == "local" else named)
    packed = fields.get("CompressedData", "").lower() in _TRUE
    skip = _whole(path, "HeaderSize", fields.get("HeaderSize", "0"))
    if skip < -1 or (skip and packed) or (skip > 0 and attached):
        raise _unfit(path, "HeaderSize", str(skip), "0")
    return Header(
        data=data,
        start=None if skip == -1 else skip + attached * end,
        packed=packed,
        length=_packed_length(path, fields) if packed else None,
        oriented=not fields.keys().isdisjoint({"TransformMatrix", "Rotation", "Orientation"}),
        colours=False,  # it cannot tell colours from volumes
    )


def _packed_length(path: Path, fields: Mapping[str, str]) -> int:
    """Return the size of the zlib stream, without which SimpleITK returns voxels of anything."""
    length = _whole(path, "CompressedDataSize", fields.get("CompressedDataSize", "0"))
    if length < 1:
        raise _unfit(path, "CompressedDataSize", str(length), "the bytes that follow")
    return length


def _check_meta_sizes(path: Path, fields: Mapping[str, str]) -> None:
    """Refuse what SimpleITK would complain of on stderr, or take for billions."""
    sizes = fields.get("DimSize", "").split()
    right = fields.get("NDims", "") == str(len(sizes)) and all(
        re.fullmatch(r"0*[1-9]\d{0,9}", size) for size in sizes
    )
    if not right:
        raise _unfit(path, "DimSize", " ".join(sizes), "NDims whole numbers from 1 on")


def _data_file(path: Path, named: str | None) -> tuple[Path, bool]:
    """Return the file of the voxels, and whether it is that of the header."""
    if named is None:
        return path, True
    if named.split()[:1] == ["LIST"] or "%" in named:
        raise FileFormatError(
            f"{path}: header names several data files; expected one; save it as one file"
        )
    pure = PurePath(named)
    if pure.is_absolute() or ".." in pure.parts:
        raise FileFormatError(
            f"{path}: its data file {named} lies elsewhere; expected one in the folder of the "
            "header; save both there"
        )
    data = path.parent / pure
    if not data.is_file():
        raise FileFormatError(
            f"{path}: its data file {named} is missing; copy it into the folder of the header"
        )
    return data, False


def _number(path: Path, name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise _unfit(path, name, "no number", "a number") from error


def _whole(path: Path, name: str, value: str) -> int:
    if not re.fullmatch(r"-?\d{1,20}", value):
        raise _unfit(path, name, "no whole number", "a whole number")
    return int(value)


def _unfit(path: Path, field: str, found: str, expected: str) -> FileFormatError:
    """Return an error that quotes the header only where that cannot name the patient."""
    quoted = repr(found) if _HARMLESS.fullmatch(found) else "another"
    return FileFormatError(
        f"{path}: header says {field} {quoted}; expected {expected}; save it again"
    )
