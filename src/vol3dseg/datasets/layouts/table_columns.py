"""The columns of a dataset table: what each is called, how it is read, written and documented."""

import difflib
import math
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vol3dseg.datasets.case import FIT_ID, Case, ImageSource, given_twice, is_fit_id
from vol3dseg.datasets.label_classes import COLUMN as CLASSES
from vol3dseg.datasets.label_classes import (
    EXPECTED,
    Annotated,
    label_classes_cell,
    parse_label_classes,
)
from vol3dseg.schema import quoted

ID, SUBJECT, LABEL = "id", "subject", "label"
_LONGEST = 500  # characters of a cell that is shown
_CLOSE = 0.8  # of difflib: one letter of five is wrong
_LARGEST = float(np.finfo(np.float32).max)  # images are read as float32


def _count(cell: str) -> int:
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10):
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
    """A column that says how an image is read; it is named after the column of the image."""

    suffix: str  # "_volume" of "t1_volume"
    field: str  # of `ImageSource`
    read: Callable[[str], Any]  # the value of a cell; raises ValueError or KeyError
    expected: str  # what `read` takes
    write: Callable[[Any], str]  # the cell of a value that is not None
    of_labels: bool = False  # whether the label map has such a column, too


# What each says stands in docs/datasets.md.
OPTIONS = (
    Option("_volume", "channel", _count, "a whole number from 0", str),
    Option("_nan", "nan", _finite, "a finite number", repr),
    Option("_series", "series", str, "text", str, of_labels=True),
    Option("_resample", "onto", _answer, "yes or no", lambda onto: "yes", of_labels=True),
)
_SUFFIXES = tuple(option.suffix for option in OPTIONS)
_FIXED = (
    ID,
    SUBJECT,
    LABEL,
    *(LABEL + option.suffix for option in OPTIONS if option.of_labels),
    CLASSES,
)


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
        if name in images:  # if it is near to a column that is not there, that was probably meant
            known = set(all_columns([image for image in images if image != name])) - set(names)
            for meant in difflib.get_close_matches(name.lower(), known, 1, _CLOSE):
                problems.append(f"unknown column {name!r}, did you mean {meant!r}?")
        elif name not in _FIXED:
            problems += _without_image(name, images)
    if not images:
        problems.append("there is no column of a modality")
    return images, problems


