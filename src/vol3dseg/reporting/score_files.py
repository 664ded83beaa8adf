"""Scores of one part of the cases in files: cases.csv and summary.json, written and read back."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vol3dseg.errors import RunError
from vol3dseg.evaluation.overlap import DICE, EMPTY_RULES, METRICS, EmptyRule
from vol3dseg.evaluation.scoring import CaseScores, Statistics, Summary, describe, mean_defined
from vol3dseg.files import write_json, write_text
from vol3dseg.schema import read_json

CASES_NAME, SUMMARY_NAME = "cases.csv", "summary.json"
# Where the mean over foreground classes in each case stands among classes and regions.
CASE_MEAN = "mean of foreground classes"
_CASE, _STRUCTURE = "case", "structure"
_COLUMNS = (_CASE, _STRUCTURE, *(m.name for m in METRICS), "reference_ml", "prediction_ml")
_EXPECTED, _REMEDY = "what vol3dseg evaluate writes", "evaluate the predictions again"


def write_scores(folder: Path, cases: Sequence[CaseScores], summary: Summary) -> None:
    """Write cases.csv and summary.json; undefined values are empty in the first, else null."""
    rows = [
        (
            case.case_id,
            name,
            *(csv_number(found.values[metric.name]) for metric in METRICS),
            *(f"{ml:.4f}" for ml in (found.reference_ml, found.prediction_ml)),
        )
        for case in cases
        for name, found in case.structures.items()
    ]
    write_text(folder / CASES_NAME, csv_text(_COLUMNS, rows))
    write_json(folder / SUMMARY_NAME, _nulls(_summary_data(summary)))


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


def _summary_data(summary: Summary) -> dict[str, Any]:
    return {
        "cases": summary.cases,
        "empty_masks": {"rule": summary.empty, "meaning": EMPTY_RULES[summary.empty]},
        "mean_foreground_dice": summary.mean_foreground_dice,
        "mean_foreground": summary.mean_foreground,
        "structures": {
            name: {metric: asdict(found) for metric, found in metrics.items()}
            for name, metrics in summary.statistics.items()
        },
        "pooled": summary.pooled,
    }


def _nulls(value: Any) -> Any:
    """Return the value with None for every NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _nulls(each) for key, each in value.items()}
    return None if isinstance(value, float) and isnan(value) else value


@dataclass(frozen=True, slots=True)
class PartScores:
    """Dice of each case of a part, class by class and region by region.

    Parameters
    ----------
    part : str
        "train", "validation" or "test".
    cases : tuple of str
    dice : mapping from class or region to mapping from case to Dice
        NaN where undefined. Every structure has every case.
    pooled : mapping from str to float
        Of `evaluation.scoring.pooled_scores`, over all cases of the part; NaN where undefined.
    empty : "undefined" or "one"
        The rule for empty masks that the scores follow.
    """

    part: str
    cases: tuple[str, ...]
    dice: Mapping[str, Mapping[str, float]]
    pooled: Mapping[str, float]
    empty: EmptyRule = "undefined"

    @property
    def structures(self) -> tuple[str, ...]:
        """Classes and regions, in the order of the file."""
        return tuple(self.dice)

    def only(self, cases: Iterable[str]) -> "PartScores":
        """Return the scores of these cases; the pooled ones stay, they cannot be cut down."""
        kept = tuple(cases)
        dice = {name: {case: values[case] for case in kept} for name, values in self.dice.items()}
        return replace(self, cases=kept, dice=dice)

    def statistics(self, structure: str, cases: Iterable[str]) -> Statistics:
        """Return the statistics of a structure's Dice over these cases."""
        return describe([self.dice[structure][case] for case in cases])

    def case_mean(self, case: str, structures: Sequence[str]) -> float:
        """Return the mean Dice of a case over the structures that define it; NaN if none does."""
        return mean_defined([self.dice[name][case] for name in structures])


class _EmptyMasks(BaseModel):
    rule: EmptyRule


class _SummaryFile(BaseModel):
    cases: int
    pooled: dict[str, float | None]
    empty_masks: _EmptyMasks


def read_part(folder: Path, part: str) -> PartScores:
    """Read cases.csv and summary.json of one part.

    Parameters
    ----------
    folder : Path
        RUN/scores/<part>.
    part : str
        Its name.

    Raises
    ------
    RunError
        A file is missing or damaged, or the two do not belong together.
    """
    dice = _read_cases(folder / CASES_NAME)
    cases = tuple(next(iter(dice.values())))
    summary = read_json(
        _SummaryFile, folder / SUMMARY_NAME, RunError, expected=_EXPECTED, remedy=_REMEDY
    )
    if summary.cases != len(cases):
        raise RunError(
            f"{CASES_NAME} has {len(cases)} cases and {SUMMARY_NAME} {summary.cases}",
            where=folder,
            expected="both from one evaluation",
            remedy=_REMEDY,
        )
    pooled = {name: nan if value is None else value for name, value in summary.pooled.items()}
    return PartScores(part, cases, dice, pooled, summary.empty_masks.rule)


def _read_cases(path: Path) -> dict[str, dict[str, float]]:
    dice: dict[str, dict[str, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = sorted({_CASE, _STRUCTURE, DICE.name} - set(rows.fieldnames or ()))
            if missing:
                raise _damaged(path, f"has no column {', '.join(missing)}")
            for row in rows:
                values = dice.setdefault(row[_STRUCTURE], {})
                if row[_CASE] in values:
                    raise _damaged(path, f"line {rows.line_num} repeats case {row[_CASE]}")
                values[row[_CASE]] = _dice(row[DICE.name], path, rows.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, f"cannot be read ({error})") from error
    if not dice:
        raise _damaged(path, "holds no case")
    first, *others = dice.items()
    for name, values in others:
        if set(values) != set(first[1]):
            raise _damaged(path, f"{first[0]!r} and {name!r} have different cases")
    return dice


def _dice(text: str | None, path: Path, line: int) -> float:
    if text == "":
        return nan
    try:
        value = float(text or "")
    except ValueError:
        value = nan
    if isnan(value) or not 0 <= value <= 1:
        found = f"line {line} has the {DICE.title} {text!r}"
        raise RunError(found, where=path, expected="a number from 0 to 1", remedy=_REMEDY)
    return value


def _damaged(path: Path, found: str) -> RunError:
    return RunError(found, where=path, expected=_EXPECTED, remedy=_REMEDY)
