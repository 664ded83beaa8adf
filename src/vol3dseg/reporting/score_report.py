"""Tables of an evaluation, as Markdown and for the screen: scores per case, then pooled ones."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from vol3dseg.datasets.splits import PARTS, Split
from vol3dseg.evaluation.overlap import DICE, METRICS
from vol3dseg.evaluation.scoring import CaseScores, Statistics, Summary
from vol3dseg.evaluation.structure_scores import SCORES
from vol3dseg.files import remove_ours, write_text
from vol3dseg.reporting.document import Block, Heading, Table, markdown, number
from vol3dseg.reporting.matching import NOBODY, Cohort
from vol3dseg.reporting.score_files import CASES_NAME, SCORES_PAGE, SUMMARY_NAME, write_scores
from vol3dseg.reporting.shape_tables import interval, rules_in_words, shape_tables
from vol3dseg.space.intake import by_note
from vol3dseg.written import require_ours

PER_CASE = "Scores per case: mean ± standard deviation over cases [95 % interval of the mean]"
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


WHOLE = "all"  # stands for a part where cases are not divided


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of predictions, by part of a split: as far as they have any; "all" without a split."""

    cases: Mapping[str, tuple[CaseScores, ...]]
    summaries: Mapping[str, Summary]
    split: Split | None = None
    cohort: Cohort = NOBODY
    model_sha256: str | None = None  # of the model that a record says they are by

    @property
    def notes(self) -> tuple[str, ...]:
        """Who is scored and who is not; what was put right, or decided, when files were read."""
        return notes_of([case for of in self.cases.values() for case in of], self.cohort)

    @property
    def without_predictions(self) -> tuple[str, ...]:
        """Parts of the split that have cases but no prediction."""
        filled = [part for part in PARTS if self.split is not None and self.split.part(part)]
        return tuple(part for part in filled if part not in self.summaries)

    def cohort_of(self, part: str) -> Cohort:
        """Return who is scored of a part, and who is not."""
        return self.cohort.of(part, self.split.part(part)) if self.split else self.cohort


def write_evaluation(folder: Path, found: Evaluation) -> None:
    """Write `write_report`'s files; with a split those of each part, and summary.md over all."""
    for part, summary in found.summaries.items():
        of_part = folder if found.split is None else folder / part
        cohort = found.cohort_of(part)
        write_report(of_part, found.cases[part], summary, cohort, found.model_sha256)
    if found.split is None:
        return
    for name in (CASES_NAME, SUMMARY_NAME, SCORES_PAGE):  # of an evaluation without parts
        remove_ours(folder / name)
    write_text(folder / _MARKDOWN_NAME, parts_markdown(found))


def claim_report(folder: Path, parts: Sequence[str] | None) -> None:
    """Refuse to replace what is not ours, before anything is scored; see `write_evaluation`."""
    of_parts = [path for part in parts or () for path in report_paths(folder / part)]
    require_ours(of_parts + ([folder / _MARKDOWN_NAME] if of_parts else report_paths(folder)))


def report_paths(folder: Path) -> list[Path]:
    """Return what `write_report` writes, and the page that `evaluate` adds."""
    return [folder / name for name in (CASES_NAME, SUMMARY_NAME, _MARKDOWN_NAME, SCORES_PAGE)]


def write_report(
    folder: Path,
    cases: Sequence[CaseScores],
    summary: Summary,
    cohort: Cohort = NOBODY,
    model_sha256: str | None = None,
) -> None:
    """Write cases.csv, summary.json and summary.md into `folder`, each atomically.

    A page of other scores is removed.
    """
    remove_ours(folder / SCORES_PAGE)
    notes = notes_of(cases, cohort)
    tracebacks = {case: why.traceback for case, why in cohort.failed.items() if why.traceback}
    facts = {
        "model_sha256": model_sha256,
        "not_scored": cohort.not_scored,
        "parts": cohort.parts,
        "notes": notes,
        "tracebacks": tracebacks,
    }
    write_scores(folder, cases, summary, facts)
    blocks: list[Block] = [
        *notes,
        _summary_table(summary),
        *shape_tables(cases, summary),
        f"The column of cases counts those that define Dice; means over fewer have their number "
        "beside them. Intervals are of 95 %, by bootstrap over subjects. "
        f"{rules_in_words(summary)}",
        *_pooled_section({"value": summary}),
    ]
    title = f"Scores over {cases_in_words(summary.cases, len(cohort.not_scored))}"
    write_text(folder / _MARKDOWN_NAME, markdown(title, blocks))


