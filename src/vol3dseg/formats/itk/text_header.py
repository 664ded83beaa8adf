"""What the headers of NRRD and MetaImage have in common: text that says where voxels are, and how.

What would be read wrongly is refused: units other than mm, intensities to be scaled, worlds other
than the patient's, and whatever is not written as everywhere.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.streams import damaged, unfit_file

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_LONGEST = 2**24  # bytes of a header; with the gradients of a diffusion series it takes thousands
# Numbers, vectors and the keywords of both formats.
_HARMLESS = re.compile(
    r"([-+.,() \d]|none)*|ascii|txt|text|hex|bz2|bzip2|cm|um|m|in|false|true|scanner-xyz|block|"
    r"3d-(right|left)-handed",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TextHeader:
    """What a header says, checked."""

    axes: tuple[int, ...]  # voxels; several numbers in a voxel are the last, wherever they stand
    dtype: np.dtype[Any]  # as stored
    affine: NDArray[np.float64]  # from voxel to world RAS+ [mm], (4, 4)
    spacing_mm: tuple[float, ...]  # where the header says it by itself
    oriented: bool  # it says how the axes lie in the patient
    data: Path  # the file of the voxels: that of the header, or one beside it
    start: int | None  # the first byte of the voxels; None where they end with the file
    compressed: bool  # they are one gzip or zlib stream
    length: int | None = None  # of that stream [bytes], where the header tells
    interleaved: bool = False  # the numbers of a voxel stand together
    unusable: str = ""  # what voxels are, where they are no plain numbers
    quantised: bool = False  # they stand for a wider range, which they were rounded from


def affine_of(
    columns: NDArray[np.float64], origin: NDArray[np.float64], to_ras: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the affine to RAS+ from the steps between voxels and the first one in another world.

    Where there are fewer than three axes it is that of no image, which is refused later.
    """
    affine = np.eye(4)
    if len(origin) == 3:
        affine[:3] = to_ras[:, None] * np.column_stack([columns, origin])
    return affine + 0.0  # no -0.0 in messages


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a header, each once, and its end [bytes].

    Errors quote the header only where that cannot name the patient.
    """

    path: Path
    values: Mapping[str, str]
    end: int

    def text(self, name: str, absent: str = "") -> str:
        """Return what a field says."""
        return self.values.get(name, absent)

    def unfit(self, name: str, expected: str, found: str | None = None) -> FileFormatError:
        """Return the error of a field, or of what is `found` in it."""
        found = self.text(name) if found is None else found
        words = f"header says {name} {repr(found) if _HARMLESS.fullmatch(found) else 'another'}"
        return unfit_file(words, self.path, expected, "save it again")

    def whole(self, name: str, absent: str = "0", least: int = -1) -> int:
        """Return a whole number."""
        if not re.fullmatch(r"-?\d{1,20}", value := self.text(name, absent)):
            raise self.unfit(name, "a whole number")
        if int(value) < least:
            raise self.unfit(name, f"{least} or more")
        return int(value)

    def numbers(self, name: str, count: int) -> NDArray[np.float64]:
        """Return finite numbers, a vector or several."""
        found = [_number(part) for part in re.findall(r"[^\s(),]+", self.text(name))]
        if not all(number == 0 or 1e-100 < abs(number) < 1e100 for number in found):  # or damage
            raise self.unfit(name, "finite numbers")
        if len(found) != count:
            raise self.unfit(name, f"{count} numbers")
        return np.array(found)

    def sizes(self, name: str, axes: str) -> tuple[int, ...]:
        """Return the voxels along the axes, whose number is that of the field `axes`."""
        sizes = self.text(name).split()
        whole = all(re.fullmatch(r"0*[1-9]\d{0,9}", size) for size in sizes)
        if self.text(axes) != str(len(sizes)) or not whole:
            raise self.unfit(name, f"{axes} whole numbers from 1 on")
        return tuple(map(int, sizes))


def read_fields(
    path: Path, line: re.Pattern[str], passed_over: str = r"(?!)", last: str | None = None
) -> Fields:
    """Return the fields of a header.

    `line` matches a field, with the groups `name` and `value`, and `passed_over` what is none. The
    field `last` ends the header; where that is None, an empty line or the end of the file does, and
    the case of names does not count.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for number, text in enumerate(_lines(file, path), start=1):
            if last is None and not text:
                break
            if re.match(passed_over, text):
                continue
            found = line.fullmatch(text)
            name = found["name"] if found else ""
            name = name if last else name.lower()
            if found is None or name in fields:
                words = f"damaged header: line {number} is no field, or one that came before"
                wanted = f"`{'Name = value' if last else 'name: value'}`, each once"
                raise unfit_file(words, path, wanted, "save it again")
            fields[name] = found["value"].strip()
            if name == last:
                break
        if last is not None and last not in fields:
            raise damaged(f"ends within its header, before {last}", path, "the whole header")
        return Fields(path, fields, file.tell())


def _lines(file: BinaryIO, path: Path) -> Iterator[str]:
    while file.tell() < _LONGEST and (line := file.readline(_LONGEST)):
        # Names of files may be anything; those that are not UTF-8 come through as they are.
        yield line.decode(errors="surrogateescape").strip()
    if file.tell() >= _LONGEST:
        raise damaged("its header does not end", path, f"fewer than {_LONGEST} bytes")


def data_file(path: Path, named: str | None) -> tuple[Path, bool]:
    """Return the file of the voxels, and whether it is that of the header."""
    if named is None:
        return path, True
    if named.split()[:1] == ["LIST"] or "%" in named:
        raise unfit_file("header names several data files", path, "one", "save it as one file")
    pure = PurePath(named)
    if pure.is_absolute() or ".." in pure.parts:
        found = f"its data file{_quoted(path, named)} lies elsewhere"
        raise unfit_file(found, path, "one in the folder of the header", "save both there")
    data = path.parent / pure
    if not os.path.isfile(data):  # noqa: PTH113 - for a name that no file can have, pathlib raises
        found = f"its data file{_quoted(path, named)} is missing"
        remedy = "copy it into the folder of the header"
        raise unfit_file(found, path, "it beside the header", remedy)
    return data, False


def _quoted(path: Path, named: str) -> str:
    """Return the name of a data file where it is called as its header: others may name someone."""
    alike = re.fullmatch(re.escape(path.stem) + r"(\.\w{1,4}){1,2}", PurePath(named).name)
    return f" {named}" if alike and named.isprintable() else ""


def _number(text: str) -> float:
    """Return a number, NaN for what is none; Python alone takes 1_000 for one."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def type_name(path: Path, dtype: np.dtype[Any], names: Mapping[str, str]) -> str:
    """Return what a format calls a type of voxels, the first of several names."""
    for name, known in names.items():
        if known == f"{dtype.kind}{dtype.itemsize}":
            return name
    found = f"cannot hold voxels of {dtype}"
    raise unfit_file(found, path, "integers or floats", "convert them first")


def spaced(values: Sequence[float]) -> str:
    """Return numbers as headers hold them."""
    return " ".join(map(repr, values))
