"""Headers of MetaImage files, as https://itk.org/Wiki/MetaIO/Documentation describes them.

SimpleITK reads on in the midst of things where a line is not as it expects, and complains on
stderr; so headers are held to what is written everywhere.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.itk.text_header import (
    Header,
    data_file,
    is_plain,
    text_lines,
    unfit,
    whole_number,
)

START = re.compile(rb"\s*[A-Za-z]+ *= *\S")
# Names may be those of other formats, such as `dim[0]` or `0008|0060`.
_LINE = re.compile(r"(?P<name>[^\s=:\0-\x1f]+) *= *(?P<value>[^\0-\b\n-\x1f]*)")
_INTEGERS = ("CHAR", "SHORT", "INT", "LONG", "LONG_LONG")
_TYPES = {
    "MET_FLOAT", "MET_DOUBLE", *(f"MET_{sign}{kind}" for kind in _INTEGERS for sign in ("", "U"))
}  # fmt: skip
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
# How many numbers stand in a field: those of the axes, to this power.
_COUNTS = dict.fromkeys(_MATRICES, 2) | dict.fromkeys(
    ("Offset", "Position", "Origin", "ElementSpacing", "ElementSize", "CenterOfRotation"), 1
)


def read_metaimage_header(path: Path) -> Header:
    """Read what is needed of the header of a MetaImage file.

    Raises
    ------
    FileFormatError
        The header does not end, or says something that would be read wrongly.
    """
    with path.open("rb") as file:
        fields = _fields(file, path)
        end = file.tell()
    _check_numbers(path, fields)
    _check_meaning(path, fields)
    named = fields["ElementDataFile"]
    data, attached = data_file(path, None if named.lower() == "local" else named)
    packed = _switch(path, fields, "CompressedData")
    skip = whole_number(path, "HeaderSize", fields.get("HeaderSize", "0"))
    if skip < -1 or (skip and packed) or (skip > 0 and attached):
        raise unfit(path, "HeaderSize", str(skip), "0")
    return Header(
        data=data,
        start=None if skip == -1 else skip + attached * end,
        packed=packed,
        length=_packed_length(path, fields, packed),
        oriented=not fields.keys().isdisjoint(_MATRICES),
        colours=False,  # it cannot tell colours from volumes
    )


def _fields(file: BinaryIO, path: Path) -> dict[str, str]:
    """Return the fields up to the one that names the data.

    Where a line is none, or a field comes twice, SimpleITK goes on in the midst of things.
    """
    fields: dict[str, str] = {}
    for number, line in enumerate(text_lines(file, path), start=1):
        field = _LINE.fullmatch(line)
        if field is None or field["name"] in fields:
            raise FileFormatError(
                f"damaged header: line {number} is no field, or one that came before",
                where=path,
                expected="`Name = value`, each once",
                remedy="save it again",
            )
        fields[field["name"]] = field["value"]
        if field["name"] == "ElementDataFile":
            return fields
    raise FileFormatError(
        "ends within its header, before ElementDataFile",
        where=path,
        remedy="copy or export it again",
    )


def _check_numbers(path: Path, fields: Mapping[str, str]) -> None:
    """Refuse numbers that SimpleITK would take for others, or complain of on stderr."""
    first = next(name for name in [*fields, "NDims"] if name in ("NDims", "DimSize", *_COUNTS))
    if first != "NDims":
        raise FileFormatError(
            f"header says {first} before NDims",
            where=path,
            expected="NDims first",
            remedy="save it again",
        )
    sizes = fields.get("DimSize", "").split()
    axes = len(sizes)
    whole = all(re.fullmatch(r"0*[1-9]\d{0,9}", size) for size in sizes)
    if fields.get("NDims", "") != str(axes) or not whole:
        raise unfit(path, "DimSize", " ".join(sizes), "NDims whole numbers from 1 on")
    whole_number(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"))
    for name, power in _COUNTS.items():
        numbers = [_number(path, name, value) for value in fields.get(name, "").split()]
        if name in fields and len(numbers) != axes**power:
            raise unfit(path, name, fields[name], f"{axes**power} numbers")


def _check_meaning(path: Path, fields: Mapping[str, str]) -> None:
    """Refuse what would be read as something else."""
    if fields.get("ElementType") not in _TYPES:
        raise unfit(path, "ElementType", fields.get("ElementType", "none"), "one like MET_SHORT")
    if not _switch(path, fields, "BinaryData"):
        raise unfit(path, "BinaryData", "False", "True")
    if fields.get("DistanceUnits", "mm").lower() not in ("mm", "?"):
        raise unfit(path, "DistanceUnits", fields["DistanceUnits"], "mm")
    for name, plain in (("Slope", "1"), ("Offset", "0")):
        key = f"ElementToIntensityFunction{name}"
        if _number(path, key, fields.get(key, plain)) != float(plain):
            raise unfit(path, key, fields[key], f"{plain}, intensities as they are stored")


def _switch(path: Path, fields: Mapping[str, str], name: str) -> bool:
    value = fields.get(name, "False")
    if value.lower() not in _SWITCHES:
        raise unfit(path, name, "neither", "True or False")
    return _SWITCHES[value.lower()]


def _packed_length(path: Path, fields: Mapping[str, str], packed: bool) -> int | None:
    """Return the size of the zlib stream, without which SimpleITK returns voxels of anything."""
    name = "CompressedDataSize"
    if not packed:
        if name in fields:
            raise unfit(path, name, fields[name], "CompressedData = True as well")
        return None
    length = whole_number(path, name, fields.get(name, "0"))
    if length < 1:
        raise unfit(path, name, str(length), "the bytes that follow")
    return length


def _number(path: Path, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not is_plain(number):
        raise unfit(path, name, "no number", "finite numbers")
    return number
