"""What `dataset.json` says of channels, classes and regions, in our words.

nnU-Net writes the index of the best class, or what `regions_class_order` paints for each region
whose output is above zero, in that order. A class that has no name of its own, because only regions
are named, is called by its value.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)

from vol3dseg.errors import ModelError, reading
from vol3dseg.model.outputs import Outputs, Region, Sigmoid, Softmax
from vol3dseg.schema import problems, values_of_json
from vol3dseg.space.labels import Label, LabelSet

FILE_NAME = "dataset.json"
_BACKGROUND, _IGNORE = "background", "ignore"
_LONGEST = 255  # characters of a name
_LARGEST = 255  # value of a voxel
_REPLACED = "_"  # stands for what no name of ours may hold


def _listed(said: Any) -> Any:
    """Return the values of a label or region as a list, of which nnU-Net may give one alone."""
    return said if isinstance(said, list | tuple) else [said]


Value = Annotated[int, Strict(), Field(ge=0, lt=2**31)]
_Values = Annotated[tuple[Value, ...], BeforeValidator(_listed), Field(min_length=1)]


class _Dataset(BaseModel):
    """What is needed of `dataset.json`; other keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    channel_names: dict[str, str] = Field(min_length=1, max_length=64)
    labels: dict[str, _Values] = Field(min_length=2, max_length=2**16)
    regions_class_order: _Values | None = None
    file_ending: str = ".nii.gz"

    @model_validator(mode="before")
    @classmethod
    def _older(cls, content: Any) -> Any:
        if isinstance(content, dict) and "channel_names" not in content and "modality" in content:
            return {**content, "channel_names": content["modality"]}
        return content

    @model_validator(mode="after")
    def _numbered(self) -> "_Dataset":
        expected = sorted(map(str, range(len(self.channel_names))))
        if sorted(self.channel_names) != expected:
            raise ValueError(f"channel_names are numbered {', '.join(sorted(self.channel_names))}")
        return self


@dataclass(frozen=True, slots=True)
class Description:
    """A dataset as a deployed model names it."""

    modalities: tuple[str, ...]  # in order of the channels
    labels: LabelSet
    outputs: Outputs
    notes: tuple[str, ...]  # what is called otherwise than in the file


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object that nnU-Net writes beside its folds; ModelError where it is none."""
    expected = "what nnU-Net v2 writes beside its folds"
    with reading(path, ModelError, expected=expected, remedy="give the folder of a trained model"):
        text = path.read_bytes()
    try:
        content = values_of_json(text)
    except ValueError as error:
        raise ModelError(f"not valid JSON ({error})", where=path, expected=expected) from error
    if not isinstance(content, dict):
        raise ModelError(f"holds a {type(content).__name__}", where=path, expected=expected)
    return content


def read_description(path: Path) -> Description:
    """Return what the dataset.json of a model says; ModelError says what cannot be carried."""
    try:
        found = _Dataset.model_validate(read_object(path))
    except ValidationError as error:
        said = problems(error, _Dataset)
        raise ModelError(said, where=path, expected="dataset.json of nnU-Net v2") from error
    channels = [found.channel_names[str(n)] for n in range(len(found.channel_names))]
    modalities = _usable(channels, "channel")
    labels = dict(found.labels)
    ignored = labels.pop(_IGNORE, ())
    if labels.get(_BACKGROUND) != (0,):
        raise _unfit(path, "labels have no background of value 0")
    if len(ignored) > 1:
        raise _unfit(path, f"the label to ignore has several values {list(ignored)}")
    regional = any(len(values) > 1 for values in labels.values())
    make = _regions if regional else _classes
    made, outputs, named = make(path, labels, found.regions_class_order)
    if made.by_value.keys() & set(ignored):
        raise _unfit(path, f"the label to ignore, {ignored[0]}, is that of a class too")
    made = made.model_copy(update={"ignore": ignored})
    names = {**dict(zip(channels, modalities, strict=True)), **named}
    notes = [f"{old!r} is called {new!r}" for old, new in names.items() if old != new]
    unnamed = [name for name in made.foreground if name not in named.values()]
    if unnamed:
        notes.append(f"classes that only regions name are called {', '.join(unnamed)}")
    return Description(modalities, made, outputs, tuple(notes))


_Made = tuple[LabelSet, Outputs, dict[str, str]]


def _classes(path: Path, labels: Mapping[str, _Values], order: _Values | None) -> _Made:
    """Return a class for each label; their values are the indices of the network's channels."""
    by_value = sorted(labels.items(), key=lambda item: item[1])
    if [values for _, values in by_value] != [(n,) for n in range(len(by_value))]:
        found = ", ".join(f"{name} {value}" for name, (value,) in by_value)
        raise _unfit(path, f"labels are {found:.200}", "0, 1, 2, ... without a gap, each once")
    _require_few(path, len(by_value))
    names = _usable([name for name, _ in by_value], "label")
    classes = (Label(name=n, read=(value,), write=value) for value, n in enumerate(names))
    made = LabelSet(classes=tuple(classes))
    called = dict(zip((name for name, _ in by_value), names, strict=True))
    return made, Softmax(values="logits", classes=made.names), called


