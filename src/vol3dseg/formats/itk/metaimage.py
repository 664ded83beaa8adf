"""MetaImage files, as https://itk.org/Wiki/MetaIO/Documentation describes them.

Other readers go on in the midst of things where a line is not as they expect; here headers are held
to what is written everywhere. Headers that are written hold nothing but the grid.
"""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.files import atomic_path
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
_DIGITS = 20  # of the compressed size, which is known when the voxels are written


def _read_header(path: Path) -> TextHeader:
    """Read a header; refuse what is damaged, or would be read wrongly."""
    fields = read_fields(path, _LINE, last="ElementDataFile")
    sizes = fields.sizes("DimSize", "NDims")
    axes = len(sizes)
    spacing = _agreed(fields, _SPACINGS[: 1 if _SPACINGS[0] in fields.values else 2], np.ones(axes))
    directions = _agreed(fields, _MATRICES, np.eye(axes).ravel()).reshape(axes, axes).T
    origin = _agreed(fields, _ORIGINS, np.zeros(axes))
    _require_plain(fields)
    named = fields.text("ElementDataFile")
    data, attached = data_file(path, None if named.lower() == "local" else named)
    compressed, skip = _switch(fields, "CompressedData"), fields.whole("HeaderSize")
    if (skip and compressed) or (skip > 0 and attached):
        raise fields.unfit("HeaderSize", "0")
    if not compressed and "CompressedDataSize" in fields.values:
        raise fields.unfit("CompressedDataSize", "CompressedData = True as well")
    length = fields.whole("CompressedDataSize") if compressed else None
    if length is not None and length < 1:  # others find the end of the stream by it
        raise fields.unfit("CompressedDataSize", "the bytes that follow", str(length))
    several = fields.whole("ElementNumberOfChannels", "1", least=1)
    big = any(_switch(fields, name) for name in _ORDERS)
    return TextHeader(
        axes=sizes if several == 1 else (*sizes, several),
        dtype=np.dtype(_TYPES[fields.text("ElementType")]).newbyteorder(">" if big else "<"),
        affine=affine_of((directions * spacing)[:3, :3], origin[:3], LPS_TO_RAS),
        spacing_mm=tuple(spacing[:3].tolist()),
        oriented=not fields.values.keys().isdisjoint(_MATRICES),
        data=data,
        start=None if skip == -1 else skip + attached * fields.end,
        compressed=compressed,
        length=length,
        interleaved=several > 1,  # whether they are colours it cannot tell
    )


def _agreed(
    fields: Fields, names: tuple[str, ...], absent: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the numbers that a header gives by one of several names, or by all that it uses."""
    found = {n: fields.numbers(n, absent.size) for n in names if n in fields.values}
    first = next(iter(found), "")
    for name, values in found.items():
        if not np.array_equal(values, found[first]):
            raise fields.unfit(name, f"the numbers of {first}")
    return found.get(first, absent)


def _require_plain(fields: Fields) -> None:
    """Refuse what would be read as something else."""
    if fields.text("ElementType") not in _TYPES:
        raise fields.unfit("ElementType", "one like MET_SHORT")
    if not _switch(fields, "BinaryData"):
        raise fields.unfit("BinaryData", "True", "False")
    if fields.text("DistanceUnits", "mm").lower() not in ("mm", "?"):
        raise fields.unfit("DistanceUnits", "mm")
    for name, plain in (("Slope", 1.0), ("Offset", 0.0)):
        key = f"ElementToIntensityFunction{name}"
        if key in fields.values and fields.numbers(key, 1)[0] != plain:
            raise fields.unfit(key, f"{plain:g}, intensities as they are stored")


def _switch(fields: Fields, name: str) -> bool:
    value = fields.text(name, "False").lower()
    if value not in _SWITCHES:
        raise fields.unfit(name, "True or False")
    return _SWITCHES[value]


def _write(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write a file with its voxels inside, compressed; see `formats.write`."""
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


METAIMAGE = itk_format("mha", "a MetaImage", (".mha", ".mhd"), _START, _read_header, _write)
