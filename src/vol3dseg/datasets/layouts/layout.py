"""What a layout is, and what several of them need to find cases."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import AfterValidator, Field

from vol3dseg.datasets.case import Case


class Layout(Protocol):
    """How the cases of a data set lie in a folder, or are listed in a file."""

    name: str
    expected: str  # what it looks like
    rule: str  # what holds of its files
    remedy: str  # what to do where that does not hold

    def recognises(self, path: Path) -> bool:
        """Tell whether what is at `path` has this layout."""
        ...

    def find(self, path: Path, problems: list[str]) -> Iterable[Case]:
        """Give the cases at `path`; no voxel is loaded.

        All that is wrong with the data set is added to `problems`, in words; ids that are there
        twice are found by `find_cases`.
        """
        ...


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