def notes_of(cases: Sequence[CaseScores], cohort: Cohort) -> tuple[str, ...]:
    """Return who is scored and who is not, and what was noted when files were read."""
    read = by_note({case.case_id: case.notes for case in cases}, len(cases))
    some = [case.ignored_ml for case in cases if case.ignored_ml]
    words = f"{sum(some):.4g} ml in {len(some)} of {len(cases)} cases"
    ignored = [f"Not judged, as labels.ignore says: {words}"] if some else []
    unseen = Counter(name for case in cases for name in case.unannotated)
    partial = [
        f"Nobody has looked for {name} in {n} of {len(cases)} references: its scores, and those of "
        "regions with it, rest on the others"
        for name, n in unseen.items()
    ]
    return (*cohort.in_words(len(cases)), *ignored, *partial, *read)


def cases_in_words(scored: int, missing: int) -> str:
    """Return "5 cases", "1 case" or "3 of 5 cases"."""
    total = scored + missing
    return f"{f'{scored} of ' * bool(missing)}{total} case{'s' * (total != 1)}"


def parts_markdown(found: Evaluation) -> str:
    """Return the tables with a column for each part, as Markdown."""
    first = next(iter(found.summaries.values()))
    folders = ", ".join(f"{part}/" for part in found.summaries)
    blocks: list[Block] = [
        f"Without predictions, hence left out: {', '.join(found.without_predictions)}. A folder of "
        "that name is of another evaluation."
        if found.without_predictions
        else "",
        *found.notes,
        Heading(PER_CASE),
        case_table(found),
        f"{rules_in_words(first)} Each case and more scores: {folders}.",
        *_pooled_section(found.summaries),
    ]
    return markdown("Scores by part of the split", blocks)


def case_table(found: Evaluation) -> Table:
    """Return scores per case, a column for each part, with how many cases of it are scored."""
    summaries = found.summaries.values()
    counts = (
        f"{s.cases} of {s.cases + len(missing)}" if missing else str(s.cases)
        for part, s in found.summaries.items()
        for missing in [found.cohort_of(part).not_scored]
    )
    rows = [("cases", *counts)]
    for name in next(iter(summaries)).names:
        found_dice = ((s.statistics[name][DICE.name], s.cases) for s in summaries)
        each = (f"{mean_and_std(dice, cases)}{interval(dice)}" for dice, cases in found_dice)
        rows.append((f"{DICE.title}, {name}", *each))
    known = next(iter(summaries)).mean_foreground
    for score in (each for each in SCORES if each.name in known):
        means = (_mean_of_classes(summary, score.name) for summary in summaries)
        rows.append((f"{score.title}, mean of classes", *means))
    return Table(("score", *found.summaries), tuple(rows))


def pooled_table(summaries: Mapping[str, Summary]) -> Table:
    """Return pooled scores, a column for each summary."""
    names = next(iter(summaries.values())).pooled
    cases = ("cases", *(str(summary.cases) for summary in summaries.values()))
    rows = ((name, *(number(s.pooled[name]) for s in summaries.values())) for name in names)
    return Table(("pooled score", *summaries), (cases, *rows))


def mean_and_std(found: Statistics, usual: int | None = None) -> str:
    """Return mean ± standard deviation, and the number of cases unless it is the usual one."""
    spread = "" if isnan(found.std) else f" ± {number(found.std)}"
    return number(found.mean) + spread + _count(found.cases, usual)


def _mean_of_classes(summary: Summary, metric: str) -> str:
    """Return the mean over classes of their means, with the number of classes where some lack."""
    defined = sum(summary.statistics[name][metric].cases > 0 for name in summary.foreground)
    of_all = len(summary.foreground)
    fewer = f" ({defined} of {of_all} classes)" if defined < of_all else ""
    return number(summary.mean_foreground[metric]) + fewer


def _count(cases: int, usual: int | None) -> str:
    return "" if cases == usual else f" ({cases})"


def _summary_table(summary: Summary) -> Table:
    _, *others = METRICS
    rows = []
    for name, found in summary.statistics.items():
        dice = found[DICE.name]
        of_others = (found[metric.name] for metric in others)
        means = [number(each.mean) + _count(each.cases, dice.cases) for each in of_others]
        shown = (
            str(dice.cases),
            f"{mean_and_std(dice, dice.cases)}{interval(dice)}",
            number(dice.median),
        )
        rows.append((name, *shown, *means))
    mean, *means = (_mean_of_classes(summary, metric.name) for metric in METRICS)
    rows.append(("mean of foreground classes", "", mean, "", *means))
    columns = ("class or region", "cases", "Dice (mean ± std, interval)", "Dice (median)")
    bold = frozenset({(len(rows) - 1, 0)})
    return Table((*columns, *(metric.title for metric in others)), tuple(rows), bold)


def _pooled_section(summaries: Mapping[str, Summary]) -> list[Block]:
    return [Heading(POOLED), f"{POOLED_FROM} {NOT_COMPARABLE}", pooled_table(summaries)]
