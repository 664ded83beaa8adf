"""Images in one folder, named by case; perhaps label maps in another beside it.

::

    FOLDER/<id>.nii.gz                                    one modality
    FOLDER/<id>_<modality>.nii.gz                         several
    FOLDER/<id>_seg.nii.gz                                label maps, if any (or _label, _mask)

    DATASET/images/...     as FOLDER; or imagesTr
    DATASET/labels/<id>.nii.gz                            or labelsTr, masks, ...
    DATASET/imagesTs/...   cases without labels

The end of a name is a modality where it is one that is wanted, or one that BraTS and BIDS have. An
image whose name says nothing is called "image", or what is wanted if that is one modality alone.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vol3dseg import formats
from vol3dseg.datasets.case import Case, ImageSource, spelled
from vol3dseg.datasets.layouts.bids import MODALITIES as OF_BIDS
from vol3dseg.datasets.layouts.brats import MODALITIES as OF_BRATS
from vol3dseg.datasets.layouts.layout import (
    Layout,
    Search,
    image_files,
    only_one,
    subfolders,
)
from vol3dseg.datasets.layouts.likely_labels import looks_like_label, looks_like_mask
from vol3dseg.errors import some_of

UNNAMED = "image"  # the modality of an image whose name does not say
_IMAGES = ("images", "imagestr", "image", "imgs", "img", "scans", "volumes")
_TEST_IMAGES = ("imagests",)
LABEL_MAPS = ("seg", "segm", "segmentation", "label", "labels", "mask", "gtv")  # ends of names
KNOWN = {name.lower(): modality for name, modality in {**OF_BIDS, **OF_BRATS}.items()}


class _Name(NamedTuple):
    """What the name of a file says."""

    case: str
    end: str = ""  # a modality, in lower case, or what is said of a label map
    modality: str = ""


class _Names:
    """How names are understood where some modalities are wanted."""

    def __init__(self, wanted: Sequence[str]) -> None:
        own = {name.lower(): name for name in wanted}
        known = {end: own.get(name, name) for end, name in KNOWN.items()}
        # A model of "MRI" takes any; one of "t1" does not take what is called FLAIR.
        told_apart = not wanted or not own.keys().isdisjoint(known.values())
        self._ends = {**(known if told_apart else {}), **own}
        self._unnamed = wanted[0] if len(wanted) == 1 else UNNAMED

    def read(self, path: Path) -> _Name:
        """Return what an image is of."""
        stem = spelled(formats.label_stem(path) or path.name)
        for end in sorted(self._ends, key=len, reverse=True):
            if (
                stem.lower().endswith((f"_{end}", f"-{end}", f".{end}"))
                and len(stem) > len(end) + 1
            ):
                return _Name(stem[: -len(end) - 1], end, self._ends[end])
        return _Name(stem, "", self._unnamed)

    def of_label(self, path: Path) -> _Name:
        """Return whose label map a file is: what follows the id may say that it is one."""
        stem = spelled(formats.label_stem(path) or path.name)
        for end in LABEL_MAPS:
            if (
                stem.lower().endswith((f"_{end}", f"-{end}", f".{end}"))
                and len(stem) > len(end) + 1
            ):
                return _Name(stem[: -len(end) - 1], end)
        return self.read(path)


class _Folders(NamedTuple):
    """The folders of images, of label maps and of images without."""

    images: list[Path]
    labels: list[Path]
    others: list[Path]


def _folders(dataset: Path) -> _Folders:
    found = {path.name.lower(): path for path in subfolders(dataset)}
    return _Folders(
        [path for name, path in found.items() if name in _IMAGES],
        [p for n, p in found.items() if looks_like_label(n) and not n.endswith("ts")],
        [path for name, path in found.items() if name in _TEST_IMAGES],
    )


def _is_pair(dataset: Path) -> bool:
    found = _folders(dataset)
    return any(image_files(folder) for folder in (*found.images, *found.others))


def _find_pairs(dataset: Path, search: Search) -> Iterator[Case]:
    found, names = _folders(dataset), _Names(search.modalities)
    for what, folders in (("images", found.images), ("label maps", found.labels)):
        if len(folders) > 1:
            several = some_of([folder.name for folder in folders])
            search.problems.append(f"there are several folders of {what}: {several}")
    files = [path for folder in found.images for path in image_files(folder, labels=True)]
    images, beside = _sorted_out(files, names)
    labels = [path for folder in found.labels for path in image_files(folder, labels=True)]
    search.problems.extend(_unlike(images, labels, names))
    yield from _cases(dataset, images, [*labels, *beside], search)
    others = [path for folder in found.others for path in image_files(folder)]
    yield from _cases(dataset, others, [], search)


def _unlike(images: Sequence[Path], labels: Sequence[Path], names: _Names) -> Iterator[str]:
    """Say it once, not for each case, where label maps are called in another way than images."""
    cases = {names.read(path).case for path in images}
    owners = {names.of_label(path).case for path in labels}
    if cases and owners and not cases & owners:
        own, other = some_of(sorted(cases)), some_of(sorted(owners))
        yield f"no label map is called after an image: there are {other}, and images {own}"


def _find_files(folder: Path, search: Search) -> Iterator[Case]:
    images, labels = _sorted_out(image_files(folder, labels=True), _Names(search.modalities))
    if masks := _called_like(images):
        search.problems.append(
            f"{some_of(masks)} look like label maps that are not called after their images: call "
            "them <id>_seg"
        )
    yield from _cases(folder, images, labels, search)


def _sorted_out(files: Sequence[Path], names: _Names) -> tuple[list[Path], list[Path]]:
    """Return the images and the label maps among files, without masks that are neither."""
    labels = [path for path in files if names.of_label(path).end in LABEL_MAPS]
    labels = [p for p in labels if not names.of_label(p).case.lower().endswith("brain")]
    images = [path for path in files if path not in labels and formats.stem(path)]
    stems = {names.read(path).case for path in images}
    return [path for path in images if not _is_mask(path, names, stems)], labels


def _called_like(images: Sequence[Path]) -> list[str]:
    """Return files as segmentation-1.nii, if there is another as volume-1.nii."""
    ends: dict[str, list[Path]] = {}
    for path in images:
        _, sign, end = re.split(r"([_-])", f"{path.name}_", maxsplit=1)
        ends.setdefault(sign + end, []).append(path)
    return [
        path.name
        for same in ends.values()
        for path in same
        if len(same) > 1 and looks_like_label(re.split("[_-]", path.name)[0])
    ]


def _is_mask(path: Path, names: _Names, stems: set[str]) -> bool:
    """Tell whether a file is called after a case and looks like a mask, as <id>_lesion does."""
    stem = names.read(path).case
    ends = (end for end, sign in enumerate(stem) if sign in "_-.")
    return any(stem[:end] in stems and looks_like_mask(stem[end:]) for end in ends)


def _cases(
    root: Path, images: Sequence[Path], labels: Sequence[Path], search: Search
) -> Iterator[Case]:
    """Give the case of each name; a label map without an image is one, too, to be reported."""
    names = _Names(search.modalities)
    found: dict[str, dict[str, list[Path]]] = {}
    for path in images:
        name = names.read(path)
        found.setdefault(name.case, {}).setdefault(name.modality, []).append(path)
    maps: dict[str, list[Path]] = {}
    for path in labels:
        maps.setdefault(names.of_label(path).case, []).append(path)
    for case in sorted({*found, *maps}):
        several = f"case {case} has several files for"
        sources = {
            modality: ImageSource(one)
            for modality, same in found.get(case, {}).items()
            if (one := only_one(same, f"{several} {modality}", root, search.problems))
        }
        label = only_one(maps.get(case, []), f"{several} its label map", root, search.problems)
        yield Case(case, case, sources, label)


def case_of_file(path: Path, wanted: str) -> Case:
    """Return the case of an image that is given by itself where one modality is wanted."""
    name = _Names([wanted]).read(path)
    return Case(name.case, name.case, {name.modality: ImageSource(path)})


IMAGES_AND_LABELS = Layout(
    name="images and labels",
    expected="images/<id>.nii.gz or images/<id>_<modality>.nii.gz, labels/<id>.nii.gz",
    rule="one folder of images, one of label maps, one file of each kind for a case",
    remedy="move the others away, or name the files in a dataset table",
    recognises=_is_pair,
    find=_find_pairs,
)
FILES = Layout(
    name="files",
    expected="<id>.nii.gz or <id>_<modality>.nii.gz in one folder",
    rule="one file of each kind for a case",
    remedy="move the others away, or name the files in a dataset table",
    recognises=lambda folder: bool(image_files(folder)),
    find=_find_files,
)