def _without_image(name: str, images: Sequence[str]) -> list[str]:
    """Return what is wrong with a column that says something of an image, if it is not there."""
    suffix = next(suffix for suffix in _SUFFIXES if name.endswith(suffix))
    image = name.removesuffix(suffix)
    if image in images:
        return []
    close = difflib.get_close_matches(image, images, 1)
    guess = f", did you mean {close[0] + suffix!r}?" if close else ""
    return [f"unknown column {name!r}: there is no modality {image!r}{guess}"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row as text: where it is ("row 2" is the first below a header), and its cells.

    Every column of the table is among the cells, without spaces around it; `folder` is that of the
    table. What is wrong with the row is gathered in `problems`.
    """

    place: str
    cells: Mapping[str, str]
    folder: Path
    problems: list[str] = field(default_factory=list)

    def case(self, modalities: Sequence[str]) -> Case | None:
        """Return the case of the row; None where something is wrong.

        An empty cell is a modality that the case lacks; one of them it must have. Others may be
        resampled onto the grid of the first.
        """
        name = self._id()
        first: ImageSource | None = None
        images: dict[str, ImageSource] = {}
        for modality in modalities:
            if not self.cells[modality]:
                self._require_nothing_of(modality)
                continue
            images[modality] = self._source(modality, first)
            first = first or images[modality]
        if not images and not self.problems:
            self._add(f"names no image; expected one of {', '.join(modalities)}")
        label = self._source(LABEL, first) if self.cells.get(LABEL) else None
        if twice := given_twice(images if label is None else {**images, LABEL: label}):
            self._add(twice)
        if label is None:
            self._require_nothing_of(LABEL)
        annotated = self._annotated()
        if annotated and label is None:
            self._add(f"{CLASSES}: there is no label map")
        if self.problems:
            return None
        subject = self.cells.get(SUBJECT) or name
        if label is None:
            return Case(name, subject, images)
        resampled = label.onto is not None
        return Case(name, subject, images, label.path, resampled, label.series, annotated)

    def _require_nothing_of(self, column: str) -> None:
        """Refuse options of an image or a label map that the case does not have."""
        for option in OPTIONS:
            value = self._value(column, option)
            if value is not None and value is not False:
                what = "label map" if column == LABEL else f"image of {column}"
                self._add(f"{column}{option.suffix}: there is no {what}")

    def names_a_file(self, column: str) -> bool:
        """Tell whether a cell is the path of something that is there."""
        return bool(self.cells[column] and _mode(self.folder / self.cells[column]))

    def _add(self, problem: str) -> None:
        self.problems.append(f"{self.place}: {problem}")

    def _id(self) -> str:
        """Return the id, which becomes part of file names and must not lead elsewhere."""
        name = self.cells[ID]
        if not name:
            self._add("id is empty")
        elif not is_fit_id(name):
            self._add(f"id {name!r} cannot name files: expected {FIT_ID}")
        return name

    def _source(self, column: str, first: ImageSource | None) -> ImageSource:
        """Return where an image is kept; `first` is that of the first modality, None for itself."""
        path = self._path(column)
        values = {option.field: self._value(column, option) for option in OPTIONS}
        if values["onto"] and first is None:
            whose = "is the first modality, onto whose grid others are brought"
            self._add(f"{column}_resample: {column} {whose}")
        return ImageSource(path, **{**values, "onto": first if values["onto"] else None})

    def _path(self, column: str) -> Path:
        cell = self.cells[column]
        path = Path(os.path.normpath(self.folder / cell))
        mode = _mode(path)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            self._add(f"{column}: {shown(cell)} {'is no file' if mode else 'is not there'}")
        return path

    def _annotated(self) -> Annotated | None:
        """Return which classes were looked for; None where the cell is empty or not valid."""
        cell = self.cells.get(CLASSES, "")
        try:
            return parse_label_classes(cell) if cell else None
        except ValueError:
            self._add(f"{CLASSES}: found {shown(cell)}, expected {EXPECTED}")
            return None

    def _value(self, column: str, option: Option) -> Any:
        """Return the value of an option; None where it is empty, not valid or not there."""
        cell = self.cells.get(column + option.suffix, "")
        try:
            return option.read(cell) if cell else None
        except (ValueError, KeyError):
            self._add(f"{column}{option.suffix}: found {shown(cell)}, expected {option.expected}")
            return None


def shown(cell: str) -> str:
    """Return a cell for a message, which is one line."""
    return cell if cell.isprintable() and len(cell) <= _LONGEST else quoted(cell)


def _mode(path: Path) -> int:
    """Return the mode of a file; 0 where there is none, or the text cannot name one."""
    for look in (path.stat, path.lstat):  # the latter at a link that leads nowhere
        with suppress(OSError, ValueError):
            return look().st_mode
    return 0


def cells_of(case: Case, folder: Path) -> dict[str, str]:
    """Return the cells of a case in a table that lies in `folder`."""
    sources = dict(case.images)
    if case.label is not None:
        onto = ImageSource(case.label) if case.label_resampled else None
        sources[LABEL] = ImageSource(case.label, series=case.label_series, onto=onto)
    cells = {ID: case.id, SUBJECT: case.subject}
    if case.annotated is not None:
        cells[CLASSES] = label_classes_cell(case.annotated)
    for name, source in sources.items():
        cells[name] = _relative(source.path, folder)
        for option in OPTIONS:
            value = getattr(source, option.field)
            cells[name + option.suffix] = "" if value is None else option.write(value)
    return cells


def _relative(path: Path, folder: Path) -> str:
    # Links in the folders are followed, since ".." is meant of the real ones; a file that is a link
    # keeps its name.
    real = Path(os.path.realpath(path.parent), path.name)
    try:
        return Path(os.path.relpath(real, folder)).as_posix()
    except ValueError:  # on another drive
        return real.as_posix()
