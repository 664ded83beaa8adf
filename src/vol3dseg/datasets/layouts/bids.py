"""The Brain Imaging Data Structure: anatomical images by subject and session.

::

    DATASET/sub-<subject>/[ses-<session>/]anat/sub-<subject>[_ses-<session>][_<key>-<value>...]_<suffix>.nii[.gz]
    DATASET/derivatives/[<pipeline>/]sub-<subject>/[ses-<session>/]anat/..._{dseg,mask}.nii[.gz]

A case is a session, or a subject that has none. The suffix gives the modality: T1w is t1, or t1ce
where the entity `ce` names a contrast agent; T2w is t2, FLAIR is flair, PDw is pd, T2starw is
t2star; others are passed over. Where a session has several images of one modality that differ in
the entity `acq`, they are called by it as well: t1_acq-mprage. A label map is a `dseg`, or a `mask`
where there is none; brain masks are passed over.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.layout import Layout, only_one, subfolders

_MODALITIES = {"FLAIR": "flair", "T1w": "t1", "T2w": "t2", "PDw": "pd", "T2starw": "t2star"}
_CONTRAST = {"t1": "t1ce"}  # where an agent was given
_LABELS = ("dseg", "mask")  # the first goes before the second
_NAME = re.compile(
    r"(?P<entities>sub-[a-zA-Z0-9]+(_[a-z]+-[a-zA-Z0-9+]+)*)_(?P<suffix>[a-zA-Z0-9]+)\.nii(\.gz)?",
)


class _File(NamedTuple):
    """A file and what its name says."""

    path: Path
    entities: Mapping[str, str]
    suffix: str


def _recognises(folder: Path) -> bool:
    return any(True for _ in _sessions(folder))


def _find(folder: Path, problems: list[str]) -> Iterator[Case]:
    for dataset, parts in _sessions(folder):
        yield _case(dataset, parts, problems)


def _sessions(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Give the data set and the path in it of each session, or subject, with anatomical images."""
    folder = Path.cwd() if folder == Path() else folder  # whose name is needed
    if not folder.is_dir():
        return
    for subject in [folder] if folder.name.startswith("sub-") else subfolders(folder):
        for session in [subject, *sorted(subject.glob("ses-*"))]:
            if subject.name.startswith("sub-") and (session / "anat").is_dir():
                yield subject.parent, list(session.relative_to(subject.parent).parts)


def _case(dataset: Path, parts: Sequence[str], problems: list[str]) -> Case:
    """Return the case of a subject, or of its session; what is wrong with it goes to `problems`."""
    name = "_".join(parts)
    found: dict[str, list[_File]] = {}
    for file in _files(dataset.joinpath(*parts, "anat")):
        if not file.path.name.startswith(f"{name}_"):
            problems.append(f"{file.path.relative_to(dataset)} is not named after its folders")
        elif file.suffix in _MODALITIES:
            modality = _MODALITIES[file.suffix]
            contrast = _CONTRAST.get(modality, modality) if "ce" in file.entities else modality
            found.setdefault(contrast, []).append(file)
    images = {
        called: ImageSource(path)
        for called, same in _by_acquisition(found).items()
        if (path := only_one(same, f"case {name} has several images {called}", dataset, problems))
    }
    labels = _labels(dataset / "derivatives", parts, name)
    label = only_one(labels, f"case {name} has several label maps", dataset, problems)
    return Case(name, parts[0], images, label)


def _by_acquisition(files: Mapping[str, Sequence[_File]]) -> dict[str, list[Path]]:
    """Return files by what they are called: the modality, with `acq` only where it is needed."""
    found: dict[str, list[Path]] = {}
    for modality, same in sorted(files.items()):
        for file in same:
            acquisition = file.entities.get("acq") if len(same) > 1 else None
            called = f"{modality}_acq-{acquisition}" if acquisition else modality
            found.setdefault(called, []).append(file.path)
    return found


def _labels(derivatives: Path, parts: Sequence[str], name: str) -> list[Path]:
    if not derivatives.is_dir():
        return []
    pipelines = [p for p in subfolders(derivatives) if not p.name.startswith("sub-")]
    files = [
        file
        for folder in [derivatives, *pipelines]
        for file in _files(folder.joinpath(*parts, "anat"))
        if file.path.name.startswith(f"{name}_") and file.entities.get("desc") != "brain"
    ]
    kinds = ([file.path for file in files if file.suffix == kind] for kind in _LABELS)
    return next((kind for kind in kinds if kind), [])


def _files(folder: Path) -> list[_File]:
    """Return the NIfTI files in `folder` that are named as they should be."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        # A link to what was not fetched is reported when it is read, not passed over.
        if match and (path.is_file() or path.is_symlink()):
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
