"""NRRD files, as http://teem.sourceforge.net/nrrd/format.html describes them.

Headers that are written hold nothing but the grid.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.files import atomic_path
from vol3dseg.formats.image_file import Format, stored_portions
from vol3dseg.formats.itk.itk_file import open_itk
from vol3dseg.formats.itk.text_header import (
    LPS_TO_RAS,
    TextHeader,
    affine_of,
    data_file,
    files_of_text,
    header_fields,
    numbers,
    spaced,
    type_name,
    unfit,
    voxel_counts,
    whole_number,
)
from vol3dseg.formats.streams import gzip_stream
from vol3dseg.space.geometry import Geometry

_START = re.compile(rb"NRRD000\d\r?\n")
_LINE = re.compile(r"(?P<name>[^:=]+): (?P<value>.*)")
_PASSED_OVER = r"NRRD000\d$|#|[^:]+:="  # the first line, comments, free `key:=value` pairs
_VECTOR = re.compile(r"\([^()]*\)|none", re.IGNORECASE)
_SPELLINGS = {  # the first is written
    "i1": ("int8", "int8_t", "signed char"),
    "u1": ("uint8", "uint8_t", "uchar", "unsigned char"),
    "i2": ("int16", "int16_t", "short", "short int", "signed short", "signed short int"),
    "u2": ("uint16", "uint16_t", "ushort", "unsigned short", "unsigned short int"),
    "i4": ("int32", "int32_t", "int", "signed int"),
    "u4": ("uint32", "uint32_t", "uint", "unsigned int"),
    "i8": ("int64", "int64_t", "longlong", "long long", "long long int", "signed long long",
           "signed long long int"),
    "u8": ("uint64", "uint64_t", "ulonglong", "unsigned long long", "unsigned long long int"),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip
_TYPES = {name: kind for kind, names in _SPELLINGS.items() for name in names}
_RAS = np.ones(3)
_SPACES = {
    "left-posterior-superior": LPS_TO_RAS, "lps": LPS_TO_RAS,
    "right-anterior-superior": _RAS, "ras": _RAS,
    "left-anterior-superior": _RAS * (-1, 1, 1), "las": _RAS * (-1, 1, 1),
}  # fmt: skip
_DOMAIN = ("domain", "space", "time", "???", "none")
_VOLUMES = (
    "list", "scalar", "stub", "point", "vector", "covariant-vector", "normal", "2-vector",
    "3-vector", "4-vector", "3-gradient", "3-normal",
)  # fmt: skip


def _read_header(path: Path) -> TextHeader:
    """Read a header; refuse what is damaged, or would be read wrongly."""
    fields, end = header_fields(path, _LINE, _PASSED_OVER)
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise unfit(path, "encoding", encoding, "raw or gzip")
    packed = encoding != "raw"
    data, attached = data_file(path, fields.get("datafile"))
    if lines := whole_number(path, "line skip", fields.get("lineskip", "0")):
        raise unfit(path, "line skip", str(lines), "0")
    skip = whole_number(path, "byte skip", fields.get("byteskip", "0"))
    if skip and packed:
        raise unfit(path, "byte skip", str(skip), "0")
    sizes = voxel_counts(
        path, "sizes", fields.get("sizes", ""), fields.get("dimension", ""), "dimension"
    )
    to_ras, timed = _world(path, fields)
    origin = np.zeros(3)
    if "spaceorigin" in fields:
        origin = numbers(path, "space origin", _parts(fields["spaceorigin"]), 3 + timed)[:3]
    if directed := bool(fields.get("spacedirections")):
        columns, first = _vectors(path, fields, len(sizes), timed)
        spacing = np.zeros(0)
    else:
        spacing, first = _spacings(path, fields, len(sizes))
        columns, origin = np.diag(spacing), np.zeros(len(spacing))
    return TextHeader(
        axes=sizes[first:] + sizes[:first],
        dtype=_dtype(path, fields),
        affine=affine_of(columns, origin, to_ras),
        spacing_mm=tuple(spacing.tolist()),
        oriented=directed and bool(fields.get("space")),
        data=data,
        start=None if skip == -1 else skip + attached * end,
        packed=packed,
        interleaved=bool(first),
        unusable=_unusable(path, fields.get("kinds", "").lower().split()),
    )


def _dtype(path: Path, fields: Mapping[str, str]) -> np.dtype[Any]:
    name, order = fields.get("type", "none").lower(), fields.get("endian", "").lower()
    if name not in _TYPES:
        raise unfit(path, "type", name, "one like short")
    dtype = np.dtype(_TYPES[name])
    if dtype.itemsize > 1 and order not in ("little", "big"):
        raise unfit(path, "endian", order, "little or big")
    return dtype.newbyteorder(">" if order == "big" else "<")


def _vectors(
    path: Path, fields: Mapping[str, str], count: int, timed: int
) -> tuple[NDArray[np.float64], int]:
    """Return the steps between voxels as columns, and which axis is the first of space: 0 or 1."""
    text = fields["spacedirections"]
    vectors = _VECTOR.findall(text)
    if text.count("(") != 3 + timed:
        raise unfit(path, "space directions", text, "one for each of three axes")
    if len(vectors) != count or _VECTOR.sub("", text).strip():
        raise unfit(path, "space directions", text, "one or none for each axis")
    first = int(vectors[0].lower() == "none")
    inside = [_parts(vector) for vector in vectors[first : first + 3]]
    if len(inside) < 3 or ["none"] in inside:
        raise unfit(path, "space directions", text, "those of space beside each other")
    columns = [numbers(path, "space directions", parts, 3 + timed)[:3] for parts in inside]
    return np.array(columns).T, first


def _parts(vector: str) -> list[str]:
    return re.split(r"[\s,]+", vector.strip("( )"))


def _spacings(path: Path, fields: Mapping[str, str], count: int) -> tuple[NDArray[np.float64], int]:
    """Return spacings where there are no directions, and which axis is the first of space."""
    if "axismins" in fields:
        raise unfit(path, "axis mins", fields["axismins"], "space directions and space origin")
    kinds = fields.get("kinds", "").lower().split()
    first = int(bool(kinds) and kinds[0] not in _DOMAIN)
    given = fields.get("spacings", "").lower().replace("nan", "1").split() or ["1"] * count
    return numbers(path, "spacings", given, count)[first : first + 3], first


def _world(path: Path, fields: Mapping[str, str]) -> tuple[NDArray[np.float64], int]:
    """Refuse worlds other than the patient's in mm; tell whether time is one of its axes."""
    space = fields.get("space", "").lower()
    name = space.removesuffix("-time")
    if name and name not in _SPACES:
        raise unfit(path, "space", space, "left-posterior-superior or one like it")
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", fields.get("units", ""))))
    if strange := sorted(units - {"mm", "", "???", "s", "ms"}):
        raise unfit(path, "space units", strange[0], "mm")
    return _SPACES.get(name, LPS_TO_RAS), int(name != space)


