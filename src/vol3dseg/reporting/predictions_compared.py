"""Several sets of predictions, scored on the same cases, against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import isnan
from pathlib import Path
from typing import Any

from vol3dseg.errors import EvaluationError, some_of
from vol3dseg.evaluation.overlap import DICE
from vol3dseg.evaluation.scoring import CaseScores, structures_of
from vol3dseg.evaluation.structure_scores import HD95, SCORES, SURFACE_DICE
from vol3dseg.files import write_json, write_text
from vol3dseg.reporting.comparison.comparison_tables import probability, signed
from vol3dseg.reporting.comparison.paired_differences import (
    Difference,
    holm_adjusted,
    paired_differences,
    require_statistics,
)
from vol3dseg.reporting.document import Block, Heading, Table, html, markdown, number
from vol3dseg.reporting.evaluation_page.compared_page import Tables, page
from vol3dseg.reporting.score_files import CASE_MEAN, without_nan
from vol3dseg.reporting.score_report import Evaluation
from vol3dseg.reporting.shape_tables import interval, rules_in_words
from vol3dseg.written import require_ours

MARKDOWN_NAME, JSON_NAME, PAGE_NAME = "comparison.md", "comparison.json", "comparison.html"
COMPARED = (DICE.name, HD95, SURFACE_DICE, "lesion_dice", "lesion_hd95_mm")
_TITLES = {score.name: score.title for score in SCORES}
_HOW = (
    "Differences are of the first minus the second, in each case that defines both: mean and 95 % "
    "interval by bootstrap over subjects; p of Wilcoxon's signed-rank test, two-sided, and "
    "adjusted for all tests of the table by Holm. docs/compare.md says how to read them."
)


@dataclass(frozen=True, slots=True)
class PairedScores:
    """How one score differs between two sets of predictions."""

    part: str
    first: str
    second: str
    score: str
    differences: tuple[Difference, ...]  # by class, by region, and of the mean over classes


@dataclass(frozen=True, slots=True)
class PredictionComparison:
    """Several evaluations by the same references and rules, and how each two differ."""

    evaluations: Mapping[str, Evaluation]
    pairs: tuple[PairedScores, ...]


def compare_evaluations(
    evaluations: Mapping[str, Evaluation], output: str | Path | None = None
) -> PredictionComparison:
    """Compare several sets of predictions, each two of them case by case.

    Needs the extra [report].

    Parameters
    ----------
    evaluations : mapping from str to Evaluation
        At least two, by what they are called: made by `vol3dseg.evaluate` from the same references,
        by the same rules, over the same cases.
    output : str, Path or None
        A folder for comparison.html, comparison.md and comparison.json; None writes nothing.

    Returns
    -------
    PredictionComparison

    Raises
    ------
    EvaluationError
        There are fewer than two, or they were not judged alike.
    MissingExtraError
        SciPy is not installed.
    OutputError
        The folder cannot be written.
    """
    require_statistics()
    _require_alike(evaluations)
    found: list[PairedScores] = []
    for part in next(iter(evaluations.values())).cases:
        for (first, one), (second, other) in combinations(evaluations.items(), 2):
            found += _paired(part, (first, second), (one.cases[part], other.cases[part]))
    adjusted = iter(holm_adjusted([d for pair in found for d in pair.differences]))
    pairs = tuple(
        PairedScores(
            pair.part,
            pair.first,
            pair.second,
            pair.score,
            tuple(next(adjusted) for _ in pair.differences),
        )
        for pair in found
    )
    comparison = PredictionComparison(evaluations, pairs)
    if output is not None:
        write_comparison(Path(output), comparison)
    return comparison


def names_of(folders: Sequence[Path]) -> dict[str, Path]:
    """Return what folders are called: by as many of the last parts of their paths as tell apart."""
    whole = [folder.resolve() for folder in folders]
    for parts in range(1, max(len(path.parts) for path in whole)):
        names = ["-".join(path.parts[-parts:]) for path in whole]
        if len({*names}) == len(names):
            return dict(zip(names, folders, strict=True))
    raise EvaluationError(
        "a folder of predictions is given twice",
        where=some_of([str(folder) for folder in folders]),
        remedy="name each once",
    )


def claim_comparison(folder: Path) -> None:
    """Refuse to replace what is not ours, before anything is scored."""
    require_ours(folder / name for name in (MARKDOWN_NAME, JSON_NAME, PAGE_NAME))


def write_comparison(folder: Path, found: PredictionComparison) -> None:
    """Write comparison.json, comparison.md and comparison.html."""
    data = {
        "format": "vol3dseg.prediction-comparison",
        "version": 2,
        "predictions": {name: each.model_sha256 for name, each in found.evaluations.items()},
        "pairs": [asdict(pair) for pair in found.pairs],
    }
    write_json(folder / JSON_NAME, without_nan(data))
    write_text(folder / MARKDOWN_NAME, markdown("Comparison of predictions", blocks(found)))
    tables = {
        part: Tables(
            html([mean_table(found, part), rules_in_words(summary)]),
            html([difference_table(found, part), _HOW]),
        )
        for part, summary in next(iter(found.evaluations.values())).summaries.items()
    }
    write_text(folder / PAGE_NAME, page(found, tables))


def blocks(found: PredictionComparison) -> list[Block]:
    """Return what a comparison says: means of each, then the differences of each two."""
    first = next(iter(found.evaluations.values()))
    made: list[Block] = []
    for part, summary in first.summaries.items():
        if len(first.summaries) > 1:
            made.append(Heading(f"Part {part}"))
        made += [mean_table(found, part), rules_in_words(summary), difference_table(found, part)]
    return [*made, _HOW]


def mean_table(found: PredictionComparison, part: str) -> Table:
    """Return the mean of each score with its interval, a column for each set of predictions."""
    summaries = {name: each.summaries[part] for name, each in found.evaluations.items()}
    first = next(iter(summaries.values()))
    rows = []
    for score in COMPARED:
        for name in first.names:
            if score not in first.statistics[name]:
                continue
            each = [summary.statistics[name][score] for summary in summaries.values()]
            cells = (f"{number(s.mean)}{interval(s)} ({s.cases})" for s in each)
            rows.append((_TITLES[score], name, *cells))
    return Table(("score", "class or region", *summaries), tuple(rows), text_columns=2)


def difference_table(found: PredictionComparison, part: str, brief: bool = False) -> Table:
    """Return the differences of all pairs; an interval that excludes 0 is bold.

    `brief` shows the mean over classes alone, or the only class.
    """
    columns = ("predictions", "score", "class", "cases", "mean difference", "95 % interval", "p")
    rows: list[tuple[str, ...]] = []
    bold = set()
    for pair in (each for each in found.pairs if each.part == part):
        for d in pair.differences[-1 if brief else 0 :]:
            if d.excludes_zero:
                bold.add((len(rows), columns.index("95 % interval")))
            ends = "-" if isnan(d.low) else f"{signed(d.low)} to {signed(d.high)}"
            names = f"{pair.first} - {pair.second}", _TITLES[pair.score], d.structure
            ps = map(probability, (d.p, d.p_holm))
            rows.append((*names, str(d.cases), signed(d.mean), ends, *ps))
    return Table((*columns, "p (Holm)"), tuple(rows), frozenset(bold), text_columns=3)


def _paired(
    part: str, names: tuple[str, str], both: tuple[Sequence[CaseScores], Sequence[CaseScores]]
) -> list[PairedScores]:
    subjects = {case.case_id: case.subject or case.case_id for case in both[0]}
    first = both[0][0]
    # A region of one class says nothing new, and would count as a test of its own.
    members = structures_of(first.labels)
    distinct = [n for n, of in members.items() if n == next(m for m in members if members[m] == of)]
    found = []
    for score in (each for each in COMPARED if each in next(iter(first.structures.values()))):
        one, other = (
            {name: {c.case_id: c.structures[name][score] for c in cases} for name in distinct}
            for cases in both
        )
        every = [paired_differences(one, other, distinct, subjects=subjects)]
        classes = list(first.labels.foreground)
        if len(classes) > 1:
            mean = paired_differences(one, other, [*classes, CASE_MEAN], subjects=subjects)[-1:]
            every.append(mean)
        found.append(PairedScores(part, *names, score, tuple(d for of in every for d in of)))
    return found


def _require_alike(evaluations: Mapping[str, Evaluation]) -> None:
    if len(evaluations) < 2:
        raise EvaluationError(
            f"{len(evaluations)} set of predictions cannot be compared",
            expected="at least two",
            remedy="give more folders of predictions",
        )
    (name, first), *others = evaluations.items()
    known = _judged(first)
    for other, each in others:
        differing = sorted(
            {case for case, _ in known.keys() ^ _judged(each).keys()}
            | {
                case
                for (case, part), how in known.items()
                if _judged(each).get((case, part)) != how
            }
        )
        if differing:
            raise EvaluationError(
                f"{name} and {other} were not judged alike: {some_of(differing)}",
                expected="the same cases, references, classes and rules",
                remedy="evaluate all against one data set; leave out cases that one of them lacks",
            )


def _judged(found: Evaluation) -> dict[tuple[str, str], Any]:
    """Return of each case by what it was judged."""
    return {
        (case.case_id, part): (case.reference, case.judging, tuple(case.structures))
        for part, cases in found.cases.items()
        for case in cases
    }
