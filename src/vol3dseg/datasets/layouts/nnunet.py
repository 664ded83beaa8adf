"""The raw layout of nnU-Net: one file for each channel, numbered at the end of its name.

::

    DATASET/dataset.json                        "channel_names", or "modality" of version 1
    DATASET/imagesTr/<id>_0000.nii.gz, <id>_0001.nii.gz, ...
    DATASET/labelsTr/<id>.nii.gz
    DATASET/imagesTs/<id>_0000.nii.gz, ...      cases without labels; often left out

What a number stands for is read from `dataset.json` and never guessed.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_validator, model_validator

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.layout import Layout, Numbered, Search, image_files, is_there
from vol3dseg.errors import DatasetError
from vol3dseg.schema import read_json

FILE_NAME = "dataset.json"
_IMAGES, _LABELS, _TEST_IMAGES = "imagesTr", "labelsTr", "imagesTs"
_NUMBERED = re.compile(
    r"(?P<id>.+)_(?P<number>[0-9]{4})(?P<suffix>\.(?!json$)[a-z.]+)", re.I | re.S
)


class _Description(BaseModel):
    """What is needed of `dataset.json`; other keys are ignored."""

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


def _recognises(folder: Path) -> bool:
    """Tell whether `folder` has numbered images, or a `dataset.json` with `channel_names`.

    Images whose whole names are in `dataset.json`, or in the folder of label maps, have no numbers:
    their ids end in four digits.
    """
    text = _text(folder / FILE_NAME)
    if '"channel_names"' in text:
        return True
    labels = {*_visible(folder / _LABELS)}
    return any(m[0] not in text and m[0] not in labels for m in _numbered(folder / _IMAGES))


def _find(folder: Path, search: Search) -> list[Case]:
    description = read_json(
        _Description,
        folder / FILE_NAME,
        DatasetError,
        expected='JSON with channel_names, such as {"0": "T1"}, which say what the numbers of '
        "images mean",
        remedy="add or correct it",
    )
    cases = _cases(folder / _IMAGES, folder / _LABELS, description, search.problems)
    cases += _cases(folder / _TEST_IMAGES, None, description, search.problems)
    if not cases and not search.problems:
        search.problems.append(f"{_IMAGES} holds no file <id>_0000{description.file_ending}")
    return cases


def numbered_cases(folder: Path, modalities: Sequence[str]) -> list[Case]:
    """Return the cases of a folder of images named as nnU-Net's predictor takes them.

    Numbers stand for `modalities`, in their order. None where not all images are so named. Raises
    DatasetError where a case is incomplete.
    """
    found, channels = _numbered(folder), dict(enumerate(modalities))
    known = all(int(match["number"]) in channels for match in found)
    if not found or not known or len(found) < len(image_files(folder)):
        return []
    problems: list[str] = []
    description = _Description(channel_names=channels, file_ending=found[0]["suffix"])
    cases = _cases(folder, None, description, problems)
    if problems:
        raise DatasetError("; ".join(problems), where=folder, expected=NNUNET.rule)
    return cases


def numbered_case(file: Path, modality: str) -> Case | None:
    """Return the case of an image <id>_0000.nii.gz; None where it is not so named."""
    match = _NUMBERED.fullmatch(file.name)
    if match is None or int(match["number"]):
        return None
    return Case(match["id"], match["id"], {modality: ImageSource(file)})


def _text(path: Path) -> str:
    """Return a description in one spelling; empty where it is no JSON."""
    try:
        return json.dumps(json.loads(path.read_bytes()), ensure_ascii=False)
    except (OSError, ValueError, RecursionError):
        return ""  # reported when the cases are read


def _visible(folder: Path | None) -> list[str]:
    files = sorted(folder.iterdir()) if folder and folder.is_dir() else []
    return [path.name for path in files if not path.name.startswith(".") and is_there(path)]


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
            file = f"{folder.name}/{match[0]}"
            problems.append(f"{file} does not end in {ending}, the file_ending")
    nowhere = [n for n in channels if images and not any(n in own for own in images.values())]
    problems += [f"no image in {folder.name} is {n:04d} ({channels[n]})" for n in nowhere]
    # A case that has a label map should have images as well.
    labelled = [n.removesuffix(ending) for n in _visible(labels) if n.endswith(ending)]
    cases = []
    for name in sorted({*images, *labelled}):
        own = images.get(name, {})
        lacking = [f"{n:04d} ({channels[n]})" for n in channels if n not in (*own, *nowhere)]
        unnamed = [path.name for n, path in sorted(own.items()) if n not in channels]
        label = labels / f"{name}{ending}" if labels else None
        if label is not None and not is_there(label):
            lacking.append(f"{label.parent.name}/{label.name}")
        if unnamed:
            known = ", ".join(f"{n:04d} {modality}" for n, modality in channels.items())
            problems.append(f"case {name} has {', '.join(unnamed)} beside the channels {known}")
        if lacking:
            problems.append(f"case {name} lacks {', '.join(lacking)}")
        found = {modality: ImageSource(own[n]) for n, modality in channels.items() if n in own}
        cases.append(Case(name, name, found, label))
    return cases


NNUNET = Layout(
    name="nnU-Net raw",
    expected=f"{FILE_NAME} and {_IMAGES}/<id>_0000.nii.gz, ...",
    rule=f"the channels that {FILE_NAME} names of each case, a label map of each in {_IMAGES}",
    remedy="add the files, or move the others away",
    recognises=_recognises,
    find=_find,
)
