"""Cases without a label map, and the files that look like theirs but are named otherwise."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vol3dseg import formats
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts.layout import is_there, subfolders

_WORDS = re.compile(
    r"seg|mask|label|lesion|tumou?r|roi|gtv|annot|contour|rtstruct|truth", re.IGNORECASE
)
# Masks of the brain, probabilities and what else predict writes beside label maps.
_OTHERS = re.compile(r"brain|prob|entropy|mutual", re.IGNORECASE)


def looks_like_mask(name: str) -> bool:
    """Tell whether what is called so may be a mask of anything, the brain too."""
    return bool(_WORDS.search(name))


def looks_like_label(name: str) -> bool:
    """Tell whether what is called so may be a label map."""
    return looks_like_mask(name) and not _OTHERS.search(name)


def with_likely_labels(cases: Sequence[Case], root: Path) -> list[Case]:
    """Return the cases; one without a label map is told the files that look like its own.

    They are looked for beside its images and in folders called like label maps, within `root`.
    """
    around = _Surroundings.of(cases, root)
    return [
        replace(case, likely_labels=tuple(dict.fromkeys([*case.likely_labels, *around.find(case)])))
        if case.label is None
        else case
        for case in cases
    ]


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """The folders that images lie in, and what else is there; each is listed once."""

    root: Path  # of the data set
    taken: set[Path]  # files that belong to a case
    owners: dict[Path, set[str]]  # the cases whose images lie in a folder
    files: dict[Path, list[Path]] = field(default_factory=dict)
    folders: dict[Path, list[Path]] = field(default_factory=dict)

    @classmethod
    def of(cls, cases: Sequence[Case], root: Path) -> "_Surroundings":
        owners: dict[Path, set[str]] = {}
        for case in cases:
            for source in case.images.values():
                owners.setdefault(source.path.parent, set()).add(case.id)
        return cls(root, {path for case in cases for path in case.paths}, owners)

    def find(self, case: Case) -> Iterator[Path]:
        for modality, source in case.images.items():
            if looks_like_label(modality):
                yield source.path
        for folder in dict.fromkeys(source.path.parent for source in case.images.values()):
            alone = len(self.owners[folder]) == 1
            for path in self._of(case, folder, alone):
                if looks_like_label(path.name.replace(case.id, "")):
                    yield path
            above = [(folder.parent, False)] if self.root in folder.parents else []
            for place, own in [(folder, alone), *above]:
                for below in self._label_folders(place):
                    yield from self._of(case, below, own)

    def _of(self, case: Case, folder: Path, own: bool) -> Iterator[Path]:
        """Give the files of a case in a folder: all of its own, or those that begin with its id."""
        if folder not in self.files:
            there = folder.iterdir() if folder.is_dir() else ()
            self.files[folder] = sorted(
                (p for p in there if formats.label_stem(p) and is_there(p) and p not in self.taken),
                key=lambda path: path.name,
            )
        files = self.files[folder]
        first = 0 if own else bisect_left(files, case.id, key=lambda path: path.name)
        for path in files[first:]:
            rest = path.name.removeprefix(case.id)
            if not own and rest == path.name:
                return
            if own or not rest[:1].isalnum():
                yield path

    def _label_folders(self, folder: Path) -> list[Path]:
        if folder not in self.folders:
            below = subfolders(folder) if folder.is_dir() else []
            self.folders[folder] = [
                p for p in below if looks_like_label(p.name) and p not in self.taken
            ]
        return self.folders[folder]