def _regions(path: Path, labels: Mapping[str, _Values], order: _Values | None) -> _Made:
    """Return the classes that regions paint, and a channel for each region."""
    given = {name: set(values) for name, values in labels.items() if set(values) != {0}}
    painted = _checked_order(path, given, order)
    called = dict(zip(given, _usable(list(given), "region"), strict=True))
    regions = {called[name]: values for name, values in given.items()}
    read = _read_as(regions, painted)
    if bare := [value for value in painted if not read[value]]:
        found = f"nothing that is labelled becomes {bare}: other regions cover theirs"
        raise _unfit(path, found, "regions that differ")
    alone = {value: [n for n, of in regions.items() if of == set(read[value])] for value in read}
    names = {value: found[0] if found else f"label {value}" for value, found in alone.items()}
    classes = [Label(name=names[n], read=read[n], write=n) for n in sorted(painted)]
    members = {
        name: tuple(c.name for c in classes if of & set(c.read)) for name, of in regions.items()
    }
    whole = {c.name: set(c.read) for c in classes}
    unions = {  # but those that are a class, or that no classes make up
        name: members[name]
        for name, of in regions.items()
        if name not in whole and of == set().union(*(whole[each] for each in members[name]))
    }
    background = Label(name=_BACKGROUND, read=(0,), write=0)
    channels = tuple(
        Region(name=name, members=of, paints=names[value])
        for (name, of), value in zip(members.items(), painted, strict=True)
    )
    made = LabelSet(classes=(background, *classes), regions=unions)
    return made, Sigmoid(values="logits", threshold=0.5, regions=channels), called


def _checked_order(
    path: Path, regions: Mapping[str, set[int]], order: _Values | None
) -> tuple[int, ...]:
    """Return what each region paints; ModelError where these do not fit each other."""
    if order is None or len(order) != len(regions):
        said = "nothing" if order is None else f"{list(order)}"
        wanted = f"a value for each of {len(regions)} regions"
        raise _unfit(path, f"regions_class_order is {said:.100}", wanted)
    if 0 in order or len(set(order)) < len(order) or max(order) > _LARGEST:
        found = f"regions_class_order is {list(order)!s:.100}"
        raise _unfit(path, found, f"values of 1 to {_LARGEST}, another for each region")
    if any(0 in members for members in regions.values()):
        raise _unfit(path, "a region holds the background")
    _require_few(path, len(order) + 1)
    return order


def _read_as(regions: Mapping[str, set[int]], order: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return which values of training label maps become each that is written: the last painted."""
    becomes: dict[int, int] = {}
    for members, painted in zip(regions.values(), order, strict=True):
        becomes |= dict.fromkeys(members, painted)
    return {p: tuple(sorted(v for v, to in becomes.items() if to == p)) for p in order}


def _usable(names: Sequence[str], kind: str) -> tuple[str, ...]:
    """Return names that can be shown, typed and told apart: others are mended, by one rule."""
    shown = [
        "".join(c if c.isprintable() and c not in "=/" else _REPLACED for c in name)[:_LONGEST]
        for name in names
    ]
    shown = [name if name.strip() else f"{kind} {n}" for n, name in enumerate(shown)]
    often = Counter(shown)
    found = [f"{name} {n}" if often[name] > 1 else name for n, name in enumerate(shown)]
    if len(set(found)) < len(found):  # one was called so before
        found = [f"{n} {name}" for n, name in enumerate(shown)]
    return tuple(found)


def _require_few(path: Path, count: int) -> None:
    if count > _LARGEST:
        raise ModelError(
            f"has {count} classes",
            where=path,
            expected=f"at most {_LARGEST} with the background, which a byte a voxel tells apart",
            remedy="run it with nnU-Net",
        )


def _unfit(path: Path, found: str, expected: str = "what nnU-Net itself can train") -> ModelError:
    return ModelError(found, where=path, expected=expected, remedy="correct dataset.json")
