"""What is written of scores: CSV for machines, JSON for programs, Markdown for people.

Scores per case come first, then the pooled ones under names of their own, so that nobody takes one
for the other.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vol3dseg.datasets.splits import PARTS, Split
from vol3dseg.evaluation.overlap import DICE, EMPTY_RULES, METRICS
from vol3dseg.evaluation.scoring import CaseScores, Statistics, Summary
from vol3dseg.files import write_text
from vol3dseg.reporting.document import Block, Heading, Table, markdown, number
from vol3dseg.reporting.score_files import CASES_NAME, SUMMARY_NAME, write_scores

PER_CASE = "Scores per case: mean ± standard deviation over cases"
POOLED = "Pooled scores: of all voxels of all cases at once, background included"
POOLED_FROM = (
    "They come from one confusion matrix over all voxels of all cases; their means run over all "
    "classes, background included, except those that no case has."
)
NOT_COMPARABLE = (
    "Pooled scores are not comparable with scores per case, nor with the literature: large cases "
    "weigh more, and the background's scores near 1 lift the means."
)
_MARKDOWN_NAME = "summary.md"


def write_report(folder: Path, cases: Sequence[CaseScores], summary: Summary) -> None:
    """Write cases.csv, summary.json and summary.md into `folder`, each atomically.

    Undefined values are empty in CSV, null in JSON and a dash in Markdown.
    """
    write_scores(folder, cases, summary)
    title = f"Scores over {summary.cases} case{'s' * (summary.cases != 1)}"
    blocks: list[Block] = [
        _summary_table(summary),
        f"The column of cases counts those that define Dice. {EMPTY_RULES[summary.empty]}",
        *_pooled_section({"value": summary}),
    ]
    write_text(folder / _MARKDOWN_NAME, markdown(title, blocks))


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
    for name in (CASES_NAME, SUMMARY_NAME):  # of an evaluation without parts
        (folder / name).unlink(missing_ok=True)
    write_text(folder / _MARKDOWN_NAME, parts_markdown(summaries, split))


def parts_markdown(summaries: Mapping[str, Summary], split: Split) -> str:
    """Return the tables with a column for each part, as Markdown."""
    first = next(iter(summaries.values()))
    missing = ", ".join(without_predictions(summaries, split))
    folders = ", ".join(f"{part}/" for part in summaries)
    left_out = (
        f"Without predictions, hence left out: {missing}. A folder of that name is of another "
        "evaluation."
    )
    blocks: list[Block] = [
        left_out if missing else "",
        Heading(PER_CASE),
        case_table(summaries, split),
        f"{EMPTY_RULES[first.empty]} Each case and more scores: {folders}.",
        *_pooled_section(summaries),
    ]
    return markdown("Scores by part of the split", blocks)


def without_predictions(summaries: Mapping[str, Summary], split: Split | None) -> list[str]:
    """Return the parts that have cases but no summary."""
    if split is None:
        return []
    return [part for part in PARTS if split.part(part) and part not in summaries]


def case_table(summaries: Mapping[str, Summary], split: Split | None = None) -> Table:
    """Return scores per case, a column for each summary.

    Parameters
    ----------
    summaries : mapping from part to Summary
        All of the same classes.
    split : Split or None
        Says how many cases each part has, with or without a prediction.
    """
    each = summaries.values()
    counts = (
        f"{summary.cases} of {len(split.part(part))}" if split else str(summary.cases)
        for part, summary in summaries.items()
    )
    rows = [("cases", *counts)]
    for name in next(iter(each)).names:
        found = (mean_and_std(summary.statistics[name][DICE.name]) for summary in each)
        rows.append((f"{DICE.title}, {name}", *found))
    for metric in METRICS:
        means = (number(summary.mean_foreground[metric.name]) for summary in each)
        rows.append((f"{metric.title}, mean of classes", *means))
    return Table(("score", *summaries), tuple(rows))


def pooled_table(summaries: Mapping[str, Summary]) -> Table:
    """Return pooled scores, a column for each summary."""
    names = next(iter(summaries.values())).pooled
    rows = ((name, *(number(s.pooled[name]) for s in summaries.values())) for name in names)
    return Table(("pooled score", *summaries), tuple(rows))


def mean_and_std(found: Statistics) -> str:
    """Return mean ± standard deviation."""
    return f"{number(found.mean)} ± {number(found.std)}"


def _summary_table(summary: Summary) -> Table:
    others = METRICS[1:]
    rows = []
    for name in summary.names:
        found = summary.statistics[name]
        dice = found[DICE.name]
        means = [number(found[metric.name].mean) for metric in others]
        rows.append((name, str(dice.cases), mean_and_std(dice), number(dice.median), *means))
    first, *means = (number(summary.mean_foreground[metric.name]) for metric in METRICS)
    rows.append(("mean of foreground classes", "", first, "", *means))
    columns = ("class or region", "cases", "Dice (mean ± std)", "Dice (median)")
    bold = frozenset({(len(rows) - 1, 0)})
    return Table((*columns, *(metric.title for metric in others)), tuple(rows), bold)


def _pooled_section(summaries: Mapping[str, Summary]) -> list[Block]:
    return [Heading(POOLED), f"{POOLED_FROM} {NOT_COMPARABLE}", pooled_table(summaries)]