def _unusable(path: Path, kinds: list[str]) -> str:
    """Return what voxels are by the kinds of axes, if they are no plain numbers."""
    for kind in kinds:
        if "color" in kind or "complex" in kind:
            return "colours" if "color" in kind else "complex numbers"
        if kind not in _DOMAIN + _VOLUMES:
            raise unfit(path, "kinds", kind, "axes of space, and a list of numbers at most")
    return ""


def _write(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write a file with its voxels inside, packed; see `formats.write`."""
    lps = LPS_TO_RAS[:, None] * geometry.affine[:3]
    several = array.ndim > 3
    fields = {
        "type": type_name(path, array.dtype, _TYPES),
        "dimension": str(array.ndim),
        "space": "left-posterior-superior",
        "sizes": spaced(array.shape),
        "space directions": " ".join([*map(_vector, lps[:, :3].T), *["none"] * several]),
        "kinds": " ".join(["domain"] * 3 + ["list"] * several),
        "endian": sys.byteorder,
        "encoding": "gzip",
        "space origin": _vector(lps[:, 3]),
    }
    header = "NRRD0004\n" + "".join(f"{name}: {value}\n" for name, value in fields.items()) + "\n"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header.encode())
        file.writelines(gzip_stream(stored_portions(array)))


def _vector(values: NDArray[np.float64]) -> str:
    return f"({','.join(map(repr, values.tolist()))})"


NRRD = Format(
    "nrrd", "an NRRD", ".nrrd", (".nrrd", ".nhdr"),
    lambda file: not file.packed and bool(_START.match(file.start)),
    lambda file, repair: open_itk(file.path, _read_header(file.path), repair),
    lambda path: files_of_text(path, ".nhdr", _read_header),
    _write,
)  # fmt: skip
