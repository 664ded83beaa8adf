"""A dataset table: one row a case, one column a modality, paths relative to the table.

It also says what needs a value and cannot be seen in the files; `table_columns` lists the columns.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError

from vol3dseg.datasets.case import Case, given_twice, is_fit_id, modalities_of
from vol3dseg.datasets.layouts.layout import Layout, Search
from vol3dseg.datasets.layouts.table_columns import (
    ID,
    LABEL,
    SUBJECT,
    Row,
    all_columns,
    cells_of,
    read_header,
    shown,
)
from vol3dseg.errors import DatasetError, OutputError
from vol3dseg.files import write_text
from vol3dseg.schema import problems as in_words
from vol3dseg.schema import values_of_json
from vol3dseg.written import usable_path

_SUFFIXES = (".csv", ".json")
_MOST_BYTES = 2**26  # a million rows


def _find(path: Path, search: Search) -> list[Case]:
    """Return the cases of a table: CSV in UTF-8 with a header, or JSON with a list."""
    if (size := path.stat().st_size) > _MOST_BYTES:
        wanted = f"a table of at most {_MOST_BYTES >> 20} MB"
        raise DatasetError(f"has {size >> 20} MB", where=path, expected=wanted, remedy="split it")
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets put a mark at the beginning
    except UnicodeDecodeError as error:
        remedy = "save the table as CSV UTF-8"
        raise DatasetError("not a text in UTF-8", where=path, remedy=remedy) from error
    read = _read_csv if path.suffix.lower() == ".csv" else _read_json
    columns, lines, wrong = read(path, text)
    modalities, misnamed = read_header(columns)
    problems = search.problems
    problems += [*misnamed, *wrong]
    folder, empty = Path(os.path.realpath(path.parent)), dict.fromkeys(columns, "")
    rows = [Row(place, {**empty, **cells}, folder) for place, cells in lines.items()]
    # Where a column is misnamed, messages about its cells would only hide that.
    return [] if problems else _cases(rows, modalities, problems)


TABLE = Layout(
    name="table",
    expected="a file .csv or .json with the columns id, one for each modality, and label",
    rule="",
    remedy="correct the table",
    recognises=lambda path: path.suffix.lower() in _SUFFIXES and path.is_file(),
    find=_find,
)


def write_table(cases: Sequence[Case], path: str | Path) -> None:
    """Write a dataset table, atomically; read back, it gives the same cases.

    Paths in it are relative to its folder, with slashes. An image that a case lacks is an empty
    cell. Columns that would be empty in
    every row are left out, but for `subject` and `label`.

    Parameters
    ----------
    cases : sequence of Case
        As `find_cases` gives them.
    path : str or Path
        Ends in .csv or .json.

    Raises
    ------
    DatasetError
        The name ends otherwise, or names or paths would not be read back as they are.
    OutputError
        The file cannot be written.
    """
    path = usable_path(path, OutputError)
    if path.suffix.lower() not in _SUFFIXES:
        remedy = "end the name in .csv or .json"
        raise DatasetError("tables are written as CSV or JSON", where=path, remedy=remedy)
    folder = Path(os.path.realpath(path.parent))
    rows = [cells_of(case, folder) for case in cases]
    modalities = modalities_of(cases)
    kept = {ID, SUBJECT, LABEL, *modalities}.union(*([c for c in row if row[c]] for row in rows))
    columns = [column for column in all_columns(modalities) if column in kept]
    problems = _unwritable(cases, rows, columns, modalities)
    if problems:
        remedy = "rename them, or write the table by hand"
        raise DatasetError("; ".join(problems), where=path, remedy=remedy)
    text = io.StringIO()
    if path.suffix.lower() == ".csv":
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        content = [{c: row.get(c) or None for c in columns} for row in rows]
        text.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_text(path, text.getvalue())


# Names of columns, cells of each row by its place, and what is wrong with the form.
_Read = tuple[Sequence[str], dict[str, dict[str, str]], list[str]]


def _read_csv(path: Path, text: str) -> _Read:
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        remedy = "save the table again"
        raise DatasetError(f"not valid CSV ({error})", where=path, remedy=remedy) from error
    stripped = [[cell.strip() for cell in line] for line in lines]
    if not any(any(line) for line in stripped[1:]):
        raise _no_cases(path, "a header and a row for each case")
    columns = _without_end(stripped[0])
    rows, problems = {}, list[str]()
    if ID not in columns and any(mark in text.splitlines()[0] for mark in ";\t"):
        problems.append("columns are not separated by commas")
    for number, line in enumerate(stripped[1:], start=2):
        if len(_without_end(line)) > len(columns):
            problems.append(f"row {number}: has {len(line)} cells for {len(columns)} columns")
        elif any(line):
            rows[f"row {number}"] = dict(zip(columns, line, strict=False))
    return columns, rows, problems


def _without_end(cells: Sequence[str]) -> Sequence[str]:
    """Return cells without the empty ones at the end, which spreadsheets add."""
    full = [n for n, cell in enumerate(cells, start=1) if cell]
    return cells[: full[-1]] if full else []


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else str(value).strip()
    raise ValueError(f"expected text, a number, true, false or null, found {value!r:.60}")


_ENTRIES = TypeAdapter(dict[str, dict[str, Annotated[Any, AfterValidator(_spelled)]]])


def _read_json(path: Path, text: str) -> _Read:
    listed = "a list with an object for each case"
    try:
        content = values_of_json(text)
    except ValueError as error:
        raise DatasetError(
            f"not valid JSON ({error})", where=path, expected=listed, remedy="correct it"
        ) from error
    try:
        if not isinstance(content, list):
            raise TypeError("it is no list")
        entries = _ENTRIES.validate_python({f"entry {n}": e for n, e in enumerate(content, 1)})
    except (TypeError, ValidationError) as error:
        found = in_words(error) if isinstance(error, ValidationError) else error
        raise DatasetError(
            f"not a dataset table ({found})",
            where=path,
            expected=listed,
            remedy="where it describes a folder, give the folder",
        ) from error
    if not entries:
        raise _no_cases(path, listed)
    rows = {p: {name.strip(): cell for name, cell in e.items()} for p, e in entries.items()}
    twice = [p for p, e in entries.items() if len(rows[p]) < len(e)]
    problems = [f"{place}: a key is there twice, but for spaces" for place in twice]
    return list(dict.fromkeys(name for row in rows.values() for name in row)), rows, problems


def _no_cases(path: Path, expected: str) -> DatasetError:
    return DatasetError("holds no cases", where=path, expected=expected, remedy="add some")


def _cases(rows: Sequence[Row], modalities: Sequence[str], problems: list[str]) -> list[Case]:
    """Return the cases of all rows; what is wrong with them goes to `problems`."""
    unused = {m: problem for m in modalities if (problem := _unused(m, rows))}
    problems += unused.values()
    first: dict[str, str] = {}
    for row in rows:
        name = row.cells[ID]
        if name and first.setdefault(name, row.place) != row.place:
            problems.append(f"{row.place}: id {name!r} is that of {first[name]}")
    cases = [row.case([m for m in modalities if m not in unused]) for row in rows]
    problems += [problem for row in rows for problem in row.problems]
    problems += _same_scans([case for case in cases if case])
    return [] if problems else [case for case in cases if case]


def _same_scans(cases: Sequence[Case]) -> Iterator[str]:
    """Give the cases with the images of an earlier one, unless it is one subject drawn by others.

    As two subjects they might be trained and tested on.
    """
    first: dict[object, Case] = {}
    for case in cases:
        key = tuple((m, s.path, s.channel, s.series) for m, s in case.images.items())
        other = first.setdefault(key, case)
        if other.id == case.id:  # which is said by rows
            continue
        if other.subject != case.subject:
            yield f"cases {other.id} and {case.id} have the same images, and need one subject"
        elif (other.label, other.label_series) == (case.label, case.label_series):
            yield f"cases {other.id} and {case.id} are the same files"


def _unused(column: str, rows: Sequence[Row]) -> str:
    """Return what is wrong where a column is taken for a modality but names not a single file.

    It is reported once, not for each row.
    """
    if len(rows) == 1 or any(row.names_a_file(column) for row in rows):
        return ""
    cells = [row.cells[column] for row in rows if row.cells[column]]
    what = f"no file that is there, not even {shown(cells[0])}" if cells else "no file"
    return (
        f"column {column!r} names {what}; paths are relative to the table, and what is no modality "
        "has no column"
    )


def _unwritable(
    cases: Sequence[Case],
    rows: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    modalities: Sequence[str],
) -> list[str]:
    """Return what would not be read back as it is."""
    found, problems = read_header([column.strip() for column in columns])
    problems += [
        f"modality {m!r} cannot be the name of a column" for m in modalities if m not in found
    ]
    for text in dict.fromkeys(row.get(column, "") for row in rows for column in columns):
        # Spaces round it would be lost, and names of files that are not UTF-8 cannot be written.
        if text.encode(errors="ignore").decode() != text.strip() or "\0" in text:
            problems.append(f"{text!r} cannot be kept as text")
    problems += [f"id {case.id!r} cannot name files" for case in cases if not is_fit_id(case.id)]
    problems += [f"case {c.id}: {twice}" for c in cases if (twice := given_twice(c.images))]
    problems += _same_scans(cases)
    for case in cases:
        first = next(name for name in modalities if name in case.images)
        problems += [
            f"case {case.id}: {name} is resampled onto another image than {first}"
            for name, source in case.images.items()
            if source.onto is not None and source.onto != case.images[first]
        ]
    return problems
