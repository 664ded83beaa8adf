"""From a row of a dataset table to a case, or to what is wrong with it."""

import math
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.table_columns import (
    ID,
    LABEL,
    LABEL_RESAMPLE,
    LABEL_SERIES,
    NAN,
    RESAMPLE,
    SERIES,
    SUBJECT,
    VOLUME,
)

Value = TypeVar("Value")
_ANSWERS = {"yes": True, "no": False}
_LARGEST = float(np.finfo(np.float32).max)  # images are read as float32


@dataclass(frozen=True, slots=True)
class Row:
    """One row as text.

    Parameters
    ----------
    place : str
        Where it is, for messages: "row 2" of a CSV file is the first below the header.
    cells : mapping from column to str
        Without spaces around it; every column of the table is there.
    """

    place: str
    cells: Mapping[str, str]


def unused_columns(rows: Sequence[Row], modalities: Sequence[str], folder: Path) -> dict[str, str]:
    """Find the columns that are taken for modalities, but do not name a single file.

    Returns
    -------
    mapping from column to str
        What is wrong, said once instead of for each row.
    """
    found = {}
    for name in modalities:
        cells = [row.cells[name] for row in rows if row.cells[name]]
        if len(rows) > 1 and not any(_mode(folder / cell) for cell in cells):
            what = f"no file that is there, not even {_shown(cells[0])}" if cells else "no file"
            found[name] = (
                f"column {name!r} names {what}; paths are relative to the table, and what is no "
                "modality has no column"
            )
    return found


def repeated_ids(rows: Sequence[Row]) -> list[str]:
    """Find ids that several rows have; return what is wrong, in words."""
    first: dict[str, str] = {}
    return [
        f"{row.place}: id {row.cells[ID]!r} is that of {first[row.cells[ID]]}"
        for row in rows
        if row.cells[ID] and first.setdefault(row.cells[ID], row.place) != row.place
    ]


def read_case(row: Row, modalities: Sequence[str], folder: Path) -> tuple[Case | None, list[str]]:
    """Return the case of a row, or what is wrong with the row.

    Parameters
    ----------
    row : Row
    modalities : sequence of str
        Each must have an image; others may be resampled onto the grid of the first.
    folder : Path
        That of the table.

    Returns
    -------
    case : Case or None
    problems : list of str
        In words; empty where there is a case.
    """
    cells = _Cells(row, folder)
    name = cells.id()
    images: dict[str, ImageSource] = {}
    for modality in modalities:
        first = next(iter(images.values()), None)
        images[modality] = _image(cells, modality, first)
    label = cells.path(LABEL) if row.cells.get(LABEL) else None
    series = row.cells.get(LABEL_SERIES) or None
    resampled = cells.value(LABEL_RESAMPLE, _answer, "yes or no") or False
    for column, asked in ((LABEL_SERIES, series), (LABEL_RESAMPLE, resampled)):
        if asked and label is None:
            cells.problems.append(f"{row.place}: {column}: there is no label map")
    if cells.problems:
        return None, cells.problems
    return Case(name, row.cells.get(SUBJECT) or name, images, label, resampled, series), []


def _image(cells: "_Cells", modality: str, first: ImageSource | None) -> ImageSource:
    """Return where an image is kept; `first` is that of the first modality, None for itself."""
    series = cells.row.cells.get(modality + SERIES) or None
    resampled = cells.value(modality + RESAMPLE, _answer, "yes or no")
    if resampled and first is None:
        cells.problems.append(
            f"{cells.row.place}: {modality}{RESAMPLE}: {modality} is the first modality, onto "
            "whose grid others are brought"
        )
    return ImageSource(
        cells.path(modality),
        channel=cells.value(modality + VOLUME, _count, "a whole number from 0"),
        nan=cells.value(modality + NAN, _finite, "a finite number"),
        series=series,
        onto=first if resampled else None,
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of a row as values; what is wrong with them is gathered."""

    row: Row
    folder: Path
    problems: list[str] = field(default_factory=list)

    def id(self) -> str:
        """Return the id, which goes into the names of outputs and must not lead elsewhere."""
        name = self.row.cells[ID]
        if not name:
            self.problems.append(f"{self.row.place}: id is empty")
        elif not name.isprintable() or "/" in name or "\\" in name or name.startswith("."):
            self.problems.append(
                f"{self.row.place}: id {name!r} cannot name files: expected no slash, no dot at "
                "its beginning and nothing invisible"
            )
        return name

    def path(self, column: str) -> Path:
        """Return the file that a cell names, or the folder with DICOM."""
        cell = self.row.cells[column]
        path = Path(os.path.normpath(self.folder / cell))
        if not cell:
            self.problems.append(f"{self.row.place}: {column} is empty")
            return path
        mode = _mode(path)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            what = "is no file" if mode else "is not there"
            self.problems.append(f"{self.row.place}: {column}: {_shown(cell)} {what}")
        return path

    def value(self, column: str, parse: Callable[[str], Value], expected: str) -> Value | None:
        """Return the value of a cell; None where it is empty, not valid or not there."""
        cell = self.row.cells.get(column, "")
        try:
            return parse(cell) if cell else None
        except (ValueError, KeyError):
            found = f"{self.row.place}: {column}: found {_shown(cell)}"
            self.problems.append(f"{found}, expected {expected}")
            return None


def _shown(cell: str) -> str:
    """Return a cell as it is said in a message, which is one line."""
    return cell if cell.isprintable() else repr(cell)


def _mode(path: Path) -> int:
    """Return the mode of a file; 0 where there is none, or the text cannot name one."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


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
    return _ANSWERS[cell.lower()]
