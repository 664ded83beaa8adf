"""What a layout is, and what several of them need to find cases and to refuse a data set."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import AfterValidator, Field

from vol3dseg.datasets.case import Case
from vol3dseg.errors import DatasetError


class Layout(Protocol):
    """How the cases of a data set lie in a folder, or are listed in a file.

    Attributes
    ----------
    name : str
        What people call it.
    expected : str
        What it looks like, in words, for messages.
    """

    name: str
    expected: str

    def recognises(self, path: Path) -> bool:
        """Tell whether what is at `path` has this layout."""
        ...

    def find_cases(self, path: Path) -> list[Case]:
        """Return the cases at `path`, in order of their ids; no voxel is loaded.

        Raises
        ------
        DatasetError
            Something is wrong with the data set; all that is wrong is listed.
        """
        ...


def checked(
    cases: Iterable[Case], problems: Sequence[str], where: Path, expected: str, remedy: str
) -> list[Case]:
    """Return cases in order of their ids, or refuse the data set.

    Parameters
    ----------
    cases : iterable of Case
    problems : sequence of str
        What is wrong, in words; ids that are there twice are added.
    where, expected, remedy
        Parts of the message; see `Vol3dSegError`.

    Raises
    ------
    DatasetError
        There are problems.
    """
    root = where if where.is_dir() else where.parent
    places: dict[str, list[str]] = {}
    ordered = sorted(cases, key=lambda case: case.id)
    for case in ordered:
        places.setdefault(case.id, []).append(os.path.relpath(next(iter(case.paths), root), root))
    twice = [f"case {i} is there twice: {', '.join(p)}" for i, p in places.items() if len(p) > 1]
    if problems or twice:
        found = "; ".join([*problems, *twice])
        raise DatasetError(found, where=where, expected=expected, remedy=remedy)
    return ordered


def only_one(files: Sequence[Path], several: str, root: Path, problems: list[str]) -> Path | None:
    """Return the first of some files, if any; where there are more, `problems` lists them."""
    if len(files) > 1:
        problems.append(f"{several}: {', '.join(str(file.relative_to(root)) for file in files)}")
    return next(iter(files), None)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder` that are not hidden, by name."""
    return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _distinct(names: dict[int, str]) -> dict[int, str]:
    if len(set(names.values())) < len(names):
        raise ValueError(f"names are used twice: {list(names.values())}")
    return dict(sorted(names.items()))


Numbered = Annotated[dict[int, str], Field(min_length=1), AfterValidator(_distinct)]
"""Names of modalities by their numbers, as in `dataset.json`; in order of the numbers."""
