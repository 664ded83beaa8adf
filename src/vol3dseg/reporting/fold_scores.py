"""Scores of a cross-validation: mean Dice of each fold and of all, with intervals.

Each case is judged once, by the network that had not seen it. Pooled means run over all cases, so
a case weighs the same whichever fold held it out.
"""

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import Any

from pydantic import Field

from vol3dseg.evaluation.intervals import RESAMPLES, mean_interval
from vol3dseg.evaluation.overlap import DICE
from vol3dseg.evaluation.scoring import CaseScores, mean_defined, summarise
from vol3dseg.model.validation_scores import ValidationScores
from vol3dseg.reporting.document import Block, Heading, Table, markdown, number
from vol3dseg.reporting.score_files import csv_text
from vol3dseg.schema import Count, Frozen, Share

POOLED = "pooled"
CLASS_MEAN = "mean of classes"
HOW = (
    "Whole-volume Dice of held-out cases: mean (95 % interval), by bootstrap over subjects, "
    f"bias-corrected and accelerated, {RESAMPLES} draws. Each case was judged by the network that "
    "had not seen it."
)


class MeanDice(Frozen):
    """The mean Dice of a class or region, over the cases that define it; None where none does.

    Attributes
    ----------
    cases, subjects : int
        That define it.
    mean : float or None
    low, high : float or None
        Ends of the 95 % interval; None with fewer than two subjects.
    """

    cases: Count
    subjects: Count
    mean: Share | None
    low: Share | None
    high: Share | None


class FoldScores(Frozen):
    """Mean Dice over some held-out cases.

    Attributes
    ----------
    cases : int
    dice : mapping from class or region to MeanDice
    mean_dice : float or None
        Mean over foreground classes.
    """

    cases: Count
    dice: dict[str, MeanDice] = Field(min_length=1)
    mean_dice: Share | None


def score_fold(cases: Sequence[CaseScores], subjects: Mapping[str, str]) -> FoldScores:
    """Put the scores of cases together; `subjects` by case."""
    summary = summarise(cases)
    return FoldScores(
        cases=len(cases),
        dice={name: _mean_dice(name, cases, subjects) for name in summary.names},
        mean_dice=summary.mean_foreground_dice,
    )


def _mean_dice(name: str, cases: Sequence[CaseScores], subjects: Mapping[str, str]) -> MeanDice:
    found = {case.case_id: case.structures[name][DICE.name] for case in cases}
    defined = {case: value for case, value in found.items() if not isnan(value)}
    groups = [subjects[case] for case in defined]
    low, high = mean_interval(list(defined.values()), groups)
    return MeanDice(
        cases=len(defined),
        subjects=len(set(groups)),
        mean=_defined(mean_defined(list(defined.values()))),
        low=_defined(low),
        high=_defined(high),
    )


def as_validation(found: FoldScores, *notes: str) -> ValidationScores:
    """Return the scores as a manifest has them."""
    return ValidationScores(
        cases=found.cases,
        dice={name: dice.mean for name, dice in found.dice.items()},
        mean_dice=found.mean_dice,
        notes=notes,
    )


def fold_table(rows: Mapping[str, FoldScores], intervals: bool = True) -> Table:
    """Return a row for each fold, and one for all of them together."""
    names = list(next(iter(rows.values())).dice)
    cell = _cell if intervals else _mean_of
    shown = tuple(
        (
            name,
            str(row.cases),
            *(cell(row.dice[n], row.cases) for n in names),
            _shown(row.mean_dice),
        )
        for name, row in rows.items()
    )
    last = len(shown) - 1
    bold = frozenset((last, column) for column in range(len(names) + 3))
    return Table(("fold", "cases", *names, CLASS_MEAN), shown, bold)


def pooled_dice(pooled: FoldScores) -> Table:
    """Return a row for each class or region, of all folds together."""
    rows = [
        (name, str(found.cases), _shown(found.mean), _ends(found))
        for name, found in pooled.dice.items()
    ]
    rows.append((CLASS_MEAN, "", _shown(pooled.mean_dice), ""))
    return Table(("class or region", "cases", "Dice", "95 % interval"), tuple(rows))


def fold_markdown(rows: Mapping[str, FoldScores], folds: str) -> str:
    """Return the table as a document; `folds` says how subjects were divided."""
    blocks: list[Block] = [folds, Heading("Dice by fold"), fold_table(rows), HOW]
    return markdown("Cross-validation", blocks)


def fold_csv(rows: Mapping[str, FoldScores]) -> str:
    """Return the table as CSV, a row for each fold and class or region."""
    return csv_text(
        [
            {"fold": fold, "structure": name, **_plain(found)}
            for fold, row in rows.items()
            for name, found in row.dice.items()
        ]
    )


def _plain(found: MeanDice) -> dict[str, Any]:
    return {key: nan if value is None else value for key, value in found.model_dump().items()}


def _cell(found: MeanDice, usual: int) -> str:
    ends = _ends(found)
    return _mean_of(found, usual) + (f" ({ends})" if ends else "")


def _mean_of(found: MeanDice, usual: int) -> str:
    fewer = f" of {found.cases} cases" if 0 < found.cases < usual else ""
    return _shown(found.mean) + fewer


def _ends(found: MeanDice) -> str:
    return "" if found.low is None else f"{_shown(found.low)} to {_shown(found.high)}"


def _shown(value: float | None) -> str:
    return number(nan if value is None else value)


def _defined(value: float) -> float | None:
    # Rounding may lift an end a little above 1.
    return None if isnan(value) else min(1.0, max(0.0, value))
