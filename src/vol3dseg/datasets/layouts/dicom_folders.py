"""DICOM in folders: one for each case, and in it one for each modality.

::

    DATASET/<case>/<modality>/*.dcm
    DATASET/<case>/label/*.dcm        a DICOM-SEG, or a mask kept as an image; also called seg,
                                      or the only folder called like one, such as MaskTumor
    DATASET/<case>/*.dcm              where one modality is wanted, and no more

Modalities are what their folders are called: headers hold descriptions, and those are never guessed
from. Where all series of a case lie in one folder, a dataset table says which is which.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.layout import Layout, Search, folder_name, is_dangling, subfolders
from vol3dseg.datasets.layouts.likely_labels import looks_like_label
from vol3dseg.formats.dicom.series import find_series, holds_files

_LABELS = ("label", "seg")


def _recognises(folder: Path) -> bool:
    """Tell whether there is a DICOM file in `folder`, or one or two folders below it."""
    if not folder.is_dir():
        return False
    return holds_files(folder) or any(_series_folders(f) for f in (folder, *subfolders(folder)))


def _find(folder: Path, search: Search) -> Iterator[Case]:
    wanted = search.modalities[0] if len(search.modalities) == 1 else ""
    below = _series_folders(folder)
    if wanted and holds_files(folder):
        yield _of_one_image(folder, wanted)
    elif wanted and below and not {wanted.lower(), *_LABELS} & {name.lower() for name in below}:
        yield from (_of_one_image(path, wanted) for path in below.values())
    else:
        yield from _of_several(folder, search.modalities, search.problems)


def _of_one_image(folder: Path, modality: str) -> Case:
    name = folder_name(folder)
    return Case(name, name, {modality: ImageSource(folder)})


def _of_several(folder: Path, wanted: Sequence[str], problems: list[str]) -> Iterator[Case]:
    several = any(_series_folders(place) for place in subfolders(folder))
    for place in subfolders(folder) if several else [folder]:
        found = _series_folders(place)
        labels = [name for name in found if name.lower() in _LABELS]
        if is_dangling(place):
            problems.append(f"{place.name} is a link that leads nowhere")
        elif holds_files(place):
            listed = find_series(place).listed
            problems.append(f"{place.name} holds files itself; there are series {listed}")
        elif len(labels) > 1:
            problems.append(f"{place.name} has {' and '.join(labels)}")
        elif found:
            found |= {path.name: path for path in subfolders(place) if is_dangling(path)}
            labels = labels or _likely(found, wanted)
            label = found.pop(labels[0]) if labels else None
            images = {name: ImageSource(path) for name, path in found.items()}
            name = folder_name(place)
            yield Case(name, name, images, label)


def _likely(names: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """Return the name of the one folder that is called like a label map and is not wanted."""
    likely = [name for name in names if looks_like_label(name) and name not in wanted]
    return likely if len(likely) == 1 else []


def _series_folders(folder: Path) -> dict[str, Path]:
    """Return the subfolders that hold DICOM files, by name."""
    return {p.name: p for p in subfolders(folder) if p.is_dir() and holds_files(p)}


DICOM = Layout(
    name="DICOM",
    expected="folders <id>/<modality>/ with DICOM files",
    rule="a folder for each modality of a case, and one called label",
    remedy="sort the files so, or name the series of each case in a dataset table",
    recognises=_recognises,
    find=_find,
)
