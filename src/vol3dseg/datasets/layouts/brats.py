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
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.errors import DatasetError

_MODALITIES = {
    "flair": "flair",
    "t1": "t1",
    "t1ce": "t1ce",
    "t2": "t2",
    "t2f": "flair",
    "t1n": "t1",
    "t1c": "t1ce",
    "t2w": "t2",
}
_LABEL = "seg"
_LABELS = (_LABEL, "gtv")  # gross tumour volume
_STRAY_LABEL = "segm"  # W39_1998.09.19_Segm.nii is the label of BraTS20_Training_355
_FILE = re.compile(r".+[_-](?P<kind>[a-z0-9]+)\.nii(\.gz)?", re.IGNORECASE)
_GRADES = ("hgg", "lgg")
_CASE_NAME = re.compile(r"brats.*[_-]\d+", re.IGNORECASE)
_REPEATED_SCAN = re.compile(
    r"(?P<subject>.+-\d{5})-\d{3}|(?P<planned>.+-RT-\d{4})-\d", re.IGNORECASE
)


class BratsLayout:
    """One folder for each scan, one file for each modality."""

    name = "BraTS"
    expected = "folders <id>/ with <id>_flair.nii.gz, <id>_t1.nii.gz, ... or <id>-t2f.nii.gz, ..."

    def recognises(self, folder: Path) -> bool:
        """Tell whether `folder` is a case, or holds one, perhaps in HGG or LGG."""
        if not folder.is_dir():
            return False
        return bool(_files(folder)) or any(_files(f) for f in _subfolders(folder))

    def find_cases(self, folder: Path) -> list[Case]:
        """Return the cases in `folder`, or the one case that it is, in order of their ids.

        A folder with a name such as BraTS20_Training_007 is a case even where its files are
        missing, so that it is reported rather than passed over.

        Raises
        ------
        DatasetError
            A modality of a case has two files, or two cases have one id; all such are listed.
        """
        folders = [folder] if _files(folder) else _subfolders(folder)
        found = {f: _files(f) for f in folders if _files(f) or _CASE_NAME.fullmatch(f.name)}
        _refuse_repeats(found)
        return sorted((_case(f, files) for f, files in found.items()), key=lambda case: case.id)


def _subfolders(folder: Path) -> list[Path]:
    """Return the folders that may be cases: children, and children of HGG and LGG."""
    children = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    grades = [p for p in children if p.name.lower() in _GRADES]
    return [p for p in children if p not in grades] + [c for g in grades for c in _subfolders(g)]


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return what each known file in `folder` is (a modality or the label), with its path."""
    found = []
    for path in sorted(folder.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match is None or path.name.startswith(".") or not path.is_file():
            continue
        kind = match["kind"].lower()
        kind = _LABEL if kind in _LABELS else kind
        if kind in _MODALITIES or kind in (_LABEL, _STRAY_LABEL):
            found.append((_MODALITIES.get(kind, kind), path))
    return found


def _case(folder: Path, files: Iterable[tuple[str, Path]]) -> Case:
    by_kind = dict(files)
    stray = by_kind.pop(_STRAY_LABEL, None)
    label = by_kind.pop(_LABEL, stray)
    order = [m for m in dict.fromkeys(_MODALITIES.values()) if m in by_kind]
    name = folder.resolve().name
    repeated = _REPEATED_SCAN.fullmatch(name)
    return Case(
        id=name,
        subject=(repeated["subject"] or repeated["planned"]) if repeated else name,
        images={m: ImageSource(by_kind[m]) for m in order},
        label=label,
    )


def _refuse_repeats(found: dict[Path, list[tuple[str, Path]]]) -> None:
    problems = []
    for folder, files in found.items():
        for kind, times in Counter(kind for kind, _ in files).items():
            if times > 1:
                names = ", ".join(path.name for k, path in files if k == kind)
                problems.append(f"{folder}: duplicate {kind}: {names}")
    for name, times in Counter(folder.name for folder in found).items():
        if times > 1:
            places = ", ".join(str(folder) for folder in found if folder.name == name)
            problems.append(f"duplicate case {name}: {places}")
    if problems:
        raise DatasetError(f"{'; '.join(problems)}; expected one of each; move the others away")
