"""The Brain Imaging Data Structure: anatomical images by subject and session.

::

    DATASET/sub-<subject>/[ses-<session>/]anat/sub-<subject>[_ses-<session>][_<key>-<value>...]_<suffix>.nii[.gz]
    DATASET/derivatives/[<pipeline>/]sub-<subject>/[ses-<session>/]anat/..._{dseg,mask}.nii[.gz]

A case is a session, or a subject that has none. The suffix gives the modality: T1w is t1, or t1ce
where the entity `ce` names a contrast agent; T2w is t2, FLAIR is flair, PDw is pd, T2starw is
t2star; others are passed over. Where a session has several images of one modality that differ in
the entity `acq`, they are called by it as well: t1_acq-mprage. A label map is a `dseg`
or a `mask` in the derivatives, which may lie beside a folder `rawdata`. What else looks like one,
in another pipeline or beside the images, makes a choice that nobody has made, and is refused;
only brain masks are passed over, and what vol3dseg has predicted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.layout import (
    Layout,
    Search,
    image_files,
    is_dangling,
    is_there,
    only_one,
    subfolders,
)
from vol3dseg.datasets.layouts.likely_labels import looks_like_label
from vol3dseg.errors import some_of

MODALITIES = {"FLAIR": "flair", "T1w": "t1", "T2w": "t2", "PDw": "pd", "T2starw": "t2star"}
_CONTRAST = {"t1": "t1ce"}  # where an agent was given
_LABELS = ("dseg", "mask")
_RAW = "rawdata"
_NAME = re.compile(
    r"(?P<entities>sub-[a-zA-Z0-9]+(_[a-z]+-[a-zA-Z0-9+]+)*)_(?P<suffix>[a-zA-Z0-9]+)\.nii(\.gz)?",
)


class _File(NamedTuple):
    """A file and what its name says."""

    path: Path
    entities: Mapping[str, str]
    suffix: str


def _recognises(folder: Path) -> bool:
    return any(dataset.joinpath(*parts, "anat").is_dir() for dataset, parts in _sessions(folder))


def _find(folder: Path, search: Search) -> Iterator[Case]:
    kinds: dict[str, list[str]] = {}
    for dataset, parts in _sessions(folder):
        case, labels = _case(dataset, parts, search.problems)
        for path in labels[:1]:
            kinds.setdefault(_kind(path, _home(dataset)), []).append(case.id)
        yield case
    if len(kinds) > 1:
        found = "; ".join(f"{kind} of {some_of(ids)}" for kind, ids in kinds.items())
        search.problems.append(f"label maps are of {len(kinds)} kinds: {found}")


def _sessions(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Give the data set and the path in it of each session, or subject, with anatomical images.

    A subject that was not fetched, an empty folder or a link to nowhere, is one as well.
    """
    folder = Path.cwd() if folder == Path() else folder  # whose name is needed
    folder = folder / _RAW if (folder / _RAW).is_dir() else folder
    if not folder.is_dir():
        return
    for subject in [folder] if folder.name.startswith("sub-") else subfolders(folder):
        if not subject.name.startswith("sub-"):
            continue
        places = [subject, *sorted(subject.glob("ses-*"))]
        hollow = is_dangling(subject) or not any(subject.iterdir())
        for session in places[:1] if hollow else [p for p in places if (p / "anat").is_dir()]:
            yield subject.parent, list(session.relative_to(subject.parent).parts)


def _case(dataset: Path, parts: Sequence[str], problems: list[str]) -> tuple[Case, list[Path]]:
    """Return the case of a subject, or of its session, and what may be its label map."""
    name = "_".join(parts)
    found: dict[str, list[_File]] = {}
    for file in _files(dataset.joinpath(*parts, "anat")):
        if not file.path.name.startswith(f"{name}_"):
            problems.append(f"{file.path.relative_to(dataset)} is not named after its folders")
        elif file.suffix in MODALITIES:
            modality = MODALITIES[file.suffix]
            contrast = _CONTRAST.get(modality, modality) if "ce" in file.entities else modality
            found.setdefault(contrast, []).append(file)
    images = {
        called: ImageSource(path)
        for called, same in _by_acquisition(found).items()
        if (path := only_one(same, f"case {name} has several images {called}", dataset, problems))
    }
    labels, likely = _labels(dataset, parts, name)
    label = only_one(labels, f"case {name} has several label maps", _home(dataset), problems)
    return Case(name, parts[0], images, label, likely_labels=likely), labels


