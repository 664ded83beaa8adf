"""Which classes were looked for in the label map of a case, and by which values it has them.

A cell `edema; enhancing` says that nobody has looked for the other classes there: what is
background in such a map may be one of them. `1=kidney; 2=tumour` says so too, and that the map has
values of its own, so that data sets with different labels can be learned from as one.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vol3dseg.datasets.case import Case
from vol3dseg.errors import DatasetError, LabelError, some_of
from vol3dseg.space.labels import LabelSet

COLUMN = "label_classes"
FILE_NAME = f"{COLUMN}.csv"  # beside the cases of a folder, which has no table
EXPECTED = "names of classes with ; between, or value=name as in 1=kidney; 2=tumour"

Annotated = Mapping[str, tuple[int, ...]]  # values by class; none: as the config reads


def parse_label_classes(cell: str) -> Annotated:
    """Return what a cell says; ValueError where it is not as `EXPECTED`."""
    found: dict[str, tuple[int, ...]] = {}
    for part in cell.split(";"):
        value, equals, name = (text.strip() for text in part.rpartition("="))
        if not name or (bool(equals) != bool(value)) or (not value and name in found):
            raise ValueError(cell)
        found[name] = (*found.get(name, ()), *((_value(value),) if value else ()))
    return found


def _value(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(text)
    return int(text)


def label_classes_cell(annotated: Annotated) -> str:
    """Return the cell that says this."""
    named = (
        (f"{v}={name}" for v in values) if values else [name] for name, values in annotated.items()
    )
    return "; ".join(part for parts in named for part in parts)


def own_labels(case: Case, labels: LabelSet) -> tuple[LabelSet, tuple[str, ...]]:
    """Return what the values of a case's label map mean, and the classes that nobody looked for.

    Raises
    ------
    LabelError
        The case names a class that is none of `labels`.
    """
    annotated = case.annotated
    if annotated is None:
        return labels, ()
    if unknown := [name for name in annotated if name not in labels.foreground]:
        raise LabelError(
            f"{COLUMN} names {some_of(unknown)}, which is no class of the config",
            where=f"case {case.id}",
            expected=f"classes of {', '.join(labels.foreground)}",
            remedy="correct it, or add the class to labels.classes",
        )
    taken = {value for values in annotated.values() for value in values}
    background, *others = labels.classes
    kept = tuple(value for value in background.read if value not in taken)
    classes = [background.model_copy(update={"read": kept, "read_either": ()})]
    for label in others:
        own = annotated.get(label.name)
        if own is None:
            label = label.model_copy(update={"read": (), "read_either": ()})
        elif own:
            label = label.model_copy(update={"read": own, "read_either": ()})
        classes.append(label)
    ignore = tuple(value for value in labels.ignore if value not in taken)
    made = labels.model_copy(update={"classes": tuple(classes), "ignore": ignore})
    return made, tuple(name for name in labels.foreground if name not in annotated)


def meant_by(case: Case, error: LabelError) -> LabelError:
    """Return the error of a label map, in its own words where it has more than was looked for."""
    if case.annotated is None or not error.found.startswith("holds label values"):
        return error
    return LabelError(
        error.found,
        where=error.where,
        expected=f"those of {COLUMN}, {label_classes_cell(case.annotated)!r}",
        remedy="name there what they mean as well, such as "
        f"7={next(iter(case.annotated))}, or mend the file",
    )


def with_label_classes(cases: Sequence[Case], folder: Path, problems: list[str]) -> list[Case]:
    """Return cases with what `label_classes.csv` in their folder says of them, if it is there.

    What is wrong with it goes to `problems`.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return list(cases)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or ()]
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"not CSV in UTF-8 ({error})",
            where=path,
            expected=f"the columns id and {COLUMN}",
            remedy="save it again",
        ) from error
    if sorted(columns) != ["id", COLUMN]:  # or a class would be learned as nothing, unseen
        raise DatasetError(
            f"has the columns {some_of(columns) or 'of nothing'}",
            where=path,
            expected=f"the columns id and {COLUMN}",
            remedy="correct its first line",
        )
    said: dict[str, Annotated] = {}
    known = {case.id for case in cases}
    for number, row in enumerate(rows, start=2):
        name, cell = ((row[key] or "").strip() for key in ("id", COLUMN))
        place = f"{FILE_NAME}, row {number}"
        if name not in known:
            problems.append(f"{place}: there is no case {name!r}")
        elif name in said:
            problems.append(f"{place}: case {name} is there twice")
        elif cell:
            try:
                said[name] = parse_label_classes(cell)
            except ValueError:
                problems.append(f"{place}: found {cell:.200}, expected {EXPECTED}")
    return [replace(case, annotated=said.get(case.id, case.annotated)) for case in cases]
