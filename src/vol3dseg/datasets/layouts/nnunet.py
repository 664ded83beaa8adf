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
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.errors import DatasetError

FILE_NAME = "dataset.json"
_IMAGES, _LABELS, _TEST_IMAGES = "imagesTr", "labelsTr", "imagesTs"
_NUMBERED = re.compile(r"(?P<id>.+)_(?P<number>[0-9]{4})(?P<suffix>\.(?!json$)[a-z.]+)", re.I)


class _Description(BaseModel):
    """What is needed of `dataset.json`; other keys are let be."""

    channel_names: dict[int, str] = Field(min_length=1)
    file_ending: str = ".nii.gz"  # version 1 knows no other

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        if isinstance(content, dict) and "channel_names" not in content and "modality" in content:
            return {**content, "channel_names": content["modality"]}
        return content

    @field_validator("channel_names")
    @classmethod
    def _distinct(cls, names: dict[int, str]) -> dict[int, str]:
        if len(set(names.values())) < len(names):
            raise ValueError(f"names are used twice: {list(names.values())}")
        if not all(0 <= number <= 9999 for number in names):
            raise ValueError(f"numbers must have four digits at most, found {list(names)}")
        return dict(sorted(names.items()))


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
        return any(path.name not in listed for path in _numbered(folder / _IMAGES))

    def find_cases(self, folder: Path) -> list[Case]:
        """Return the cases of both image folders, in order of their ids.

        Raises
        ------
        DatasetError
            `dataset.json` is missing or damaged, or a case lacks a channel, has one that is not
            named there, has no label map, has no image or is there twice; all such are listed.
        """
        description = _read(folder / FILE_NAME)
        cases, problems = [], []
        for name in (_IMAGES, _TEST_IMAGES):
            labels = folder / _LABELS if name == _IMAGES else None
            found, wrong = _cases(folder / name, labels, description)
            cases += found
            problems += wrong
        twice = [name for name, times in Counter(case.id for case in cases).items() if times > 1]
        problems += [f"case {name} is in {_IMAGES} and in {_TEST_IMAGES}" for name in twice]
        if not cases and not problems:
            problems.append(f"{_IMAGES} holds no file <id>_0000{description.file_ending}")
        if problems:
            channels = ", ".join(f"{n:04d} {m}" for n, m in description.channel_names.items())
            raise DatasetError(
                f"{folder}: {'; '.join(problems)}; expected the channels of {FILE_NAME} "
                f"({channels}) of each case, and a label map of each in {_IMAGES}; add the files, "
                "or move the others away"
            )
        return sorted(cases, key=lambda case: case.id)


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


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if _NUMBERED.fullmatch(path.name) and not path.name.startswith(".") and path.is_file()
    )


def _read(path: Path) -> _Description:
    try:
        return _Description.model_validate_json(path.read_bytes())
    except ValidationError as error:
        found = "; ".join(
            ": ".join(filter(None, [".".join(map(str, e["loc"])), _reason(e["msg"])]))
            for e in error.errors(include_url=False)
        )
        raise DatasetError(
            f"{path}: damaged or not of nnU-Net ({found}); expected JSON with channel_names, such "
            'as {"0": "T1"}'
        ) from error
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path}: is missing; the numbers of the images mean nothing without its "
            "channel_names; add it"
        ) from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); mend its rights") from error


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")


def _cases(
    folder: Path, labels: Path | None, description: _Description
) -> tuple[list[Case], list[str]]:
    """Return the cases of a folder of images, and what is wrong with them."""
    images: dict[str, dict[int, Path]] = {}
    problems = []
    for path in _numbered(folder):
        match = _NUMBERED.fullmatch(path.name)
        if match is None or match["suffix"] != description.file_ending:
            problems.append(
                f"{folder.name}/{path.name} does not end in {description.file_ending}, the "
                "file_ending"
            )
        else:
            images.setdefault(match["id"], {})[int(match["number"])] = path
    ids = set(images) | (_labelled(labels, description.file_ending) if labels else set())
    channels = description.channel_names
    nowhere = [n for n in channels if images and not any(n in own for own in images.values())]
    problems += [f"no image in {folder.name} is {n:04d} ({channels[n]})" for n in nowhere]
    cases = []
    for name in sorted(ids):
        own = images.get(name, {})
        label = labels / f"{name}{description.file_ending}" if labels else None
        expected = {n: modality for n, modality in channels.items() if n not in nowhere}
        problems += _problems(name, own, label, expected)
        found = {modality: ImageSource(own[n]) for n, modality in channels.items() if n in own}
        cases.append(Case(name, name, found, label))
    return cases, problems


def _labelled(folder: Path, ending: str) -> set[str]:
    """Return the cases that have a label map: they should have images as well."""
    if not folder.is_dir():
        return set()
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    return {name.removesuffix(ending) for name in names if name.endswith(ending)}


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
