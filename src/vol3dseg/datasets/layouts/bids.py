"""The Brain Imaging Data Structure: anatomical images by subject and session.

::

    DATASET/sub-<subject>/[ses-<session>/]anat/sub-<subject>[_ses-<session>][_<key>-<value>...]_<suffix>.nii[.gz]
    DATASET/derivatives/[<pipeline>/]sub-<subject>/[ses-<session>/]anat/..._{dseg,mask}.nii[.gz]

A case is a session, or a subject that has none. The suffix tells the modality: T1w is t1, or t1ce
where the entity `ce` names a contrast agent; T2w is t2, FLAIR is flair, PDw is pd, T2starw is
t2star; others are passed over. Where a session has several images of one modality that differ in
the entity `acq`, they are called by it as well: t1_acq-mprage. A label map is a `dseg`, or a `mask`
where there is none; brain masks are passed over.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.errors import DatasetError

_MODALITIES = {"FLAIR": "flair", "T1w": "t1", "T2w": "t2", "PDw": "pd", "T2starw": "t2star"}
_CONTRAST = {"t1": "t1ce"}  # where an agent was given
_LABELS = ("dseg", "mask")  # the first goes before the second
_NAME = re.compile(
    r"(?P<entities>sub-[a-zA-Z0-9]+(_[a-z]+-[a-zA-Z0-9+]+)*)_(?P<suffix>[a-zA-Z0-9]+)\.nii(\.gz)?",
)


@dataclass(frozen=True, slots=True)
class _File:
    """A file and what its name says."""

    path: Path
    entities: Mapping[str, str]
    suffix: str

    def belongs_to(self, case: str) -> bool:
        return self.path.name.startswith(f"{case}_")

    @property
    def modality(self) -> str:
        name = _MODALITIES[self.suffix]
        return _CONTRAST.get(name, name) if "ce" in self.entities else name


class BidsLayout:
    """Folders sub-*/[ses-*/]anat; label maps in derivatives."""

    name = "BIDS"
    expected = "sub-<subject>/[ses-<session>/]anat/sub-<subject>_..._T1w.nii.gz, ..."

    def recognises(self, folder: Path) -> bool:
        """Tell whether `folder` holds a subject with anatomical images, or is one."""
        return any(True for subject in _subjects(folder) for _ in _sessions(subject))

    def find_cases(self, folder: Path) -> list[Case]:
        """Return a case for each session with anatomical images, in order of their ids.

        Raises
        ------
        DatasetError
            A session has several images of one modality, or several label maps; all such are
            listed.
        """
        cases, problems = [], []
        for subject in _subjects(folder):
            for session in _sessions(subject):
                parts = [subject.name, *([session.name] if session != subject else [])]
                case, wrong = _case(subject.parent, parts)
                cases.append(case)
                problems += wrong
        if problems:
            raise DatasetError(
                f"{folder}: {'; '.join(problems)}; expected one of each; move the others away, or "
                "name the files in a dataset table"
            )
        return sorted(cases, key=lambda case: case.id)


def _subjects(folder: Path) -> list[Path]:
    folder = Path.cwd() if folder == Path() else folder  # whose name is needed
    if not folder.is_dir():
        return []
    if folder.name.startswith("sub-"):
        return [folder]
    return sorted(p for p in folder.iterdir() if p.name.startswith("sub-") and p.is_dir())


def _sessions(subject: Path) -> Iterator[Path]:
    """Give the sessions that have anatomical images; without sessions, the subject itself."""
    for folder in [subject, *sorted(subject.glob("ses-*"))]:
        if (folder / "anat").is_dir():
            yield folder


def _case(dataset: Path, parts: Sequence[str]) -> tuple[Case, list[str]]:
    """Return the case of a subject, or of its session, and what is wrong with it."""
    name, problems = "_".join(parts), []
    found: dict[str, list[_File]] = {}
    for file in _files(dataset.joinpath(*parts, "anat")):
        if not file.belongs_to(name):
            problems.append(f"{file.path.relative_to(dataset)} is not named after its folders")
        elif file.suffix in _MODALITIES:
            found.setdefault(file.modality, []).append(file)
    images: dict[str, ImageSource] = {}
    for modality, files in sorted(found.items()):
        for called, same in _by_acquisition(modality, files).items():
            images[called] = ImageSource(same[0].path)
            if len(same) > 1:
                names = ", ".join(file.path.name for file in same)
                problems.append(f"case {name} has several images {called}: {names}")
    labels = _labels(dataset / "derivatives", parts, name)
    if len(labels) > 1:
        names = ", ".join(str(file.path.relative_to(dataset)) for file in labels)
        problems.append(f"case {name} has several label maps: {names}")
    return Case(name, parts[0], images, labels[0].path if labels else None), problems


def _by_acquisition(modality: str, files: Sequence[_File]) -> dict[str, list[_File]]:
    """Return files by what they are called: the modality, with `acq` only where it is needed."""
    if len(files) == 1:
        return {modality: list(files)}
    found: dict[str, list[_File]] = {}
    for file in files:
        acquisition = file.entities.get("acq")
        called = f"{modality}_acq-{acquisition}" if acquisition else modality
        found.setdefault(called, []).append(file)
    return found


def _labels(derivatives: Path, parts: Sequence[str], name: str) -> list[_File]:
    if not derivatives.is_dir():
        return []
    pipelines = sorted(
        p for p in derivatives.iterdir() if p.is_dir() and not p.name.startswith(".")
    )
    files = [
        file
        for folder in [derivatives, *(p for p in pipelines if not p.name.startswith("sub-"))]
        for file in _files(folder.joinpath(*parts, "anat"))
        if file.belongs_to(name) and file.suffix in _LABELS and file.entities.get("desc") != "brain"
    ]
    kinds = ([file for file in files if file.suffix == kind] for kind in _LABELS)
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
