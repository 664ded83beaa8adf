"""What a layout is, and what several of them need to find cases."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from vol3dseg.datasets.case import Case


@dataclass(frozen=True, slots=True)
class Layout:
    """How the cases of a data set lie in a folder, or are listed in a file."""

    name: str
    expected: str  # what it looks like
    rule: str  # what holds of its files
    remedy: str  # what to do where that does not hold
    recognises: Callable[[Path], bool]  # tells whether what is at a path has this layout
    # Gives the cases at a path, no voxel loaded, and adds all that is wrong with them to the list;
    # ids that are there twice are found by `find_cases`.
    find: Callable[[Path, list[str]], Iterable[Case]]


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
