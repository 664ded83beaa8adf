"""NRRD files, as http://teem.sourceforge.net/nrrd/format.html describes them.

Headers that are written hold nothing but the grid.
"""

import re
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.formats.image_file import stored_portions
from vol3dseg.formats.itk.itk_file import itk_format
from vol3dseg.formats.itk.text_header import (
    LPS_TO_RAS,
    Fields,
    TextHeader,
    affine_of,
    data_file,
    read_fields,
    spaced,
    type_name,
)
from vol3dseg.formats.streams import gzip_stream, write_stream
from vol3dseg.space.geometry import Geometry

_START = re.compile(rb"NRRD000\d\r?\n")
_LINE = re.compile(r"(?P<name>[^:=]+):(?P<value>| .*)")
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
_OLD_RANGE = ("old min", "oldmin", "old max", "oldmax")
_DOMAIN = ("domain", "space", "time", "???", "none")
_VOLUMES = (
    "list", "scalar", "stub", "point", "vector", "covariant-vector", "normal", "2-vector",
    "3-vector", "4-vector", "3-gradient", "3-normal",
)  # fmt: skip


def _read_header(path: Path) -> TextHeader:
    """Read a header; refuse what is damaged, or would be read wrongly."""
    fields = read_fields(path, _LINE, _PASSED_OVER)
    encoding = fields.text("encoding").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise fields.unfit("encoding", "raw or gzip")
    compressed = encoding != "raw"
    data, attached = data_file(path, fields.values.get("data file", fields.values.get("datafile")))
    skip = {name: fields.whole(name) for name in ("line skip", "lineskip", "byte skip", "byteskip")}
    for name, count in skip.items():
        if count and (compressed or "line" in name):
            raise fields.unfit(name, "0")
    start = skip["byte skip"] or skip["byteskip"]
    sizes = fields.sizes("sizes", "dimension")
    to_ras, timed = _world(fields)
    directed = bool(fields.text("space directions"))
    columns, first = (
        _directions(fields, len(sizes), timed) if directed else _spacings(fields, len(sizes))
    )
    origin = np.zeros(len(columns))
    if directed and "space origin" in fields.values:
        origin = fields.numbers("space origin", 3 + timed)[:3]
    return TextHeader(
        axes=sizes[first:] + sizes[:first],
        dtype=_dtype(fields),
        affine=affine_of(columns, origin, to_ras),
        spacing_mm=() if directed else tuple(columns.diagonal().tolist()),
        oriented=directed and bool(fields.text("space")),
        data=data,
        start=None if start == -1 else start + attached * fields.end,
        compressed=compressed,
        interleaved=bool(first),
        unusable=_unusable(fields),
        quantised=not fields.values.keys().isdisjoint(_OLD_RANGE),
    )


def _dtype(fields: Fields) -> np.dtype[Any]:
    name, order = fields.text("type").lower(), fields.text("endian").lower()
    if name not in _TYPES:
        raise fields.unfit("type", "one like short")
    dtype = np.dtype(_TYPES[name])
    if dtype.itemsize > 1 and order not in ("little", "big"):
        raise fields.unfit("endian", "little or big")
    return dtype.newbyteorder(">" if order == "big" else "<")


def _directions(fields: Fields, count: int, timed: int) -> tuple[NDArray[np.float64], int]:
    """Return the steps between voxels as columns, and which axis is the first of space: 0 or 1."""
    name = "space directions"
    text = fields.text(name)
    vectors = _VECTOR.findall(text)
    if text.count("(") != 3 + timed:
        raise fields.unfit(name, "one for each of three axes")
    if len(vectors) != count or _VECTOR.sub("", text).strip():
        raise fields.unfit(name, "one or none for each axis")
    first = int(vectors[0].lower() == "none")
    inside = vectors[first : first + 3]
    if len(inside) < 3 or not all(vector.startswith("(") for vector in inside):
        raise fields.unfit(name, "those of space beside each other")
    steps = Fields(fields.path, {name: " ".join(inside)}, 0).numbers(name, 3 * (3 + timed))
    return steps.reshape(3, 3 + timed)[:, :3].T, first


def _spacings(fields: Fields, count: int) -> tuple[NDArray[np.float64], int]:
    """Return the same where there are no directions, with the spacings on the diagonal."""
    if "axis mins" in fields.values or "axismins" in fields.values:
        raise fields.unfit("axis mins", "space directions and space origin")
    kinds = fields.text("kinds").lower().split()
    first = int(bool(kinds) and kinds[0] not in _DOMAIN)
    given = fields.text("spacings").lower().replace("nan", "1") or "1 " * count
    spacing = Fields(fields.path, {"spacings": given}, 0).numbers("spacings", count)
    return np.diag(spacing[first : first + 3]), first


def _world(fields: Fields) -> tuple[NDArray[np.float64], int]:
    """Refuse worlds other than the patient's in mm; tell whether time is one of its axes."""
    space = fields.text("space").lower()
    name = space.removesuffix("-time")
    if name and name not in _SPACES:
        raise fields.unfit("space", "left-posterior-superior or one like it", space)
    units = re.findall(r'"([^"]*)"', fields.text("space units", fields.text("units")))
    if strange := sorted({*units} - {"mm", "", "???", "s", "ms"}):
        raise fields.unfit("space units", "mm", strange[0])
    return _SPACES.get(name, LPS_TO_RAS), int(name != space)


def _unusable(fields: Fields) -> str:
    """Return what voxels are by the kinds of axes, if they are no plain numbers."""
    for kind in fields.text("kinds").lower().split():
        if "color" in kind or "complex" in kind:
            return "colours" if "color" in kind else "complex numbers"
        if kind not in _DOMAIN + _VOLUMES:
            raise fields.unfit("kinds", "axes of space, and a list of numbers at most", kind)
    return ""


def _write(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write a file with its voxels inside, compressed; see `formats.write`."""
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
    write_stream(path, chain([header.encode()], gzip_stream(stored_portions(array))))


def _vector(values: NDArray[np.float64]) -> str:
    return f"({','.join(map(repr, values.tolist()))})"


NRRD = itk_format("nrrd", "an NRRD", (".nrrd", ".nhdr"), _START, _read_header, _write)
