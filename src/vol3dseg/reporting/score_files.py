"""Scores of one part of the cases: cases.csv for spreadsheets, summary.json for `compare`."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan, nan
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from vol3dseg.errors import RunError
from vol3dseg.evaluation.overlap import DICE, EMPTY_RULES, EmptyRule
from vol3dseg.evaluation.scoring import CaseScores, Summary, mean_defined
from vol3dseg.files import write_json, write_text
from vol3dseg.schema import read_json

CASES_NAME, SUMMARY_NAME = "cases.csv", "summary.json"
# Where the mean over foreground classes in each case stands among classes and regions.
CASE_MEAN = "mean of foreground classes"
_FORMAT: dict[str, Any] = {"format": "vol3dseg.scores", "version": 1}


def write_scores(folder: Path, cases: Sequence[CaseScores], summary: Summary) -> None:
    """Write cases.csv and summary.json; undefined values are empty in the first, else null."""
    columns = tuple(next(iter(cases[0].structures.values())))
    rows = [
        (case.case_id, name, *map(csv_number, values.values()))
        for case in cases
        for name, values in case.structures.items()
    ]
    write_text(folder / CASES_NAME, csv_text(("case", "structure", *columns), rows))
    write_json(folder / SUMMARY_NAME, _nulls(_summary_data(cases, summary)))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def csv_number(value: float) -> str:
    """Return a score with six digits; empty where it is undefined."""
    return "" if isnan(value) else f"{value:.6f}"


def _summary_data(cases: Sequence[CaseScores], summary: Summary) -> dict[str, Any]:
    return _FORMAT | {
        "cases": summary.cases,
        "empty_masks": {"rule": summary.empty, "meaning": EMPTY_RULES[summary.empty]},
        "mean_foreground_dice": summary.mean_foreground_dice,
        "mean_foreground": summary.mean_foreground,
        "structures": asdict(summary)["statistics"],
        "pooled": summary.pooled,
        "scores": {case.case_id: case.structures for case in cases},
    }


def _nulls(value: Any) -> Any:
    """Return the value with None for every NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _nulls(each) for key, each in value.items()}
    return None if isinstance(value, float) and isnan(value) else value


@dataclass(frozen=True, slots=True)
class PartScores:
    """Dice of each case of a part, class by class and region by region; NaN where undefined."""

    part: str
    dice: Mapping[str, Mapping[str, float]]  # by structure, then by case: every one has every case
    pooled: Mapping[str, float]  # of `pooled_scores`, over all cases of the part
    empty: EmptyRule = "undefined"

    @property
    def cases(self) -> tuple[str, ...]:
        """All cases, in the order of the file."""
        return tuple(next(iter(self.dice.values())))

    @property
    def structures(self) -> tuple[str, ...]:
        """Classes and regions, in the order of the file."""
        return tuple(self.dice)

    def only(self, cases: Iterable[str]) -> "PartScores":
        """Return the scores of these cases; the pooled ones stay, which are of all."""
        kept = tuple(cases)
        dice = {name: {case: values[case] for case in kept} for name, values in self.dice.items()}
        return replace(self, dice=dice)

    def with_case_mean(self, classes: Sequence[str]) -> "PartScores":
        """Return the scores with `CASE_MEAN`: in each case the mean over classes that define it."""
        means = {c: mean_defined([self.dice[name][c] for name in classes]) for c in self.cases}
        return replace(self, dice={**self.dice, CASE_MEAN: means})


class _StructureScores(BaseModel):
    dice: Annotated[float, Field(ge=0, le=1)] | None = Field(alias=DICE.name)


class _EmptyMasks(BaseModel):
    rule: EmptyRule


class _SummaryFile(BaseModel):
    format: Literal["vol3dseg.scores"]
    version: Literal[1]
    empty_masks: _EmptyMasks
    pooled: dict[str, float | None]
    scores: dict[str, dict[str, _StructureScores]] = Field(min_length=1)


def read_part(folder: Path, part: str) -> PartScores:
    """Read the summary.json of one part of a run from its folder, RUN/scores/<part>.

    A RunError says that it is missing, damaged or of another version, or that its cases have
    different structures.
    """
    path, expected = folder / SUMMARY_NAME, "what vol3dseg evaluate writes"
    remedy = "evaluate the predictions again"
    found = read_json(_SummaryFile, path, RunError, expected=expected, remedy=remedy)
    first, structures = next(iter(found.scores.items()))
    if not structures:
        raise RunError(f"case {first} has no scores", where=path, expected=expected, remedy=remedy)
    for case, scores in found.scores.items():
        if scores.keys() != structures.keys():
            raise RunError(
                f"cases {first} and {case} have scores of {list(structures)} and {list(scores)}",
                where=path,
                expected="the same structures in every case",
                remedy=remedy,
            )
    dice = {
        name: {case: _number(scores[name].dice) for case, scores in found.scores.items()}
        for name in structures
    }
    pooled = {name: _number(value) for name, value in found.pooled.items()}
    return PartScores(part, dice, pooled, found.empty_masks.rule)


def _number(value: float | None) -> float:
    return nan if value is None else value
