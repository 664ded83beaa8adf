"""Several runs compared on the cases that all of them were scored on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from vol3dseg.errors import RunError, some_of
from vol3dseg.evaluation.scoring import Statistics, describe, mean_defined
from vol3dseg.reporting.comparison.hyperparameters import (
    Parameter,
    letter,
    run_names,
    side_by_side,
)
from vol3dseg.reporting.comparison.paired_differences import (
    Difference,
    holm_adjusted,
    paired_differences,
)
from vol3dseg.reporting.comparison.runs import RunSummary, how_to_score
from vol3dseg.reporting.score_files import CASE_MEAN, PartScores

_DEFAULT_PARTS = ("test", "validation")


@dataclass(frozen=True, slots=True)
class Entry:
    """One run in a comparison."""

    letter: str  # its short name in tables and pictures
    name: str  # what it is
    run: RunSummary
    scores: PartScores  # of the common cases, with `CASE_MEAN`

    @property
    def all_cases(self) -> tuple[str, ...]:
        """All cases of the part that the run was scored on, also those that others lack."""
        return self.run.scores[self.scores.part].cases

    @property
    def without_score(self) -> tuple[str, ...]:
        """Cases of the part that the run was not scored on."""
        scored = set(self.all_cases)
        return tuple(c for c in self.run.split.part(self.scores.part) if c not in scored)

    @property
    def of_no_part(self) -> tuple[str, ...]:
        """Cases that the run was scored on, and that its split does not have."""
        known = set(self.run.split.ids)
        return tuple(case for case in self.all_cases if case not in known)

    @property
    def statistics(self) -> Mapping[str, Statistics]:
        """Statistics of Dice over the common cases, by class or region."""
        return {name: describe(list(dice.values())) for name, dice in self.scores.dice.items()}

    @property
    def mean_of_classes(self) -> float:
        """Mean over foreground classes of their mean Dice, as `evaluate` reports it."""
        found = self.statistics
        return mean_defined([found[name].mean for name in self.run.manifest.labels.foreground])


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs, by their letters, and their differences: first minus second."""

    first: str
    second: str
    differences: tuple[Difference, ...]

    @property
    def title(self) -> str:
        """The letters, as a subtraction."""
        return f"{self.first} − {self.second}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side, in the order given, on the cases of a part that all were scored on."""

    part: str
    cases: tuple[str, ...]
    foreground: tuple[str, ...]
    entries: tuple[Entry, ...]
    parameters: tuple[Parameter, ...]  # all, also those that do not differ
    pairs: tuple[Pair, ...]  # every two runs; p_holm is adjusted over all their differences

    @property
    def compared(self) -> tuple[str, ...]:
        """What differences are taken of: the foreground classes, then their mean in each case."""
        return (*self.foreground, CASE_MEAN)

    @property
    def structures(self) -> tuple[str, ...]:
        """What has a Dice: foreground classes, other unions of classes, the mean in each case."""
        found = self.entries[0].scores.structures
        return (*self.foreground, *(name for name in found if name not in self.foreground))


def compare(runs: Sequence[RunSummary], part: str | None = None) -> Comparison:
    """Put at least two runs of one label set side by side; see `compare_folders` for `part`."""
    _require_comparable(runs)
    part = part or _common_part(runs)
    scores = [run.scores_of(part) for run in runs]
    _require_alike(runs, scores)
    cases = _common_cases(runs, scores)
    foreground = runs[0].manifest.labels.foreground
    common = [found.only(cases, foreground) for found in scores]
    named = enumerate(zip(run_names(runs), runs, common, strict=True))
    entries = tuple(Entry(letter(number), *each) for number, each in named)
    pairs = _pairs(entries, (*foreground, CASE_MEAN))
    return Comparison(part, cases, foreground, entries, side_by_side(runs), pairs)


def _common_cases(runs: Sequence[RunSummary], scores: Sequence[PartScores]) -> tuple[str, ...]:
    first = scores[0]
    common = set(first.cases).intersection(*(found.cases for found in scores))
    if not common:
        raise RunError(
            f"the runs have no case of the {first.part} part in common: {runs[0].folder} was "
            f"scored on {some_of(first.cases)}",
            remedy="evaluate all runs on the same cases, or choose another --part",
        )
    cases = tuple(case for case in first.cases if case in common)
    for run, found in zip(runs, scores, strict=True):
        others = [c for c in cases if found.references.get(c) != first.references.get(c)]
        if others:
            raise RunError(
                f"{runs[0].folder} and {run.folder} were judged by different label maps of "
                f"{some_of(others)}",
                expected="the same references",
                remedy="evaluate the predictions of both against one data set again",
            )
    return cases


def _pairs(entries: Sequence[Entry], structures: Sequence[str]) -> tuple[Pair, ...]:
    pairs = list(combinations(entries, 2))
    found = [
        d for a, b in pairs for d in paired_differences(a.scores.dice, b.scores.dice, structures)
    ]
    adjusted = iter(holm_adjusted(found))  # over the whole table, not pair by pair
    return tuple(
        Pair(a.letter, b.letter, tuple(next(adjusted) for _ in structures)) for a, b in pairs
    )


def _common_part(runs: Sequence[RunSummary]) -> str:
    lacking = {
        part: [run.folder for run in runs if part not in run.scores] for part in _DEFAULT_PARTS
    }
    chosen = min(_DEFAULT_PARTS, key=lambda part: len(lacking[part]))
    if all(lacking.values()):
        found = "; ".join(
            f"{part} part: none of {some_of(list(map(str, folders)))}"
            for part, folders in lacking.items()
        )
        raise RunError(
            f"the runs have no scores of one part ({found})",
            remedy=f"choose a --part that all have, or {how_to_score(lacking[chosen][0], chosen)}",
        )
    return chosen


def _require_comparable(runs: Sequence[RunSummary]) -> None:
    if len(runs) < 2:
        raise RunError(
            f"fewer than two runs ({runs[0].folder if runs else 'none'})",
            remedy="give at least two run folders to compare",
        )
    first, seen = runs[0], dict[object, RunSummary]()
    for run in runs:
        before = seen.setdefault(run.folder.resolve(), run)
        if before is not run:
            raise RunError(
                f"given twice (also as {before.folder})",
                where=run.folder,
                remedy="give each run once",
            )
        differences = first.manifest.labels.differences(run.manifest.labels, "regions")
        if differences:
            raise RunError(
                f"{first.folder} and {run.folder} have different labels: {differences}",
                remedy="compare runs of one label set",
            )


def _require_alike(runs: Sequence[RunSummary], scores: Sequence[PartScores]) -> None:
    """Refuse scores of other structures, or by other rules, than those of the first run."""
    for run, found in zip(runs, scores, strict=True):
        expected = {*run.manifest.labels.foreground, *scores[0].structures}
        if set(found.structures) != expected:
            raise RunError(
                f"has scores of {list(found.structures)}",
                where=run.folder / "scores" / found.part,
                expected=str(sorted(expected)),
                remedy="evaluate all runs with one config",
            )
        if found.empty != scores[0].empty:
            raise RunError(
                f"{runs[0].folder} and {run.folder} were scored by different rules for empty "
                f"masks: {scores[0].empty} and {found.empty}",
                remedy="evaluate all with the same --empty",
            )