def _by_acquisition(files: Mapping[str, Sequence[_File]]) -> dict[str, list[Path]]:
    """Return files by what they are called: the modality, with `acq` where it tells several apart.

    The short name never stands for one of several.
    """
    found: dict[str, list[Path]] = {}
    for modality, same in sorted(files.items()):
        acquisitions = [file.entities.get("acq") for file in same]
        told = len(same) > 1 and None not in acquisitions
        for file, acquisition in zip(same, acquisitions, strict=True):
            called = f"{modality}_acq-{acquisition}" if told else modality
            found.setdefault(called, []).append(file.path)
    return found


def _labels(dataset: Path, parts: Sequence[str], name: str) -> tuple[list[Path], tuple[Path, ...]]:
    """Return the label maps of a case, and where there are none the files that look like one.

    Where there is one, all that looks like one in the folders of anatomical images is another.
    """
    subject = [place / parts[0] for place in _pipelines(dataset)]
    anat = [place.joinpath(*parts[1:], "anat") for place in subject]
    named = [
        file.path
        for folder in anat
        for file in _files(folder)
        if file.suffix in _LABELS and _may_be_label(file.path, name)
    ]
    folders = [*anat, dataset.joinpath(*parts, "anat")]
    if named:
        around = [path for folder in folders for path in image_files(folder)]
        return list(dict.fromkeys([*named, *(p for p in around if _may_be_label(p, name))])), ()
    deeper = (path for place in subject for path in sorted(place.rglob(f"{parts[0]}_*.nii*")))
    return [], tuple(path for path in deeper if _may_be_label(path, parts[0], parts[-1]))


def _may_be_label(path: Path, name: str, session: str = "") -> bool:
    """Tell whether a file looks like a label map of a case; one that names no session may be."""
    if "_desc-vol3dseg_" in path.name:
        return False  # what predict has written there, which nobody has drawn
    rest = path.name.removeprefix(f"{name}_")
    of_another = session.startswith("ses-") and "ses-" in str(path) and session not in str(path)
    return rest != path.name and looks_like_label(rest) and not of_another


def _home(dataset: Path) -> Path:
    """Return where the derivatives are: in the data set, or beside it where it is the raw data."""
    return dataset.parent if dataset.name == _RAW else dataset


def _pipelines(dataset: Path) -> list[Path]:
    derivatives = _home(dataset) / "derivatives"
    return [derivatives, *(p for p in subfolders(derivatives) if not p.name.startswith("sub-"))]


def _kind(path: Path, home: Path) -> str:
    """Return what a label map is called in all subjects."""
    inside = path.relative_to(home).parts
    pipeline = "/".join(inside[: next(n for n, p in enumerate(inside) if p.startswith("sub-"))])
    kept = [part for part in path.name.split("_") if part.startswith(("label-", "desc-"))]
    suffix = path.name.rpartition("_")[2].partition(".")[0]
    return f"{pipeline}/*{'_'.join(['', *kept, suffix])}"


def _files(folder: Path) -> list[_File]:
    """Return the NIfTI files in `folder` that are named as they should be."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match and is_there(path):
            entities = dict(part.split("-", 1) for part in match["entities"].split("_"))
            found.append(_File(path, entities, match["suffix"]))
    return found


BIDS = Layout(
    name="BIDS",
    expected="sub-<subject>/[ses-<session>/]anat/sub-<subject>_..._T1w.nii.gz, ...",
    rule="one of each",
    remedy="move the others away, or name the files in a dataset table",
    recognises=_recognises,
    find=_find,
)
