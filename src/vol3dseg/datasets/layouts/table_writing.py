"""Cases of any layout as a dataset table, for editing by hand."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

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
    read_header,
)
from vol3dseg.errors import DatasetError
from vol3dseg.files import write_text


def write_table(cases: Sequence[Case], path: Path) -> None:
    """Write a dataset table, atomically; read back, it gives the same cases.

    An image that a case lacks is an empty cell, which has to be filled in before the table can be
    used. Columns that would be empty in every row are left out, but for `subject` and `label`.

    Parameters
    ----------
    cases : sequence of Case
    path : Path
        Ends in .csv or .json; paths in it are relative to its folder, with slashes.

    Raises
    ------
    DatasetError
        The name ends in something else, or a name or path would not be read back as it is; all such
        are listed.
    OutputError
        The file cannot be written.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise DatasetError(f"{path}: tables are written as CSV or JSON; end the name in .csv")
    folder = Path(os.path.realpath(path.parent))
    rows = [_cells(case, folder) for case in cases]
    modalities = tuple(dict.fromkeys(name for case in cases for name in case.images))
    columns = _columns(rows, modalities)
    problems = [
        *_unreadable_names(columns, modalities),
        *_unreadable_cells(rows, columns),
        *_resampled_onto_others(cases, modalities),
    ]
    if problems:
        raise DatasetError(
            f"{path}: {'; '.join(problems)}; rename them, or write the table by hand"
        )
    if path.suffix.lower() == ".csv":
        write_text(path, _csv(rows, columns))
    else:
        content = [{c: row.get(c) or None for c in columns} for row in rows]
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _columns(rows: Sequence[Mapping[str, str]], modalities: Sequence[str]) -> list[str]:
    order = [ID, SUBJECT]
    for name in modalities:
        order += [name, name + VOLUME, name + NAN, name + SERIES, name + RESAMPLE]
    order += [LABEL, LABEL_SERIES, LABEL_RESAMPLE]
    kept = {ID, SUBJECT, LABEL, *modalities}
    return [c for c in order if c in kept or any(row.get(c) for row in rows)]


def _cells(case: Case, folder: Path) -> dict[str, str]:
    cells = {ID: case.id, SUBJECT: case.subject}
    for name, source in case.images.items():
        cells |= _of_image(name, source, folder)
    if case.label is not None:
        cells[LABEL] = _relative(case.label, folder)
        cells[LABEL_SERIES] = case.label_series or ""
        cells[LABEL_RESAMPLE] = "yes" if case.label_resampled else ""
    return cells


def _of_image(name: str, source: ImageSource, folder: Path) -> dict[str, str]:
    return {
        name: _relative(source.path, folder),
        name + VOLUME: "" if source.channel is None else str(source.channel),
        name + NAN: "" if source.nan is None else repr(source.nan),
        name + SERIES: source.series or "",
        name + RESAMPLE: "yes" if source.onto else "",
    }


def _relative(path: Path, folder: Path) -> str:
    # Links in the folders are followed, since ".." is meant of the real ones; a file that is a link
    # keeps its name.
    real = Path(os.path.realpath(path.parent), path.name)
    try:
        return Path(os.path.relpath(real, folder)).as_posix()
    except ValueError:  # on another drive
        return real.as_posix()


def _unreadable_names(columns: Sequence[str], modalities: tuple[str, ...]) -> list[str]:
    found, problems = read_header([column.strip() for column in columns])
    others = [name for name in modalities if name not in found]
    return problems + [f"modality {name!r} cannot be the name of a column" for name in others]


def _unreadable_cells(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> list[str]:
    texts = dict.fromkeys(row.get(column, "") for row in rows for column in columns)
    return [f"{text!r} cannot be kept as text" for text in texts if not _can_be_kept(text)]


def _can_be_kept(text: str) -> bool:
    """Tell whether a text comes back as it is: spaces around it would be lost."""
    try:
        text.encode()  # names of files that are not UTF-8 hold lone surrogates
    except UnicodeEncodeError:
        return False
    return text == text.strip() and "\0" not in text


def _resampled_onto_others(cases: Sequence[Case], modalities: Sequence[str]) -> list[str]:
    return [
        f"case {case.id}: {name} is resampled onto another image than {modalities[0]}"
        for case in cases
        for name, source in case.images.items()
        if source.onto is not None and source.onto != case.images.get(modalities[0])
    ]


def _csv(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
