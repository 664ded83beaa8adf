"""What a layout is, and what several of them need to find cases."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from vol3dseg import formats
from vol3dseg.datasets.case import Case


@dataclass(frozen=True, slots=True)
class Search:
    """What cases are looked for, and all that is found wrong with them."""

    modalities: tuple[str, ...] = ()  # that are wanted, for files that do not say; none: any
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the cases of a data set lie in a folder, or are listed in a file."""

    name: str
    expected: str  # what it looks like
    rule: str  # what holds of its files
    remedy: str  # what to do where that does not hold
    recognises: Callable[[Path], bool]  # tells whether what is at a path has this layout
    # Gives the cases at a path, no voxel loaded, and adds all that is wrong with them to the
    # problems; ids that are there twice are found by `find_cases`.
    find: Callable[[Path, Search], Iterable[Case]]


def only_one(files: Sequence[Path], several: str, root: Path, problems: list[str]) -> Path | None:
    """Return the first of some files, if any; where there are more, `problems` lists them."""
    if len(files) > 1:
        problems.append(f"{several}: {', '.join(str(file.relative_to(root)) for file in files)}")
    return next(iter(files), None)


def folder_name(folder: Path) -> str:
    """Return what a folder is called where it is given, not where a link leads."""
    given = os.environ.get("PWD", "")  # the working folder as it was entered
    here = given if given and Path(given).exists() and Path(given).samefile(".") else Path.cwd()
    return Path(os.path.normpath(here / folder)).name


def is_there(path: Path) -> bool:
    """Tell whether there is a file, or a link to one that was not fetched: reading reports that."""
    return path.is_file() or is_dangling(path)


def is_dangling(path: Path) -> bool:
    """Tell whether there is a link that leads nowhere."""
    return path.is_symlink() and not path.exists()


def image_files(folder: Path, labels: bool = False) -> list[Path]:
    """Return the files in a folder that are named like images, or as `labels` also DICOM-SEGs."""
    named = formats.label_stem if labels else formats.stem
    return [
        path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if named(path) and not path.name.startswith(".") and is_there(path)
        if not formats.is_companion(path)
    ]


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder` that are not hidden, by name, and links that lead nowhere."""
    return [
        path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if not path.name.startswith(".") and (path.is_dir() or is_dangling(path))
    ]


def _distinct(names: dict[int, str]) -> dict[int, str]:
    if len(set(names.values())) < len(names):
        raise ValueError(f"names are used twice: {list(names.values())}")
    return dict(sorted(names.items()))


Numbered = Annotated[dict[int, str], Field(min_length=1), AfterValidator(_distinct)]
"""Names of modalities by their numbers, as in `dataset.json`; in order of the numbers."""
