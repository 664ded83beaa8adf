"""The columns of a dataset table: what each is called, how it is read, written and documented."""

import difflib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ID, SUBJECT, LABEL = "id", "subject", "label"
_CLOSE = 0.8  # of difflib: one letter of five is wrong
_LARGEST = float(np.finfo(np.float32).max)  # images are read as float32


def _count(cell: str) -> int:
    if not (cell.isascii() and cell.isdigit()):
        raise ValueError(cell)
    return int(cell)


def _finite(cell: str) -> float:
    number = float(cell)
    if not math.isfinite(number) or abs(number) > _LARGEST:
        raise ValueError(cell)
    return number


def _answer(cell: str) -> bool:
    return {"yes": True, "no": False}[cell.lower()]


@dataclass(frozen=True, slots=True)
class Option:
    """A column that says how an image is read; it is named after the column of the image.

    Parameters
    ----------
    suffix : str
        What its name ends in: "_volume" of "t1_volume".
    field : str
        The attribute of `ImageSource` that it sets.
    read, expected
        From the text of a cell to its value, by ValueError or KeyError; what it takes, in words.
    write : callable
        From the attribute to the text of a cell; not asked where that is None.
    image, label : (says, where empty) or None
        For docs/datasets.md, beside an image and beside the label map, which may have none.
    """

    suffix: str
    field: str
    read: Callable[[str], Any]
    expected: str
    write: Callable[[Any], str]
    image: tuple[str, str]
    label: tuple[str, str] | None = None


COLUMNS = {
    ID: ("names the case in every output; no slash, no dot at its beginning", "must be there"),
    SUBJECT: ("who was scanned", "the id"),
    LABEL: ("the label map; a file, or a folder with DICOM", "there is none"),
    "<modality>": ("the image; any name that is none of the others", "must be there, in every row"),
}
OPTIONS = (
    Option("_volume", "channel", _count, "a whole number from 0", str,
           ("which volume of a 4-D file, from 0", "a 4-D file is refused")),
    Option("_nan", "nan", _finite, "a finite number", repr,
           ("the number that replaces NaN and infinity", "they are refused")),
    Option("_series", "series", str, "text", str,
           ("which DICOM series, where `<modality>` is a folder: UID, number, or a pattern of its "
            "description (`T1*`)", "the folder holds only one"),
           ("the same for `label`: a mask that is kept as images, or a DICOM-SEG",
            "the folder holds only one")),
    Option("_resample", "onto", _answer, "yes or no", lambda onto: "yes",
           ("`yes`: the image is brought onto the grid of the first modality of the table",
            "images on different grids are refused"),
           ("`yes`: the label map is brought onto the grid of the images",
            "a label map on another grid is refused")),
)  # fmt: skip
_SUFFIXES = tuple(option.suffix for option in OPTIONS)
_FIXED = (ID, SUBJECT, LABEL, *(LABEL + option.suffix for option in OPTIONS if option.label))


def documented() -> dict[str, tuple[str, str]]:
    """Return what docs/datasets.md says of each column: its meaning, and that of an empty cell."""
    of_images = {f"<modality>{option.suffix}": option.image for option in OPTIONS}
    of_labels = {LABEL + option.suffix: option.label for option in OPTIONS if option.label}
    return {**COLUMNS, **of_images, **of_labels}


def all_columns(modalities: Sequence[str]) -> list[str]:
    """Return the names of all columns that a table of these modalities can have, in order."""
    named = [m + suffix for m in modalities for suffix in ("", *_SUFFIXES)]
    return [ID, SUBJECT, *named, *_FIXED[2:]]


def read_header(names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the columns that are modalities, and what is wrong with the header, in words."""
    times = Counter(filter(None, names))
    problems = [f"column {name!r} is there twice" for name, n in times.items() if n > 1]
    problems += [f"column {n} has no name" for n, name in enumerate(names, start=1) if not name]
    if ID not in names:
        problems.append(f"there is no column {ID!r}")
    images = tuple(name for name in times if name not in _FIXED and not name.endswith(_SUFFIXES))
    for name in times:
        if name in images:
            meant = _meant(name, names, images)
            if meant:
                problems.append(f"unknown column {name!r}, did you mean {meant!r}?")
        elif name not in _FIXED:
            problems += _without_image(name, images)
    if not images:
        problems.append("there is no column of a modality")
    return images, problems


def _meant(name: str, names: Sequence[str], images: Sequence[str]) -> str | None:
    """Return the column that was probably meant by one that is taken for a modality."""
    of_others = [image + suffix for image in images if image != name for suffix in _SUFFIXES]
    known = [k for k in (*_FIXED, *of_others) if k not in names]
    return next(iter(difflib.get_close_matches(name.lower(), known, 1, _CLOSE)), None)


def _without_image(name: str, images: Sequence[str]) -> list[str]:
    """Return what is wrong with a column that says something of an image, if it is not there."""
    suffix = next(suffix for suffix in _SUFFIXES if name.endswith(suffix))
    image = name.removesuffix(suffix)
    if image in images:
        return []
    close = difflib.get_close_matches(image, images, 1)
    guess = f", did you mean {close[0] + suffix!r}?" if close else ""
    return [f"unknown column {name!r}: there is no modality {image!r}{guess}"]
