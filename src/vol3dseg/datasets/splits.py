"""Which cases a model learns from, is chosen by and is tested on; no subject is in two of these."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError, model_validator

from vol3dseg.datasets.drawing import (
    held_out_subjects,
    rounded_share,
    stratified,
    subject_volumes,
)
from vol3dseg.datasets.folds import Fold, fold_of_file
from vol3dseg.errors import DatasetError, some_of
from vol3dseg.files import write_json
from vol3dseg.schema import Frozen, Positive, Seed, Share, problems, read_json

PARTS = ("train", "validation", "test")
MOST_FOLDS = 1000
_FoldNumber = Annotated[Positive, Field(le=MOST_FOLDS)]


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
        above. With `fold` it is a file of folds (nnU-Net's splits_final.json), in place of `folds`.
    folds : int
        How many folds subjects are divided into for cross-validation.
    fold : int or None
        Hold this fold out, counted from 1: it is the test part, in place of `test`. `validation` is
        then a share of the other subjects. None divides as above, without folds.
    """

    validation: Annotated[Share, Field(lt=1)] = 0.2
    test: Annotated[Share, Field(lt=1)] = 0.15
    seed: Seed = 0
    stratify: bool = False
    file: Path | None = None
    folds: Annotated[_FoldNumber, Field(ge=2)] = 5
    fold: _FoldNumber | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "SplitConfig":
        if self.fold is not None and self.file is None and self.fold > self.folds:
            raise ValueError(
                f"fold {self.fold} of folds {self.folds} cannot be held out; choose one from 1 to "
                f"{self.folds}, or raise folds"
            )
        return self

    @property
    def in_words(self) -> str:
        """How subjects are divided, for people."""
        by = ", stratified by foreground volume" if self.stratify else ""
        if self.fold is not None:
            where = f"those of {self.file}" if self.file else f"{self.folds}"
            share = f"{100 * self.validation:.4g} % of the other subjects for validation"
            return (
                f"Fold {self.fold} of {where} is held out as test, {share}, rounded up; drawn with "
                f"seed {self.seed}{by}."
            )
        if self.file is not None:
            return f"Read from {self.file}."
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
        remedy="correct it, or make a new split; of a list of folds, split.fold chooses one",
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

    With `config.fold`, test is that fold: of `held_out_subjects`, or of a file.

    `subjects` and `volumes_ml`, the foreground needed to stratify, are by case id. Raises
    DatasetError where no subject would be left for training, a volume is missing, or `config.file`
    does not fit these cases.
    """
    if config.file is not None and config.fold is None:
        return _from_file(config.file, subjects)
    names = set(subjects.values())
    of_subjects = subject_volumes(subjects, volumes_ml or {}) if config.stratify else None
    if config.fold is None:
        return _divided(names, subjects, config, config.test, config.seed, of_subjects)
    held = _held_out(subjects, config, config.fold, of_subjects)
    seed = (config.seed, config.fold)
    rest = _divided(names - held, subjects, config, 0.0, seed, of_subjects)
    return rest.model_copy(update={"test": _cases_of(held, subjects)})


def _divided(
    subjects: Collection[str],
    of_cases: Mapping[str, str],
    config: SplitConfig,
    test_share: float,
    seed: int | tuple[int, int],
    volumes_ml: Mapping[str, float] | None,
) -> Split:
    """Divide the cases of these subjects; `volumes_ml` are theirs, where it is by volume."""
    names = sorted(subjects)
    validation = rounded_share(len(names), config.validation)
    test = rounded_share(len(names) - validation, test_share)
    if validation + test >= len(names):
        raise DatasetError(
            f"{len(names)} subjects are too few: {validation} would go to validation and {test} to "
            "test, none to training",
            remedy="add cases, or lower split.validation or split.test",
        )
    rng = np.random.default_rng(seed)
    drawn = [names[int(n)] for n in rng.permutation(len(names))]
    if volumes_ml is not None:
        drawn = stratified(drawn, volumes_ml, (validation, test), rng)
    return Split(
        train=_cases_of(drawn[validation + test :], of_cases),
        validation=_cases_of(drawn[:validation], of_cases),
        test=_cases_of(drawn[validation : validation + test], of_cases),
    )


def _held_out(
    subjects: Mapping[str, str],
    config: SplitConfig,
    number: int,
    volumes_ml: Mapping[str, float] | None,
) -> set[str]:
    """Return the subjects that a fold holds out."""
    if config.file is None:
        names = sorted(set(subjects.values()))
        return set(held_out_subjects(names, config.folds, config.seed, volumes_ml)[number - 1])
    fold = fold_of_file(config.file, number)
    where = f"{config.file}, fold {number}"
    _require_fit(_of_fold(fold, where), subjects, where)
    return {subjects[case] for case in fold.val}


def _of_fold(fold: Fold, where: str) -> Split:
    try:
        return Split(train=fold.train, test=fold.val)
    except ValidationError as error:
        raise DatasetError(problems(error), where=where, remedy="correct the lists") from error


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


def _cases_of(names: Iterable[str], subjects: Mapping[str, str]) -> tuple[str, ...]:
    chosen = set(names)
    return tuple(sorted(case for case, subject in subjects.items() if subject in chosen))


def _from_file(path: Path, subjects: Mapping[str, str]) -> Split:
    split = read_split(path)
    _require_fit(split, subjects, path)
    return split


def _require_fit(split: Split, subjects: Mapping[str, str], where: object) -> None:
    """Refuse a split that is not one of these cases."""
    listed = set(split.ids)
    parts_of: dict[str, set[str]] = {}
    for name in PARTS:
        for case in split.part(name):
            parts_of.setdefault(subjects.get(case, case), set()).add(name)
    wrong = {
        "cases are unknown": sorted(listed - set(subjects)),
        "cases are in no part": sorted(set(subjects) - listed),
        "subjects are in two parts": sorted(s for s, p in parts_of.items() if len(p) > 1),
    }
    found = [f"{len(names)} {what}: {some_of(names)}" for what, names in wrong.items() if names]
    if not split.train:
        found.append("no case is in train")
    if found:
        remedy = "correct the lists, or make a new split"
        raise DatasetError("; ".join(found), where=where, remedy=remedy)
