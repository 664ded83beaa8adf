"""The layout of the Medical Segmentation Decathlon: `dataset.json` lists the files.

::

    DATASET/dataset.json
    DATASET/imagesTr/<id>.nii.gz    3-D, or 4-D where there are several modalities
    DATASET/labelsTr/<id>.nii.gz
    DATASET/imagesTs/<id>.nii.gz    cases without labels; often left out
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, Field, field_validator

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.layout import Layout, Numbered, Search, is_there
from vol3dseg.errors import DatasetError, some_of
from vol3dseg.formats import NIFTI
from vol3dseg.schema import read_json

FILE_NAME = "dataset.json"


class _Entry(BaseModel):
    image: str
    label: str | None = None


class _Description(BaseModel):
    """What is needed of `dataset.json`; other keys are ignored."""

    modality: Numbered
    training: list[_Entry] = Field(min_length=1)
    test: list[str | _Entry] = []

    @field_validator("modality")
    @classmethod
    def _numbered(cls, modality: dict[int, str]) -> dict[int, str]:
        if sorted(modality) != list(range(len(modality))):
            raise ValueError(f"numbers must run from 0 without a gap, found {sorted(modality)}")
        return modality


def _find(folder: Path, search: Search) -> list[Case]:
    """Return the listed cases; those of the test list count where there is a folder `imagesTs`."""
    description = read_json(
        _Description,
        folder / FILE_NAME,
        DatasetError,
        expected="JSON with modality, training and test",
        remedy="correct it, or download it again",
    )
    entries = [*description.training]
    if (folder / "imagesTs").is_dir():
        entries += [_Entry(image=t) if isinstance(t, str) else t for t in description.test]
    listed = [p for entry in entries for p in (entry.image, entry.label) if p is not None]
    unusable = {
        "outside of the folder": [p for p in listed if _leaves(p)],
        "of another format": [p for p in listed if NIFTI.stem(Path(p)) is None],
        "missing": [p for p in listed if not _leaves(p) and not is_there(folder / p)],
    }
    search.problems.extend(f"{len(p)} {what}: {some_of(p)}" for what, p in unusable.items() if p)
    return [_case(folder, entry, description.modality) for entry in entries]


def _leaves(path: str) -> bool:
    pure = PurePosixPath(path)
    return pure.is_absolute() or ".." in pure.parts


def _case(folder: Path, entry: _Entry, modality: Mapping[int, str]) -> Case:
    path = folder / entry.image
    name = NIFTI.stem(path) or path.name
    several = len(modality) > 1
    images = {m: ImageSource(path, number if several else None) for number, m in modality.items()}
    return Case(name, name, images, folder / entry.label if entry.label else None)


DECATHLON = Layout(
    name="Decathlon",
    expected=f"{FILE_NAME} with imagesTr/ and labelsTr/",
    rule=f"each case once in {FILE_NAME}, with .nii or .nii.gz files that lie in the folder",
    remedy="add the files, or correct the list",
    recognises=lambda folder: is_there(folder / FILE_NAME),
    find=_find,
)
