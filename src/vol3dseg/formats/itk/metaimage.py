"""MetaImage files, as https://itk.org/Wiki/MetaIO/Documentation describes them.

Other readers go on in the midst of things where a line is not as they expect; here headers are held
to what is written everywhere. Headers that are written hold nothing but the grid.
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
from vol3dseg.formats.streams import zlib_stream
from vol3dseg.space.geometry import Geometry

_START = re.compile(rb"\s*[A-Za-z]+ *= *\S")
# Names may be those of other formats, such as `dim[0]` or `0008|0060`.
_LINE = re.compile(r"(?P<name>[^\s=:\0-\x1f]+) *= *(?P<value>[^\0-\b\n-\x1f]*)")
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
_ORIGINS = ("Offset", "Position", "Origin")
_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_SPACINGS = ("ElementSpacing", "ElementSize")  # the latter counts where the former is absent
_DIGITS = 20  # of the packed size, which is known when the voxels are written


def _read_header(path: Path) -> TextHeader:
    """Read a header; refuse what is damaged, or would be read wrongly."""
    fields, end = header_fields(path, _LINE, last="ElementDataFile")
    axes = voxel_counts(
        path, "DimSize", fields.get("DimSize", ""), fields.get("NDims", ""), "NDims"
    )
    spacing = _spacing(path, fields, len(axes))[:3]
    matrix = _agreed(path, fields, _MATRICES, np.eye(len(axes)).ravel())
    directions = matrix.reshape(len(axes), -1).T[:3, :3]
    origin = _agreed(path, fields, _ORIGINS, np.zeros(len(axes)))[:3]
    _require_plain(path, fields)
    named = fields["ElementDataFile"]
    data, attached = data_file(path, None if named.lower() == "local" else named)
    packed = _switch(path, fields, "CompressedData")
    skip = whole_number(path, "HeaderSize", fields.get("HeaderSize", "0"))
    if (skip and packed) or (skip > 0 and attached):
        raise unfit(path, "HeaderSize", str(skip), "0")
    channels = fields.get("ElementNumberOfChannels", "1")
    several = whole_number(path, "ElementNumberOfChannels", channels, least=1)
    big = any(_switch(path, fields, name) for name in _ORDERS)
    return TextHeader(
        axes=axes if several == 1 else (*axes, several),
        dtype=np.dtype(_TYPES[fields["ElementType"]]).newbyteorder(">" if big else "<"),
        affine=affine_of(directions * spacing, origin, LPS_TO_RAS),
        spacing_mm=tuple(spacing.tolist()),
        oriented=not fields.keys().isdisjoint(_MATRICES),
        data=data,
        start=None if skip == -1 else skip + attached * end,
        packed=packed,
        length=_packed_length(path, fields, packed),
        interleaved=several > 1,  # whether they are colours it cannot tell
    )


def _spacing(path: Path, fields: Mapping[str, str], axes: int) -> NDArray[np.float64]:
    name = next((name for name in _SPACINGS if name in fields), None)
    return np.ones(axes) if name is None else numbers(path, name, fields[name].split(), axes)


def _agreed(
    path: Path, fields: Mapping[str, str], names: tuple[str, ...], absent: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the numbers that a header gives by one of several names, or by all that it uses."""
    found = {n: numbers(path, n, fields[n].split(), absent.size) for n in names if n in fields}
    first = next(iter(found), "")
    for name, values in found.items():
        if not np.array_equal(values, found[first]):
            raise unfit(path, name, fields[name], f"the numbers of {first}")
    return found.get(first, absent)


def _require_plain(path: Path, fields: Mapping[str, str]) -> None:
    """Refuse what would be read as something else."""
    if fields.get("ElementType") not in _TYPES:
        raise unfit(path, "ElementType", fields.get("ElementType", "none"), "one like MET_SHORT")
    if not _switch(path, fields, "BinaryData"):
        raise unfit(path, "BinaryData", "False", "True")
    if fields.get("DistanceUnits", "mm").lower() not in ("mm", "?"):
        raise unfit(path, "DistanceUnits", fields["DistanceUnits"], "mm")
    for name, plain in (("Slope", 1.0), ("Offset", 0.0)):
        key = f"ElementToIntensityFunction{name}"
        if key in fields and numbers(path, key, [fields[key]], 1)[0] != plain:
            raise unfit(path, key, fields[key], f"{plain:g}, intensities as they are stored")


def _switch(path: Path, fields: Mapping[str, str], name: str) -> bool:
    value = fields.get(name, "False")
    if value.lower() not in _SWITCHES:
        raise unfit(path, name, "neither", "True or False")
    return _SWITCHES[value.lower()]


def _packed_length(path: Path, fields: Mapping[str, str], packed: bool) -> int | None:
    """Return the size of the zlib stream; others need it to find its end, so it must be true."""
    name = "CompressedDataSize"
    if not packed:
        if name in fields:
            raise unfit(path, name, fields[name], "CompressedData = True as well")
        return None
    length = whole_number(path, name, fields.get(name, "0"))
    if length < 1:
        raise unfit(path, name, str(length), "the bytes that follow")
    return length


def _write(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write a file with its voxels inside, packed; see `formats.write`."""
    axes = array.ndim
    directions, origin = np.eye(axes), np.zeros(axes)
    directions[:3, :3] = LPS_TO_RAS[:, None] * geometry.affine[:3, :3]
    origin[:3] = LPS_TO_RAS * geometry.affine[:3, 3]
    spacing = np.linalg.norm(directions, axis=0)
    fields = {
        "ObjectType": "Image",
        "NDims": str(axes),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(sys.byteorder == "big"),
        "CompressedData": "True",
        "CompressedDataSize": "0" * _DIGITS,
        "TransformMatrix": spaced((directions / spacing).T.ravel().tolist()),
        "Offset": spaced(origin.tolist()),
        "ElementSpacing": spaced(spacing.tolist()),
        "DimSize": spaced(array.shape),
        "ElementType": type_name(path, array.dtype, _TYPES),
        "ElementDataFile": "LOCAL",
    }
    header = "".join(f"{name} = {value}\n" for name, value in fields.items()).encode()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        file.writelines(zlib_stream(stored_portions(array)))
        size = file.tell() - len(header)
        file.seek(header.index(b"0" * _DIGITS))
        file.write(b"%0*d" % (_DIGITS, size))


METAIMAGE = Format(
    "mha", "a MetaImage", ".mha", (".mha", ".mhd"),
    lambda file: not file.packed and bool(_START.match(file.start)),
    lambda file, repair: open_itk(file.path, _read_header(file.path), repair),
    lambda path: files_of_text(path, ".mhd", _read_header),
    _write,
)  # fmt: skip
