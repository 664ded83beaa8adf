"""Tables of an evaluation, as Markdown and for the screen: scores per case, then pooled ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of predictions, by part of a split: as far as they have any; "all" without a split."""

    cases: Mapping[str, tuple[CaseScores, ...]]
    summaries: Mapping[str, Summary]
    split: Split | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was put right, or decided, when files were read, with the case."""
        scores = (case for of_part in self.cases.values() for case in of_part)
        return tuple(f"case {case.case_id}: {note}" for case in scores for note in case.notes)

    @property
    def without_predictions(self) -> tuple[str, ...]:
        """Parts of the split that have cases but no prediction."""
        filled = [part for part in PARTS if self.split is not None and self.split.part(part)]
        return tuple(part for part in filled if part not in self.summaries)


def write_evaluation(folder: Path, found: Evaluation) -> None:
    """Write `write_report`'s files; with a split those of each part, and summary.md over all."""
    for part, summary in found.summaries.items():
        of_part = folder if found.split is None else folder / part
        write_report(of_part, found.cases[part], summary)
    if found.split is None:
        return
    for name in (CASES_NAME, SUMMARY_NAME):  # of an evaluation without parts
        (folder / name).unlink(missing_ok=True)
    write_text(folder / _MARKDOWN_NAME, parts_markdown(found))


def write_report(folder: Path, cases: Sequence[CaseScores], summary: Summary) -> None:
    """Write cases.csv, summary.json and summary.md into `folder`, each atomically."""
    write_scores(folder, cases, summary)
    title = f"Scores over {summary.cases} case{'s' * (summary.cases != 1)}"
    blocks: list[Block] = [
        _summary_table(summary),
        f"The column of cases counts those that define Dice. {EMPTY_RULES[summary.empty]}",
        *_pooled_section({"value": summary}),
    ]
    write_text(folder / _MARKDOWN_NAME, markdown(title, blocks))


def parts_markdown(found: Evaluation) -> str:
    """Return the tables with a column for each part, as Markdown."""
    first = next(iter(found.summaries.values()))
    folders = ", ".join(f"{part}/" for part in found.summaries)
    blocks: list[Block] = [
        f"Without predictions, hence left out: {', '.join(found.without_predictions)}. A folder of "
        "that name is of another evaluation."
        if found.without_predictions
        else "",
        Heading(PER_CASE),
        case_table(found),
        f"{EMPTY_RULES[first.empty]} Each case and more scores: {folders}.",
        *_pooled_section(found.summaries),
    ]
    return markdown("Scores by part of the split", blocks)


def case_table(found: Evaluation) -> Table:
    """Return scores per case, a column for each part, with how many cases of it are scored."""
    summaries = found.summaries.values()
    counts = (
        f"{summary.cases} of {len(found.split.part(part))}" if found.split else str(summary.cases)
        for part, summary in found.summaries.items()
    )
    rows = [("cases", *counts)]
    for name in next(iter(summaries)).names:
        each = (mean_and_std(summary.statistics[name][DICE.name]) for summary in summaries)
        rows.append((f"{DICE.title}, {name}", *each))
    for metric in METRICS:
        means = (number(summary.mean_foreground[metric.name]) for summary in summaries)
        rows.append((f"{metric.title}, mean of classes", *means))
    return Table(("score", *found.summaries), tuple(rows))


def pooled_table(summaries: Mapping[str, Summary]) -> Table:
    """Return pooled scores, a column for each summary."""
    names = next(iter(summaries.values())).pooled
    rows = ((name, *(number(s.pooled[name]) for s in summaries.values())) for name in names)
    return Table(("pooled score", *summaries), tuple(rows))


def mean_and_std(found: Statistics) -> str:
    """Return mean ± standard deviation."""
    return f"{number(found.mean)} ± {number(found.std)}"


def _summary_table(summary: Summary) -> Table:
    _, *others = METRICS
    rows = []
    for name, found in summary.statistics.items():
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
