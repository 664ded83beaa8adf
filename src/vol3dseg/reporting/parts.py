"""Scores by part of a split: training, validation and test side by side.

Two tables, in this order: scores per case, then the pooled ones under their own names, so that
nobody takes one for the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vol3dseg.datasets.splits import PARTS, Split
from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.overlap import EMPTY_RULES
from vol3dseg.evaluation.scoring import METRICS, CaseScores, Summary
from vol3dseg.files import write_text
from vol3dseg.reporting.score_report import cell, number, write_report

PER_CASE = "Scores per case: mean ± standard deviation over cases"
POOLED = "Pooled scores: of all voxels of all cases at once, background included"
_SHOWN = {"dice": "Dice", "iou": "IoU"}
NOT_COMPARABLE = (
    "Pooled scores are not comparable with scores per case, nor with the literature: large cases "
    "weigh more, and the background's scores near 1 lift the means."
)


def group_by_part(cases: Sequence[str], split: Split, source: str) -> dict[str, tuple[str, ...]]:
    """Return which of the cases are in which part; parts without any are left out.

    Parameters
    ----------
    cases : sequence of str
        Those that have a prediction.
    split : Split
    source : str
        Where the split comes from, for the message.

    Returns
    -------
    mapping from part to tuple of str
        Parts in the order train, validation, test; cases in the order given.

    Raises
    ------
    EvaluationError
        A case is in no part; all such are named.
    """
    part_of = {case: part for part in PARTS for case in split.part(part)}
    stray = [case for case in cases if case not in part_of]
    if stray:
        raise EvaluationError(
            f"{source}: predictions that are in no part: {', '.join(stray)}; give the split that "
            "they were made by, or evaluate without --split"
        )
    groups = {part: tuple(c for c in cases if part_of[c] == part) for part in PARTS}
    return {part: names for part, names in groups.items() if names}


def write_parts(
    folder: Path,
    cases: Mapping[str, Sequence[CaseScores]],
    summaries: Mapping[str, Summary],
    split: Split,
) -> None:
    """Write `folder/<part>/` with the report of each part, and `folder/summary.md` over them.

    Parameters
    ----------
    folder : Path
    cases, summaries : mapping from part to its scores
        A part that is not there has no predictions; that is said.
    split : Split
    """
    for part, scores in cases.items():
        write_report(folder / part, scores, summaries[part])
    for name in ("cases.csv", "summary.json"):  # of an evaluation without parts
        (folder / name).unlink(missing_ok=True)
    write_text(folder / "summary.md", parts_markdown(summaries, split))


def parts_markdown(summaries: Mapping[str, Summary], split: Split) -> str:
    """Return the two tables with a column for each part, as Markdown."""
    first = next(iter(summaries.values()))
    missing = without_predictions(summaries, split)
    left_out = [
        f"Without predictions, hence left out: {', '.join(missing)}. "
        "A folder of that name is of another evaluation.",
        "",
    ]
    lines = [
        "# Scores by part of the split",
        "",
        *(left_out if missing else []),
        f"## {PER_CASE}",
        "",
        *_table("score", summaries, case_rows(summaries, split)),
        "",
        f"{EMPTY_RULES[first.empty]} Each case and more scores: "
        f"{', '.join(f'{part}/' for part in summaries)}.",
        "",
        f"## {POOLED}",
        "",
        f"{NOT_COMPARABLE} Classes that no case of a part has are left out.",
        "",
        *_table("pooled score", summaries, pooled_rows(summaries)),
        "",
    ]
    return "\n".join(lines)


def without_predictions(summaries: Mapping[str, Summary], split: Split | None) -> list[str]:
    """Return the parts that have cases but no summary."""
    if split is None:
        return []
    return [part for part in PARTS if split.part(part) and part not in summaries]


def case_rows(summaries: Mapping[str, Summary], split: Split | None = None) -> list[list[str]]:
    """Return the rows of the table per case: a name, then a cell for each summary.

    Parameters
    ----------
    summaries : mapping from part to Summary
        All of the same classes.
    split : Split or None
        Says how many cases each part has, with or without a prediction.
    """
    names = next(iter(summaries.values())).names
    counts = {
        part: f"{summary.cases} of {len(split.part(part))}" if split else str(summary.cases)
        for part, summary in summaries.items()
    }
    rows = [["cases", *counts.values()]]
    for name in names:
        spreads = [summary.spreads[name]["dice"] for summary in summaries.values()]
        rows.append([f"Dice, {name}", *(f"{number(s.mean)} ± {number(s.std)}" for s in spreads)])
    for metric in METRICS:
        means = [summary.mean_foreground[metric] for summary in summaries.values()]
        rows.append([f"{_SHOWN.get(metric, metric)}, mean of classes", *map(number, means)])
    return rows


def pooled_rows(summaries: Mapping[str, Summary]) -> list[list[str]]:
    """Return the rows of the pooled table: a name, then a cell for each summary."""
    names = next(iter(summaries.values())).pooled
    return [[name, *(number(s.pooled[name]) for s in summaries.values())] for name in names]


def _table(corner: str, columns: Iterable[str], rows: list[list[str]]) -> list[str]:
    lines = [[corner, *columns], *rows]
    head, *body = (f"| {' | '.join(map(cell, line))} |" for line in lines)
    return [head, "|---|" + "---:|" * (len(lines[0]) - 1), *body]
