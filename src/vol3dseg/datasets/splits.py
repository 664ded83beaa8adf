"""Which cases a model learns from, is chosen by and is tested on; no subject is in two of these."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vol3dseg.errors import DatasetError
from vol3dseg.files import write_json

PARTS = ("train", "validation", "test")
_LISTED = 5  # names in a message; more would bury the remedy


class SplitConfig(BaseModel):
    """How subjects are divided.

    Attributes
    ----------
    validation : float
        Share of all subjects that `val_loss` and the best checkpoint are judged on; rounded up.
    test : float
        Share of the others that training never sees; rounded up.
    seed : int
    file : Path or None
        A JSON file with the lists `train`, `validation` and `test` of case ids, in place of chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: float = Field(default=0.2, ge=0, lt=1)
    test: float = Field(default=0.15, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    file: Path | None = None


class Split(BaseModel):
    """Three parts of a data set, as case ids; no case is in two of them.

    Attributes
    ----------
    train, validation, test : tuple of str
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _disjoint(self) -> "Split":
        twice = sorted(i for i, times in Counter(self.ids).items() if times > 1)
        if twice:
            raise ValueError(f"cases are listed twice: {_some(twice)}; keep each in one part")
        return self

    @property
    def ids(self) -> tuple[str, ...]:
        """All case ids, part after part."""
        return self.train + self.validation + self.test

    def part(self, name: str) -> tuple[str, ...]:
        """Return the case ids of the part `name`: "train", "validation" or "test".

        Raises
        ------
        DatasetError
            There is no such part.
        """
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        if name not in parts:
            raise DatasetError(f"no part {name!r} in a split; expected {', '.join(PARTS)}")
        return parts[name]

    def select(self, ids: Iterable[str]) -> "Split":
        """Return the split with these cases only, in the order they have now."""
        keep = set(ids)
        train, validation, test = (tuple(i for i in self.part(p) if i in keep) for p in PARTS)
        return Split(train=train, validation=validation, test=test)

    def write(self, path: Path) -> None:
        """Write the split as JSON, atomically; `read_split` reads it back to an equal value."""
        write_json(path, self.model_dump(mode="json"))


def read_split(path: Path) -> Split:
    """Read a split from a JSON file with the lists `train`, `validation` and `test`.

    Raises
    ------
    DatasetError
        The file is missing, is not such JSON, or lists a case twice.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such split file; expected JSON with lists of case ids")
    try:
        return Split.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise DatasetError(
            f"{path}: not a split ({_reason(error)}); expected JSON with the lists "
            f"{', '.join(PARTS)} of case ids"
        ) from error


def make_split(subjects: Mapping[str, str], config: SplitConfig) -> Split:
    """Divide cases into parts, subject by subject.

    As in the report behind the defaults, validation is taken from all subjects first and test from
    those that remain, both rounded up: 369 subjects give 250, 74 and 45. The outcome depends on the
    names of the subjects and the seed, not on the order of cases.

    Parameters
    ----------
    subjects : mapping from case id to subject
    config : SplitConfig

    Raises
    ------
    DatasetError
        No subject would be left for training, or `config.file` does not fit these cases.
    """
    if config.file is not None:
        return _from_file(config.file, subjects)
    names = sorted(set(subjects.values()))
    validation = _share(len(names), config.validation)
    test = _share(len(names) - validation, config.test)
    if validation + test >= len(names):
        raise DatasetError(
            f"{len(names)} subjects are too few: {validation} would go to validation and {test} to "
            "test, none to training; add cases, or lower split.validation or split.test"
        )
    order = np.random.default_rng(config.seed).permutation(len(names))
    drawn = [names[int(n)] for n in order]
    return Split(
        train=_cases_of(drawn[validation + test :], subjects),
        validation=_cases_of(drawn[:validation], subjects),
        test=_cases_of(drawn[validation : validation + test], subjects),
    )


def split_table(split: Split, subjects: Mapping[str, str]) -> str:
    """Return a Markdown table of the subjects and cases in each part.

    Parameters
    ----------
    split : Split
    subjects : mapping from case id to subject
    """
    total = max(len(split.ids), 1)
    rows = ["| part | subjects | cases | share of cases |", "|---|---:|---:|---:|"]
    for name in PARTS:
        cases = split.part(name)
        people = len({subjects[i] for i in cases})
        rows.append(f"| {name} | {people} | {len(cases)} | {len(cases) / total:.1%} |")
    return "\n".join(rows)


def _share(count: int, fraction: float) -> int:
    return math.ceil(count * fraction - 1e-9)  # 0.1 * 30 is a little more than 3 in floats


def _cases_of(names: Iterable[str], subjects: Mapping[str, str]) -> tuple[str, ...]:
    chosen = set(names)
    return tuple(sorted(case for case, subject in subjects.items() if subject in chosen))


def _from_file(path: Path, subjects: Mapping[str, str]) -> Split:
    split = read_split(path)
    listed = set(split.ids)
    parts_of: dict[str, set[str]] = {}
    for name in PARTS:
        for case in split.part(name):
            parts_of.setdefault(subjects.get(case, case), set()).add(name)
    problems = {
        "cases are unknown": sorted(listed - set(subjects)),
        "cases are in no part": sorted(set(subjects) - listed),
        "subjects are in two parts": sorted(s for s, p in parts_of.items() if len(p) > 1),
    }
    found = [f"{len(names)} {what}: {_some(names)}" for what, names in problems.items() if names]
    if not split.train:
        found.append("no case is in train")
    if found:
        raise DatasetError(f"{path}: {'; '.join(found)}; mend the lists, or make a new split")
    return split


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _reason(error: ValidationError | OSError) -> str:
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
