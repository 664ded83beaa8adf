"""Scores of one part of a run's cases, read back from what `vol3dseg evaluate` wrote."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from pathlib import Path

from pydantic import BaseModel, ValidationError

from vol3dseg.errors import RunError
from vol3dseg.evaluation.spread import Spread, mean_defined, spread_of

CASES_NAME, SUMMARY_NAME = "cases.csv", "summary.json"
# Where the per-case mean over foreground classes stands among classes and regions.
CASE_MEAN = "mean of foreground classes"


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
        Of `evaluation.pooled.pooled_table`, over all cases of the part; NaN where undefined.
    empty : str or None
        The rule for empty masks that the scores follow, where the file says it.
    """

    part: str
    cases: tuple[str, ...]
    dice: Mapping[str, Mapping[str, float]]
    pooled: Mapping[str, float]
    empty: str | None = None

    @property
    def structures(self) -> tuple[str, ...]:
        """Classes and regions, in the order of the file."""
        return tuple(self.dice)

    def only(self, cases: Iterable[str]) -> "PartScores":
        """Return the scores of these cases; the pooled ones stay, they cannot be cut down."""
        kept = tuple(cases)
        dice = {name: {case: values[case] for case in kept} for name, values in self.dice.items()}
        return replace(self, cases=kept, dice=dice)

    def spread(self, structure: str, cases: Iterable[str]) -> Spread:
        """Return the spread of a structure's Dice over these cases."""
        return spread_of([self.dice[structure][case] for case in cases])

    def case_mean(self, case: str, structures: Sequence[str]) -> float:
        """Return the mean Dice of a case over the structures that define it; NaN if none does."""
        return mean_defined([self.dice[name][case] for name in structures])


class _Rule(BaseModel):
    rule: str


class _Summary(BaseModel):
    cases: int
    pooled: dict[str, float | None]
    empty_masks: _Rule | None = None


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
    summary = _read_summary(folder / SUMMARY_NAME)
    if summary.cases != len(cases):
        raise RunError(
            f"{folder}: {CASES_NAME} has {len(cases)} cases and {SUMMARY_NAME} {summary.cases}; "
            "they are of different evaluations, so make both again with vol3dseg evaluate"
        )
    pooled = {name: nan if value is None else value for name, value in summary.pooled.items()}
    rule = summary.empty_masks.rule if summary.empty_masks else None
    return PartScores(part, cases, dice, pooled, rule)


def _read_cases(path: Path) -> dict[str, dict[str, float]]:
    dice: dict[str, dict[str, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = {"case", "structure", "dice"} - set(rows.fieldnames or ())
            if missing:
                raise _damaged(path, f"no column {', '.join(sorted(missing))}")
            for row in rows:
                values = dice.setdefault(row["structure"], {})
                if row["case"] in values:
                    raise _damaged(path, f"line {rows.line_num} repeats case {row['case']}")
                values[row["case"]] = _dice(row["dice"], path, rows.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, str(error)) from error
    if not dice:
        raise _damaged(path, "it holds no case")
    first, *others = dice.items()
    for name, values in others:
        if set(values) != set(first[1]):
            raise _damaged(path, f"{first[0]!r} and {name!r} have different cases")
    return dice


def _dice(text: str | None, path: Path, line: int) -> float:
    if text == "":
        return float("nan")
    try:
        value = float(text or "")
    except ValueError:
        value = nan
    if isnan(value) or not 0 <= value <= 1:
        raise _damaged(path, f"line {line} has the Dice {text!r}, expected a number from 0 to 1")
    return value


def _read_summary(path: Path) -> _Summary:
    try:
        return _Summary.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _damaged(path, str(error)) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "document"
        raise _damaged(path, f"{place}: {first['msg']}") from error


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(
        f"{path}: not what vol3dseg evaluate writes ({reason}); evaluate the predictions again"
    )
