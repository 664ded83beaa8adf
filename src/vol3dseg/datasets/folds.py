"""Folds for cross-validation: every subject is held out once, and learned from by all others.

A file of folds is nnU-Net's `splits_final.json`: a list with `train` and `val` for each fold.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vol3dseg.errors import DatasetError, reading, some_of
from vol3dseg.files import write_json
from vol3dseg.schema import Frozen, parse_json

_EXPECTED = "folds: a JSON list of mappings with the lists train and val of case ids"
_REMEDY = "correct it, or leave it out to have folds drawn"


class Fold(Frozen):
    """One fold, as case ids: what is learned from, and what is held out."""

    train: tuple[str, ...]
    val: tuple[str, ...]


class _Folds(Frozen):
    folds: tuple[Fold, ...]


def read_folds(path: Path) -> tuple[Fold, ...]:
    """Read folds from a JSON file.

    DatasetError: it is missing or damaged, has fewer than two folds, or holds a case out twice.
    """
    with reading(path, DatasetError, expected=_EXPECTED, remedy=_REMEDY):
        content = path.read_bytes()
    wrapped = b'{"folds": %s}' % content
    found = parse_json(
        _Folds, wrapped, path, DatasetError, expected=_EXPECTED, remedy=_REMEDY
    ).folds
    times = Counter(case for fold in found for case in fold.val)
    problems = [f"{len(found)} folds, which is no cross-validation"] * (len(found) < 2)
    if twice := sorted(case for case, n in times.items() if n > 1):
        problems.append(f"{len(twice)} cases are held out twice: {some_of(twice)}")
    if empty := [str(n) for n, fold in enumerate(found, start=1) if not fold.val]:
        problems.append(f"nothing is held out in fold {some_of(empty)}")
    if problems:
        raise DatasetError("; ".join(problems), where=path, expected=_EXPECTED, remedy=_REMEDY)
    return found


def write_folds(path: Path, folds: Iterable[Fold]) -> None:
    """Write folds as JSON, atomically; `read_folds` reads them back to equal values."""
    write_json(path, [fold.model_dump(mode="json") for fold in folds])


def fold_of_file(path: Path, number: int) -> Fold:
    """Return one fold of a file, counted from 1."""
    found = read_folds(path)
    if number > len(found):
        raise DatasetError(
            f"has {len(found)} folds, and split.fold asks for number {number}",
            where=path,
            remedy="choose one that is there",
        )
    return found[number - 1]
