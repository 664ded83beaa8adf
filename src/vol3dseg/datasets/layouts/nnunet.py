"""The raw layout of nnU-Net: one file for each channel, numbered at the end of its name.

::

    DATASET/dataset.json                        "channel_names", or "modality" of version 1
    DATASET/imagesTr/<id>_0000.nii.gz, <id>_0001.nii.gz, ...
    DATASET/labelsTr/<id>.nii.gz
    DATASET/imagesTs/<id>_0000.nii.gz, ...      cases without labels; often left out

What a number stands for is said by `dataset.json` alone and never guessed.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_validator, model_validator

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.layout import Numbered, checked
from vol3dseg.errors import DatasetError
from vol3dseg.schema import read_json

FILE_NAME = "dataset.json"
_IMAGES, _LABELS, _TEST_IMAGES = "imagesTr", "labelsTr", "imagesTs"
_NUMBERED = re.compile(r"(?P<id>.+)_(?P<number>[0-9]{4})(?P<suffix>\.(?!json$)[a-z.]+)", re.I)


class _Description(BaseModel):
    """What is needed of `dataset.json`; other keys are let be."""

    channel_names: Numbered
    file_ending: str = ".nii.gz"  # version 1 knows no other

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        if isinstance(content, dict) and "channel_names" not in content and "modality" in content:
            return {**content, "channel_names": content["modality"]}
        return content

    @field_validator("channel_names")
    @classmethod
    def _of_four_digits(cls, names: dict[int, str]) -> dict[int, str]:
        if not all(0 <= number <= 9999 for number in names):
            raise ValueError(f"numbers must have four digits at most, found {list(names)}")
        return names


class NnunetLayout:
    """Channels in files of their own, numbered; `dataset.json` names the numbers."""

    name = "nnU-Net raw"
    expected = f"{FILE_NAME} and {_IMAGES}/<id>_0000.nii.gz, ..."

    def recognises(self, folder: Path) -> bool:
        """Tell whether `folder` has numbered images, or a `dataset.json` with `channel_names`.

        Images are not taken for numbered where `dataset.json` lists them by their whole name, as
        that of the Decathlon does.
        """
        content = _loaded(folder / FILE_NAME)
        if isinstance(content, dict) and "channel_names" in content:
            return True
        listed = {Path(name).name for name in _listed(content)}
        return any(match[0] not in listed for match in _numbered(folder / _IMAGES))

    def find_cases(self, folder: Path) -> list[Case]:
        """Return the cases of both image folders, in order of their ids.

        Raises
        ------
        DatasetError
            `dataset.json` is missing or damaged, or a case lacks a channel, has one that is not
            named there, has no label map, has no image or is there twice; all such are listed.
        """
        description = read_json(
            _Description,
            folder / FILE_NAME,
            DatasetError,
            expected='JSON with channel_names, such as {"0": "T1"}, which say what the numbers of '
            "images mean",
            remedy="add or correct it",
        )
        problems: list[str] = []
        cases = _cases(folder / _IMAGES, folder / _LABELS, description, problems)
        cases += _cases(folder / _TEST_IMAGES, None, description, problems)
        if not cases and not problems:
            problems.append(f"{_IMAGES} holds no file <id>_0000{description.file_ending}")
        channels = ", ".join(f"{n:04d} {m}" for n, m in description.channel_names.items())
        return checked(
            cases,
            problems,
            folder,
            expected=f"the channels of {FILE_NAME} ({channels}) of each case, and a label map of "
            f"each in {_IMAGES}",
            remedy="add the files, or move the others away",
        )


def _loaded(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # said when the cases are looked for


def _listed(content: Any) -> list[str]:
    """Return the training images that a description lists, whatever else it is."""
    entries = content.get("training") if isinstance(content, dict) else None
    listed = entries if isinstance(entries, list) else []
    images = [entry.get("image") for entry in listed if isinstance(entry, dict)]
    return [image for image in images if isinstance(image, str)]


def _visible(folder: Path) -> list[str]:
    """Return the names of the files in `folder` that are not hidden."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path.name for path in files if not path.name.startswith(".") and path.is_file()]


def _numbered(folder: Path) -> list[re.Match[str]]:
    return [match for name in _visible(folder) if (match := _NUMBERED.fullmatch(name))]


def _cases(
    folder: Path, labels: Path | None, description: _Description, problems: list[str]
) -> list[Case]:
    """Return the cases of a folder of images; what is wrong with them goes to `problems`."""
    ending, channels = description.file_ending, description.channel_names
    images: dict[str, dict[int, Path]] = {}
    for match in _numbered(folder):
        if match["suffix"] == ending:
            images.setdefault(match["id"], {})[int(match["number"])] = folder / match[0]
        else:
            wrong = f"{folder.name}/{match[0]} does not end in {ending}, the file_ending"
            problems.append(wrong)
    nowhere = [n for n in channels if images and not any(n in own for own in images.values())]
    problems += [f"no image in {folder.name} is {n:04d} ({channels[n]})" for n in nowhere]
    common = {n: modality for n, modality in channels.items() if n not in nowhere}
    # A case that has a label map should have images as well.
    labelled = (
        {n.removesuffix(ending) for n in _visible(labels) if n.endswith(ending)}
        if labels
        else set()
    )
    cases = []
    for name in sorted(images.keys() | labelled):
        own = images.get(name, {})
        label = labels / f"{name}{ending}" if labels else None
        problems += _problems(name, own, label, common)
        found = {modality: ImageSource(own[n]) for n, modality in channels.items() if n in own}
        cases.append(Case(name, name, found, label))
    return cases


def _problems(
    name: str, images: Mapping[int, Path], label: Path | None, channels: Mapping[int, str]
) -> list[str]:
    """Return what is wrong with a case; `channels` are those that any case has."""
    problems = []
    missing = [f"{n:04d} ({modality})" for n, modality in channels.items() if n not in images]
    unnamed = [path.name for number, path in sorted(images.items()) if number not in channels]
    if missing:
        problems.append(f"case {name} lacks {', '.join(missing)}")
    if unnamed:
        problems.append(f"case {name} has images of no named channel: {', '.join(unnamed)}")
    if label is not None and not label.is_file():
        problems.append(f"case {name} lacks {label.parent.name}/{label.name}")
    return problems
