"""Which cases a model learns from, is chosen by and is tested on; no subject is in two of these."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from vol3dseg.errors import DatasetError, some_of
from vol3dseg.files import write_json
from vol3dseg.schema import Frozen, Seed, Share, read_json

PARTS = ("train", "validation", "test")


class SplitConfig(Frozen):
    """How subjects are divided.

    Attributes
    ----------
    validation : float
        Share of all subjects that `val_loss` and the best checkpoint are judged on; rounded up.
    test : float
        Share of the others that training never sees; rounded up.
    seed : int
    stratify : bool
        Draw from subjects in order of their foreground volume, so that each part has small and
        large ones alike; see `make_split`.
    file : Path or None
        A JSON file with the lists `train`, `validation` and `test` of case ids, in place of all the
        above.
    """

    validation: Annotated[Share, Field(lt=1)] = 0.2
    test: Annotated[Share, Field(lt=1)] = 0.15
    seed: Seed = 0
    stratify: bool = False
    file: Path | None = None

    @property
    def in_words(self) -> str:
        """How subjects are divided, for people."""
        if self.file is not None:
            return f"Read from {self.file}."
        by = ", stratified by foreground volume" if self.stratify else ""
        validation, test = (f"{100 * share:.4g} %" for share in (self.validation, self.test))
        return (
            f"{validation} of all subjects for validation, {test} of the others for test, both "
            f"rounded up; drawn with seed {self.seed}{by}."
        )


class Split(Frozen):
    """Three parts of a data set, as case ids; no case is in two of them."""

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _disjoint(self) -> "Split":
        twice = sorted(i for i, times in Counter(self.ids).items() if times > 1)
        if twice:
            raise ValueError(f"cases are listed twice: {some_of(twice)}; keep each in one part")
        return self

    @property
    def ids(self) -> tuple[str, ...]:
        """All case ids, part after part."""
        return self.train + self.validation + self.test

    def part(self, name: str) -> tuple[str, ...]:
        """Return the case ids of a part; raises DatasetError where there is no such part."""
        parts = dict(zip(PARTS, (self.train, self.validation, self.test), strict=True))
        if name not in parts:
            raise DatasetError(f"no part {name!r} in a split", expected=", ".join(PARTS))
        return parts[name]

    def write(self, path: Path) -> None:
        """Write the split as JSON, atomically; `read_split` reads it back to an equal value."""
        write_json(path, self.model_dump(mode="json"))


def read_split(path: Path) -> Split:
    """Read a split from a JSON file; raises DatasetError where it is missing or none."""
    return read_json(
        Split,
        path,
        DatasetError,
        expected=f"a split: JSON with the lists {', '.join(PARTS)} of case ids",
        remedy="correct it, or make a new split",
    )


def make_split(
    subjects: Mapping[str, str], config: SplitConfig, volumes_ml: Mapping[str, float] | None = None
) -> Split:
    """Divide cases into parts, subject by subject.

    Validation is taken from all subjects first and test from those that remain, both rounded up:
    369 subjects give 250, 74 and 45. The outcome depends on the names of the subjects and the seed,
    not on the order of cases.

    With `config.stratify`, subjects are sorted by the foreground volume of all their cases, equal
    ones in random order, and divided into as many consecutive blocks as there are to be validation
    subjects, of equal size up to one; one is drawn from each block. Test is drawn likewise from the
    others. So among the subjects below any volume, validation has its share up to one.

    `subjects` and `volumes_ml`, the foreground needed to stratify, are by case id. Raises
    DatasetError where no subject would be left for training, a volume is missing, or `config.file`
    does not fit these cases.
    """
    if config.file is not None:
        return _from_file(config.file, subjects)
    names = sorted(set(subjects.values()))
    validation = _share(len(names), config.validation)
    test = _share(len(names) - validation, config.test)
    if validation + test >= len(names):
        raise DatasetError(
            f"{len(names)} subjects are too few: {validation} would go to validation and {test} to "
            "test, none to training",
            remedy="add cases, or lower split.validation or split.test",
        )
    rng = np.random.default_rng(config.seed)
    drawn = [names[int(n)] for n in rng.permutation(len(names))]
    if config.stratify:
        drawn = _stratified(drawn, _volumes_of(subjects, volumes_ml or {}), (validation, test), rng)
    return Split(
        train=_cases_of(drawn[validation + test :], subjects),
        validation=_cases_of(drawn[:validation], subjects),
        test=_cases_of(drawn[validation : validation + test], subjects),
    )


def split_table(
    split: Split,
    subjects: Mapping[str, str],
    volumes_ml: Mapping[str, float],
    outside: Mapping[str, int],
) -> str:
    """Return a Markdown table of the subjects, cases and foreground [ml] in each part.

    Shares are of all cases of the data set; `outside` says how many are in no part, by the reason.
    """
    total = max(len(split.ids) + sum(outside.values()), 1)
    rows = [
        "| part | subjects | cases | of all cases | foreground, median [ml] | quartiles [ml] |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in PARTS:
        cases = split.part(name)
        median = quartiles = "-"
        if cases:
            low, middle, high = np.percentile([volumes_ml[i] for i in cases], (25, 50, 75)).tolist()
            median, quartiles = f"{middle:.4g}", f"{low:.4g} to {high:.4g}"
        people, share = len({subjects[i] for i in cases}), len(cases) / total
        rows.append(f"| {name} | {people} | {len(cases)} | {share:.1%} | {median} | {quartiles} |")
    rows += [f"| {why} | - | {n} | {n / total:.1%} | - | - |" for why, n in outside.items()]
    return "\n".join(rows)


def _volumes_of(subjects: Mapping[str, str], volumes_ml: Mapping[str, float]) -> dict[str, float]:
    """Return the volume of each subject: the exact sum over its cases, in whatever order."""
    missing = sorted(case for case in subjects if case not in volumes_ml)
    if missing:
        raise DatasetError(
            f"the foreground volume of {len(missing)} cases is not known: {some_of(missing)}",
            where="split.stratify",
            remedy="give them label maps, or set split.stratify to false",
        )
    parts: dict[str, list[float]] = {}
    for case, subject in subjects.items():
        parts.setdefault(subject, []).append(volumes_ml[case])
    return {subject: math.fsum(each) for subject, each in parts.items()}


def _stratified(
    shuffled: list[str],
    volumes_ml: Mapping[str, float],
    counts: tuple[int, ...],
    rng: np.random.Generator,
) -> list[str]:
    """Return the subjects anew: so many of all volumes, then so many of the others, then the rest.

    Sorting is stable, so subjects of equal volume stay in the order of chance.
    """
    rest, drawn = sorted(shuffled, key=volumes_ml.__getitem__), []
    for count in counts:
        edges = [len(rest) * block // count for block in range(count + 1)] if count else []
        chosen = [int(rng.integers(start, stop)) for start, stop in pairwise(edges)]
        drawn += [rest[n] for n in chosen]
        rest = [name for n, name in enumerate(rest) if n not in set(chosen)]
    return drawn + rest


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
    found = [f"{len(names)} {what}: {some_of(names)}" for what, names in problems.items() if names]
    if not split.train:
        found.append("no case is in train")
    if found:
        remedy = "correct the lists, or make a new split"
        raise DatasetError("; ".join(found), where=path, remedy=remedy)
    return split
