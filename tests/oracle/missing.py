"""What a mean of HD95 says where structures are missed, by each rule for empty masks."""

from functools import cache

import numpy as np

from tests.oracle.masks import Pair
from tests.oracle.ours import scores
from vol3dseg.evaluation.empty_masks import EmptyRule
from vol3dseg.evaluation.judging import Judging
from vol3dseg.evaluation.scoring import Statistics, describe

CASES = 100
MISSED = (0, 10, 50, 90)
SHOWN: tuple[EmptyRule, ...] = ("undefined", "brats-2023", "diagonal")
OFF_MM = (2, 3, 4, 5, 6)  # as many cases each; who is furthest off is missed first
_SIDE = 40


def table() -> str:
    """Return the means, as Markdown."""
    heads = [f"`{rule}`" for rule in SHOWN]
    lines = [_line(["missed", "mean Dice", *heads]), _line(["---"] * (2 + len(heads)))]
    for missed in MISSED:
        dice = statistics("undefined", missed, "dice").mean
        means = [statistics(rule, missed, "hd95_mm") for rule in SHOWN]
        cells = [f"{found.mean:.2f} mm over {found.cases}" for found in means]
        lines.append(_line([f"{missed} of {CASES}", f"{dice:.2f}", *cells]))
    return "\n".join(lines)


def statistics(rule: EmptyRule, missed: int, score: str) -> Statistics:
    """Return a score over all cases of which so many are missed."""
    off = sorted(OFF_MM * (CASES // len(OFF_MM)), reverse=True)
    return describe(_case(rule, None if n < missed else mm)[score] for n, mm in enumerate(off))


@cache
def _case(rule: EmptyRule, off_mm: int | None) -> dict[str, float]:
    """Return the scores of a cube of 16 mm that is found so far off; None: missed."""
    reference = np.zeros((_SIDE,) * 3, dtype=np.bool_)
    reference[8:24, 8:24, 8:24] = True
    seen = np.zeros_like(reference) if off_mm is None else np.roll(reference, off_mm, axis=0)
    return scores(Pair(reference, seen, (1.0, 1.0, 1.0)), Judging(rule, surface="area"))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
