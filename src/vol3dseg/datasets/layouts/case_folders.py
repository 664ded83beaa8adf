"""One folder for each case, with files that are called after what they are.

::

    DATASET/<id>/<modality>.nii.gz     t1, flair, ct, ...; or image, imaging, scan, volume
    DATASET/<id>/seg.nii.gz            or segmentation, label, mask, if there is one
"""

from collections.abc import Iterator
from pathlib import Path

from vol3dseg import formats
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.layout import (
    Layout,
    Search,
    folder_name,
    image_files,
    is_dangling,
    only_one,
    subfolders,
)
from vol3dseg.datasets.layouts.plain_files import KNOWN, LABEL_MAPS, UNNAMED

_ANY = (UNNAMED, "imaging", "img", "scan", "volume")
_LABEL = "its label map"  # which no modality is called
_MORE = ("ct", "mr", "mri", "pet", "adc", "dwi")


def _stem(path: Path) -> str:
    return (formats.label_stem(path) or "").lower()


def _is_case(folder: Path) -> bool:
    return any(_stem(path) in (*_ANY, *_MORE, *KNOWN) for path in image_files(folder))


def _find(folder: Path, search: Search) -> Iterator[Case]:
    for place in [folder] if _is_case(folder) else subfolders(folder):
        if image_files(place) or is_dangling(place):  # without an image that is known, it is named
            yield _case(place, folder, search)


def _case(folder: Path, root: Path, search: Search) -> Case:
    name, found = folder_name(folder), dict[str, list[Path]]()
    for path in image_files(folder, labels=True):
        if kind := _kind(_stem(path), search):
            found.setdefault(kind, []).append(path)
    only = {
        kind: only_one(same, f"case {name} has several files for {kind}", root, search.problems)
        for kind, same in found.items()
    }
    label = only.pop(_LABEL, None)
    return Case(name, name, {m: ImageSource(path) for m, path in only.items() if path}, label)


def _kind(stem: str, search: Search) -> str:
    """Return the modality of an image by its name, or that it is a label map; empty for others."""
    wanted = {modality.lower(): modality for modality in search.modalities}
    if stem in LABEL_MAPS:
        return _LABEL
    # A model of "MRI" takes any; one of "t1" does not take what is called FLAIR.
    any_mri = len(wanted) == 1 and wanted.keys().isdisjoint(KNOWN.values())
    if stem in _ANY or (any_mri and stem in KNOWN):
        return search.modalities[0] if len(wanted) == 1 else UNNAMED
    known = KNOWN.get(stem, stem if stem in _MORE else "")
    return wanted.get(stem) or wanted.get(known, known)


CASE_FOLDERS = Layout(
    name="case folders",
    expected="folders <id>/ with <modality>.nii.gz or image.nii.gz, and seg.nii.gz",
    rule="one file of each kind for a case",
    remedy="move the others away, or name the files in a dataset table",
    recognises=lambda folder: _is_case(folder) or any(map(_is_case, subfolders(folder))),
    find=_find,
)
