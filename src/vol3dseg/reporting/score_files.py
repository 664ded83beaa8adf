"""Scores of one part of the cases: cases.csv for spreadsheets, summary.json for `compare`."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isnan, nan
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from vol3dseg.errors import RunError
from vol3dseg.evaluation.calibration import Calibration, pooled
from vol3dseg.evaluation.empty_masks import RULES, EmptyRule
from vol3dseg.evaluation.overlap import DICE
from vol3dseg.evaluation.scoring import CaseScores, Summary, mean_defined
from vol3dseg.files import write_json, write_text
from vol3dseg.schema import Share, read_json

CASES_NAME, SUMMARY_NAME = "cases.csv", "summary.json"
SCORES_PAGE = "report.html"
# Where the mean over foreground classes in each case stands among classes and regions.
CASE_MEAN = "mean of foreground classes"
_FORMAT: dict[str, Any] = {"format": "vol3dseg.scores", "version": 3}


def write_scores(
    folder: Path, cases: Sequence[CaseScores], summary: Summary, facts: Mapping[str, Any]
) -> None:
    """Write cases.csv and summary.json; undefined values are empty in the first, else null.

    `facts` say in summary.json by which model, who was scored and who was not.
    """
    known = any(case.calibration for case in cases)
    of_certainty = {c.case_id: (c.calibration or Calibration()).scores for c in cases if known}
    rows = [
        {"case": case.case_id, "structure": name, **values, **of_certainty.get(case.case_id, {})}
        for case in cases
        for name, values in case.structures.items()
    ]
    write_text(folder / CASES_NAME, csv_text(rows))
    data = _FORMAT | {
        "cases": summary.cases,
        **facts,
        "empty_masks": {"rule": summary.empty, "meaning": RULES[summary.empty].meaning},
        "mean_foreground_dice": summary.mean_foreground_dice,
        "mean_foreground": summary.mean_foreground,
        "structures": asdict(summary)["statistics"],
        "pooled": summary.pooled,
        "references": {case.case_id: case.reference for case in cases},
        "scores": {case.case_id: case.structures for case in cases},
    }
    if known:
        whole = pooled([case.calibration for case in cases if case.calibration])
        data["calibration"] = {**whole.scores, "cases": of_certainty}
    write_json(folder / SUMMARY_NAME, without_nan(data))


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows of the same columns as CSV; numbers have six digits, undefined ones are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _csv_cell(value: object) -> object:
    if isinstance(value, float):
        return "" if isnan(value) else f"{value:.6f}"
    return value


def without_nan(value: Any) -> Any:
    """Return the value with None for every NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and isnan(value) else value


@dataclass(frozen=True, slots=True)
class PartScores:
    """Dice of each case of a part, class by class and region by region; NaN where undefined."""

    part: str
    dice: Mapping[str, Mapping[str, float]]  # by structure, then by case: every one has every case
    pooled: Mapping[str, float]  # of `pooled_scores`, over all cases of the part
    empty: EmptyRule = "undefined"
    references: Mapping[str, str] = field(default_factory=dict)  # by case: what it was judged by

    @property
    def cases(self) -> tuple[str, ...]:
        """All cases, in the order of the file."""
        return tuple(next(iter(self.dice.values())))

    @property
    def structures(self) -> tuple[str, ...]:
        """Classes and regions, in the order of the file."""
        return tuple(self.dice)

    def only(self, cases: Sequence[str], classes: Sequence[str]) -> "PartScores":
        """Return the Dice of these cases, with `CASE_MEAN` over classes; the rest stays, of all."""
        dice = {name: {case: values[case] for case in cases} for name, values in self.dice.items()}
        means = {case: mean_defined([dice[name][case] for name in classes]) for case in cases}
        return replace(self, dice={**dice, CASE_MEAN: means})


class _StructureScores(BaseModel):
    dice: Share | None = Field(alias=DICE.name)


class _EmptyMasks(BaseModel):
    rule: EmptyRule


class _SummaryFile(BaseModel):
    format: Literal["vol3dseg.scores"]
    version: Literal[3]
    empty_masks: _EmptyMasks
    pooled: dict[str, Share | None]
    references: dict[str, str]
    scores: dict[str, dict[str, _StructureScores]] = Field(min_length=1)


def read_part(folder: Path, part: str) -> PartScores:
    """Read the scores of one part of a run from RUN/scores/<part>/summary.json."""
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
    return PartScores(part, dice, pooled, found.empty_masks.rule, found.references)


def _number(value: float | None) -> float:
    return nan if value is None else value
