"""The BraTS layout: one folder for each scan, one file for each modality.

::

    DATASET/[HGG|LGG/]<id>/<id>_{flair,t1,t1ce,t2,seg}.nii[.gz]     up to 2021
    DATASET/<id>/<id>-{t2f,t1n,t1c,t2w,seg}.nii.gz                  from 2023
    DATASET/<id>/<id>_{t1c,gtv}.nii.gz                              radiotherapy, 2024

The names from 2023 on stand for the same contrasts and are mapped onto the older ones, so that one
model serves both. In 2024 glioma has scans numbered from 100 on (after treatment), and meningioma
for radiotherapy has one image, ids with fewer digits, and calls its label "gtv".
"""

import re
from collections.abc import Iterator
from pathlib import Path

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.layout import (
    Layout,
    Search,
    folder_name,
    image_files,
    is_dangling,
    is_there,
    only_one,
    subfolders,
)
from vol3dseg.datasets.layouts.likely_labels import looks_like_label
from vol3dseg.errors import some_of

_ORDER = ("flair", "t1", "t1ce", "t2")
_NEWER = {"t2f": "flair", "t1n": "t1", "t1c": "t1ce", "t2w": "t2"}
MODALITIES = {**{name: name for name in _ORDER}, **_NEWER}
_LABEL = "seg"
# W39_1998.09.19_Segm.nii is the label of BraTS20_Training_355.
_KINDS = {**MODALITIES, **dict.fromkeys((_LABEL, "segm", "gtv"), _LABEL)}
_FILE = re.compile(r".+[_-](?P<kind>[a-z0-9]+)\.nii(\.gz)?", re.IGNORECASE | re.DOTALL)
_GRADES = ("hgg", "lgg")
_CASE_NAME = re.compile(r"brats.*[_-]\d+", re.IGNORECASE)
_REPEATED_SCAN = re.compile(
    r"(?P<subject>.+-\d{5})-\d{3}|(?P<planned>.+-RT-\d{4})-\d", re.IGNORECASE
)


def _recognises(folder: Path) -> bool:
    return _is_case(folder) or any(
        _files(p) and not _holds_labels_alone(p) for p in _case_folders(folder)
    )


def _is_case(folder: Path) -> bool:
    """Tell whether images in `folder` are named after it; others are cases of their own."""
    images = [p for kind, paths in _files(folder).items() if kind != _LABEL for p in paths]
    return bool(images) and all(p.name.startswith(folder_name(folder)) for p in images)


def _holds_labels_alone(folder: Path) -> bool:
    """Tell whether a folder is no case but one of label maps, by its name and its files."""
    return looks_like_label(folder.name) and _files(folder).keys() == {_LABEL}


def _find(folder: Path, search: Search) -> Iterator[Case]:
    """Give the cases in `folder`, or the one case that it is.

    A folder with a name such as BraTS20_Training_007 is a case even where its files are missing,
    and so is a link that leads nowhere: they are reported rather than passed over.
    """
    folders = [p for p in _case_folders(folder) if not _holds_labels_alone(p)]
    several = [place.name for place in folders if _files(place)]
    if several and (images := [path.name for path in image_files(folder)]):
        lie = f"holds images itself, {some_of(images)}, beside the folders {some_of(several)}"
        search.problems.append(lie)
    for place in folders if several else [folder]:
        files = _files(place)
        if files or _CASE_NAME.fullmatch(place.name) or is_dangling(place):
            yield _case(place, files, folder, search.problems)


def _case_folders(folder: Path) -> list[Path]:
    """Return the folders that may be cases: children, and children of HGG and LGG."""
    children = subfolders(folder)
    grades = [p for p in children if p.name.lower() in _GRADES]
    return [p for p in children if p not in grades] + [c for g in grades for c in _case_folders(g)]


def _files(folder: Path) -> dict[str, list[Path]]:
    """Return the known files in `folder` by what they are: a modality or the label."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _FILE.fullmatch(path.name)
        kind = _KINDS.get(match["kind"].lower()) if match else None
        if kind and not path.name.startswith(".") and is_there(path):
            found.setdefault(kind, []).append(path)
    return found


def _case(folder: Path, files: dict[str, list[Path]], root: Path, problems: list[str]) -> Case:
    name = folder_name(folder)
    only = {
        kind: only_one(paths, f"case {name} has several files for {kind}", root, problems)
        for kind, paths in files.items()
    }
    repeated = _REPEATED_SCAN.fullmatch(name)
    return Case(
        id=name,
        subject=(repeated["subject"] or repeated["planned"]) if repeated else name,
        images={m: ImageSource(path) for m in _ORDER if (path := only.get(m))},
        label=only.get(_LABEL),
    )


BRATS = Layout(
    name="BraTS",
    expected="folders <id>/ with <id>_flair.nii.gz, <id>_t1.nii.gz, ... or <id>-t2f.nii.gz, ...",
    rule="one of each",
    remedy="move the others away",
    recognises=_recognises,
    find=_find,
)
