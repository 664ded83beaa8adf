"""What a prepared folder holds that the data set, or its own index, does not have.

A patient who withdraws leaves the data set; a wrong path makes every patient seem to. So what was
prepared is removed only where that is asked for, and never all of it (docs/withdrawal.md).
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.errors import StoreError, some_of
from vol3dseg.files import is_unfinished
from vol3dseg.preprocessing.index import CASES, FILE_NAME, PLAN, Index
from vol3dseg.written import LIST_NAME


@dataclass(frozen=True, slots=True)
class Strays:
    """What of a prepared folder is not as its index says.

    Attributes
    ----------
    unknown : tuple of Path
        What lies there and is neither a case of the index nor a record of the folder.
    unfinished : tuple of Path
        What a killed process left, or one writes that is at work; `preprocess` clears it up.
    lost : tuple of str
        Cases of the index whose files are not there.
    """

    unknown: tuple[Path, ...]
    unfinished: tuple[Path, ...]
    lost: tuple[str, ...]

    @property
    def document(self) -> dict[str, list[str]]:
        """All of it, for JSON."""
        return {
            "unknown": list(map(str, self.unknown)),
            "unfinished": list(map(str, self.unfinished)),
            "lost": list(self.lost),
        }

    def of(self, case_ids: Collection[str]) -> list[Path]:
        """Return the unknown files that are called as the prepared files of these cases are."""
        beginnings = tuple(f"{name}.{end}" for name in case_ids for end in ("h5", "set-aside-"))
        return [path for path in self.unknown if path.name.startswith(beginnings)]


def strays(folder: Path, index: Index) -> Strays:
    """Return what lies in a prepared folder and is not of its index, and what is not there."""
    ours = {folder / name for name in (FILE_NAME, PLAN, CASES)}
    ours |= {folder / entry.file for entry in index.cases}
    found = [
        path
        for place in (folder, folder / CASES)
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path not in ours and path.name != LIST_NAME
    ]
    return Strays(
        unknown=tuple(path for path in found if not is_unfinished(path)),
        unfinished=tuple(path for path in found if is_unfinished(path)),
        lost=tuple(e.id for e in index.cases if not (folder / e.file).is_file()),
    )


def require_meant(
    folder: Path, known: Collection[str], cases: Collection[str], remove: bool
) -> list[str]:
    """Return the cases that were prepared and are to be removed: the data set has them no more.

    StoreError: there are some, and `remove` does not ask for it; or no prepared case would be left.
    """
    gone = sorted({*known} - {*cases})
    if not gone or (remove and len(gone) < len(known)):
        return gone
    if len(gone) == len(known):
        raise StoreError(
            f"holds {len(gone)} prepared cases, none of which the data set has: {some_of(gone)}",
            where=folder,
            expected="the data set that they were made of",
            remedy="name that, or prepare this one into another folder; if all have withdrawn, "
            "delete the folder",
        )
    raise StoreError(
        f"holds {len(gone)} of {len(known)} prepared cases that the data set has no more: "
        f"{some_of(gone)}",
        where=folder,
        expected="a data set with every case that was prepared of it",
        remedy="if it is the right one and they have withdrawn, --remove-withdrawn removes what "
        "was prepared of them; else name the whole data set",
    )
