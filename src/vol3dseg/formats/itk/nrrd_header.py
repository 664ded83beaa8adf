"""Headers of NRRD files, as http://teem.sourceforge.net/nrrd/format.html describes them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from vol3dseg.formats.itk.text_header import (
    Header,
    data_file,
    is_plain,
    text_lines,
    unfit,
    whole_number,
)

START = re.compile(rb"NRRD000\d\r?\n")
_VECTOR_PARTS = re.compile(r"[^\s(),]+(?=[^()]*\))")
_SPACES = {
    "left-posterior-superior", "lps", "right-anterior-superior", "ras",
    "left-anterior-superior", "las",
}  # fmt: skip


def read_nrrd_header(path: Path) -> Header:
    """Read what is needed of the header of an NRRD file.

    Raises
    ------
    FileFormatError
        The header does not end, or says something that would be read wrongly.
    """
    with path.open("rb") as file:
        fields = dict(_fields(file, path))
        end = file.tell()
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise unfit(path, "encoding", encoding, "raw or gzip")
    packed = encoding != "raw"
    data, attached = data_file(path, fields.get("datafile"))
    lines = whole_number(path, "line skip", fields.get("lineskip", "0"))
    if lines:
        raise unfit(path, "line skip", str(lines), "0")
    skip = whole_number(path, "byte skip", fields.get("byteskip", "0"))
    if skip < -1 or (skip and packed):
        raise unfit(path, "byte skip", str(skip), "0")
    return Header(
        data=data,
        start=None if skip == -1 else skip + attached * end,
        packed=packed,
        length=None,
        oriented=_check_world(path, fields),
        colours="color" in fields.get("kinds", "").lower(),
    )


def _check_world(path: Path, fields: Mapping[str, str]) -> bool:
    """Refuse worlds other than the patient's in mm; tell whether there is one at all."""
    space, timed = fields.get("space", "").lower(), 0
    if space.endswith("-time"):
        space, timed = space.removesuffix("-time"), 1
    if space and space not in _SPACES:
        raise unfit(path, "space", space, "left-posterior-superior or one like it")
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", fields.get("units", ""))))
    if strange := sorted(units - {"mm", "", "???", "s", "ms"}):
        raise unfit(path, "space units", strange[0], "mm")
    directions = fields.get("spacedirections", "")
    if directions and directions.count("(") != 3 + timed:
        raise unfit(path, "space directions", directions, "one for each of three axes")
    if not all(map(_is_number, _VECTOR_PARTS.findall(directions))):
        raise unfit(path, "space directions", directions, "finite numbers")
    return bool(space and directions)


def _is_number(text: str) -> bool:
    try:
        return is_plain(float(text))
    except ValueError:
        return False


def _fields(file: BinaryIO, path: Path) -> Iterator[tuple[str, str]]:
    """Give the fields up to the empty line; without comments and free `key:=value` pairs."""
    for line in text_lines(file, path):
        if not line:
            return
        name, colon, value = line.partition(": ")
        if colon and ":=" not in name and not line.startswith("#"):
            yield name.lower().replace(" ", ""), value.strip()
