"""A dataset table: one row a case, one column a modality, paths relative to the table.

It also says what needs a value and cannot be seen in the files; `table_columns` lists the columns.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts.table_columns import ID, read_header
from vol3dseg.datasets.layouts.table_rows import Row, read_case, repeated_ids, unused_columns
from vol3dseg.errors import DatasetError

_SUFFIXES = (".csv", ".json")


@dataclass(frozen=True, slots=True)
class _Content:
    """A table as text: names of columns, rows, and what is wrong with its form."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[str, ...] = ()


class TableLayout:
    """A CSV file with a header, or a JSON file with a list of objects."""

    name = "table"
    expected = "a file .csv or .json with the columns id, one for each modality, and label"

    def recognises(self, path: Path) -> bool:
        """Tell whether `path` is a file whose name ends in .csv or .json."""
        return path.suffix.lower() in _SUFFIXES and path.is_file()

    def find_cases(self, path: Path) -> list[Case]:
        """Return the cases of a table in order of their ids.

        Parameters
        ----------
        path : Path
            CSV in UTF-8 with commas and a header, or JSON: a list of objects.

        Raises
        ------
        DatasetError
            The table cannot be read, a column is not known, an id is there twice, a cell is empty
            that must not be, a file is missing or a value is not valid; all such are listed.
        """
        text = _text(path)
        content = _csv(path, text) if path.suffix.lower() == ".csv" else _json(path, text)
        modalities, problems = read_header(content.columns)
        problems += content.problems
        # Where a column is misnamed, what is said of its cells would only hide that.
        cases, of_rows = ([], []) if problems else _cases(content.rows, modalities, path)
        problems += of_rows
        if problems:
            raise DatasetError(f"{path}: {'; '.join(problems)}; mend the table")
        return sorted(cases, key=lambda case: case.id)


def _cases(
    rows: Sequence[Row], modalities: Sequence[str], path: Path
) -> tuple[list[Case], list[str]]:
    folder = Path(os.path.realpath(path.parent))
    unused = unused_columns(rows, modalities, folder)
    problems = [*unused.values(), *repeated_ids(rows)]
    cases = []
    for row in rows:
        case, found = read_case(row, [m for m in modalities if m not in unused], folder)
        problems += found
        cases += [case] if case else []
    return cases, problems


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # spreadsheets put a mark at the beginning
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not a text in UTF-8; save the table as CSV UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); mend its rights") from error


def _csv(path: Path, text: str) -> _Content:
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise DatasetError(f"{path}: not valid CSV ({error}); save the table again") from error
    stripped = [[cell.strip() for cell in line] for line in lines]
    columns = tuple(_without_end(stripped[0])) if stripped else ()
    if not any(any(line) for line in stripped[1:]):
        raise DatasetError(f"{path}: holds no cases; expected a header and a row for each case")
    problems = []
    if ID not in columns and any(mark in text.splitlines()[0] for mark in ";\t"):
        problems.append("columns are not separated by commas")
    rows = []
    for number, line in enumerate(stripped[1:], start=2):
        if len(_without_end(line)) > len(columns):
            problems.append(f"row {number}: has {len(line)} cells for {len(columns)} columns")
        elif any(line):
            cells = {**dict.fromkeys(columns, ""), **dict(zip(columns, line, strict=False))}
            rows.append(Row(f"row {number}", cells))
    return _Content(columns, tuple(rows), tuple(problems))


def _without_end(cells: Sequence[str]) -> Sequence[str]:
    """Return cells without the empty ones at the end, which spreadsheets add."""
    full = [n for n, cell in enumerate(cells, start=1) if cell]
    return cells[: full[-1]] if full else []


def _json(path: Path, text: str) -> _Content:
    form = TypeAdapter(list[dict[str, str | int | float | bool | None]])
    try:
        entries = form.validate_python(json.loads(text, object_pairs_hook=_unique), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = f"entry {int(first['loc'][0]) + 1}: " if first["loc"] else ""
        raise DatasetError(
            f"{path}: not a dataset table ({place}{first['msg']}); expected a list with an object "
            "for each case; where it describes a folder, give the folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON ({error}); mend it there") from error
    if not entries:
        raise DatasetError(f"{path}: holds no cases; expected a list with an object for each case")
    columns = tuple(dict.fromkeys(name.strip() for entry in entries for name in entry))
    rows = [
        Row(f"entry {n}", {**dict.fromkeys(columns, ""), **_cells(entry)})
        for n, entry in enumerate(entries, start=1)
    ]
    return _Content(columns, tuple(rows))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is there twice")
    return found


def _cells(entry: Mapping[str, str | int | float | bool | None]) -> dict[str, str]:
    return {name.strip(): _spelled(value) for name, value in entry.items()}


def _spelled(value: str | int | float | bool | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip()
