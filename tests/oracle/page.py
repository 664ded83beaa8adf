"""The tables in docs/metrics.md that are made of what tests compare: `make oracle` writes them."""

import re
from collections.abc import Iterable
from itertools import groupby
from math import inf, isnan
from pathlib import Path

from tests.oracle import missing
from tests.oracle.masks import PAIRS
from tests.oracle.rows import EMPTY_ROWS, FOREIGN, LOCAL, Row
from vol3dseg.evaluation.empty_masks import RULES
from vol3dseg.evaluation.lesions import LESION_RULES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
ROWS = [*FOREIGN, *LOCAL]
ELSEWHERE = (
    ("areas of the surface between eight voxels, 256 ways", "surface-distance"),
    ("95 % interval of a mean, from the same draws", "SciPy `stats.bootstrap`, BCa"),
)


def same() -> str:
    """Return which scores are the same, and where."""
    rows = sorted((row for row in ROWS if not row.differs), key=lambda row: row.score.lower())
    lines = [_line("score", "is the same number from"), _line("---", "---")]
    for score, group in groupby(rows, key=lambda row: row.score):
        lines.append(_line(score, _named(group)))
    return "\n".join([*lines, *(_line(*each) for each in ELSEWHERE)])


def different() -> str:
    """Return which are not, and why."""
    lines = [_line("score", "another number from", "which is"), _line("---", "---", "---")]
    for why, group in groupby((row for row in ROWS if row.differs), key=lambda row: row.differs):
        rows = [*group]
        lines.append(_line(", ".join(row.score for row in rows), _named(rows), why))
    return "\n".join(lines)


def empty() -> str:
    """Return what others say of structures that are missing."""
    heads = ("", "neither has it", "prediction empty", "reference empty")
    lines = [_line(*heads), _line(*["---"] * 4)]
    for row in EMPTY_ROWS:
        said = map(_value, (row.neither, row.missed, row.invented))
        lines.append(_line(f"{row.oracle} `{row.theirs}`", *said))
    return "\n".join(lines)


def rules() -> str:
    """Return the rules for empty masks by name."""
    heads = ("Dice", "IoU, precision, sensitivity", "distances", "surface Dice")
    titles = [*(f"neither has it: {head}" for head in heads), "only one has it: distances"]
    lines = [_line("`--empty`", *titles)]
    lines.append(_line(*["---"] * 6))
    for name, rule in RULES.items():
        numbers = (rule.dice, rule.overlap, rule.distance_mm, rule.surface_dice)
        missed = "the diagonal" if rule.missed_mm == inf else _value(rule.missed_mm)
        lines.append(_line(f"`{name}`", *map(_value, numbers), missed))
    return "\n".join(lines)


def presets() -> str:
    """Return the rules for lesions by name."""
    heads = ("`--lesions`", "dilations", "smallest volume judged is above", "neighbours")
    lines = [_line(*heads), _line(*["---"] * 4)]
    for name, rule in LESION_RULES.items():
        volume = f"{rule.smallest_mm3:g} mm^3"
        lines.append(_line(f"`{name}`", f"{rule.dilation}", volume, f"{rule.connectivity}"))
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with its tables made anew."""
    tables = {
        "same": same(), "different": different(), "empty": empty(), "rules": rules(),
        "lesions": presets(), "missing": missing.table(), "pairs": f"{len(PAIRS)} pairs of masks",
    }  # fmt: skip
    for name, table in tables.items():
        marks = rf"(?s)(<!-- {name} -->).*?(<!-- end -->)"
        gap = "\n" if "\n" in table else ""
        text, count = re.subn(marks, rf"\g<1>{gap}{table}{gap}\g<2>", text)
        assert count == 1, name
    return text


def _named(rows: Iterable[Row]) -> str:
    said = []
    for (oracle, pairs), group in groupby(rows, key=lambda row: (row.oracle, row.pairs)):
        names = ", ".join(f"`{row.shown or row.theirs}`" for row in group)
        said.append(f"{oracle} {names}" + (f" ({pairs})" if pairs else ""))
    return ", ".join(said)


def _value(number: float | None) -> str:
    return "refused" if number is None else "undefined" if isnan(number) else f"{number:g}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
