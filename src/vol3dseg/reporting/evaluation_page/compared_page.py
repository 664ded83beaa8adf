"""The page of several sets of predictions: how each scores, how each two differ, case by case."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, NamedTuple

from vol3dseg import __version__
from vol3dseg.evaluation.scoring import CaseScores
from vol3dseg.evaluation.structure_scores import SCORES
from vol3dseg.reporting.document import html
from vol3dseg.reporting.evaluation_page.score_charts import Row, named_values, strip_chart
from vol3dseg.reporting.evaluation_page.score_overview import STRIPS
from vol3dseg.reporting.evaluation_page.scores_page import (
    case_section,
    digits_of,
    page_of,
    shortened,
)
from vol3dseg.reporting.svg import INK, Axis, Chart
from vol3dseg.reporting.wording import facts_table

if TYPE_CHECKING:
    from vol3dseg.reporting.predictions_compared import PairedScores, PredictionComparison

_ROW, _AROUND, _WIDTH = 26, 56, 590  # height of a row, of what is around all; width [px]
_SCORES = {score.name: score for score in SCORES}
_INTERVALS = (
    "A dot is the mean difference over cases that define both, its line the 95 % interval by "
    "bootstrap over subjects; numbers, with p, show under the mouse and stand in the table below. "
    "Coloured where the interval excludes 0. Of distances in mm, below 0 is better for the first."
)


class Tables(NamedTuple):
    """What is said of a part in tables, as HTML."""

    means: str
    differences: str


def page(found: "PredictionComparison", tables: Mapping[str, Tables]) -> str:
    """Return the whole HTML page; `tables` are by part, "all" without a split."""
    parts = list(tables)
    scores = list(dict.fromkeys(pair.score for pair in found.pairs))
    sections = []
    for number, part in enumerate(parts):
        of_part, key = ("", "") if len(parts) == 1 else (f", part {part}", str(number))
        sections += [
            f'<h2 id="means{key}">Means{escape(of_part)}</h2>{tables[part].means}',
            f'<h2 id="differences{key}">Differences{escape(of_part)}</h2>{html([_INTERVALS])}'
            + _charts([_differences(pair) for pair in found.pairs if pair.part == part])
            + tables[part].differences,
            f'<h2 id="distributions{key}">Distributions{escape(of_part)}</h2>{html([STRIPS])}'
            + _distributions(found, part, scores),
        ]
    sections += [case_section(_data(found, scores)), _provenance(found)]
    notes = dict.fromkeys(note for each in found.evaluations.values() for note in each.notes)
    title = f"Comparison of predictions: {', '.join(found.evaluations)}"
    return page_of(title, html(list(notes)), sections)


def _charts(charts: Sequence[str]) -> str:
    figures = "".join(f"<figure>{chart}</figure>" for chart in charts if chart)
    return f'<div class="charts">{figures}</div>'


def _differences(pair: "PairedScores") -> str:
    """Return a chart with a row for each structure; empty where nothing is defined."""
    rows = [d for d in pair.differences if isfinite(d.mean)]
    if not rows:
        return ""
    title, ends = _SCORES[pair.score].title, [v for d in rows for v in (d.mean, d.low, d.high)]
    x = Axis.over(f"{title}: {pair.first} − {pair.second}", [0.0, *ends])
    y = Axis.of_names("", [d.structure for d in reversed(rows)])
    size = (_WIDTH, _ROW * len(rows) + _AROUND)
    chart = Chart(f"Mean differences of {title}: {pair.first} − {pair.second}", x, y, size)
    chart.line([(0.0, y.low), (0.0, y.high)], INK, "thin")
    for place, d in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
        colour = "var(--accent)" if d.excludes_zero else INK
        said = f"{d.structure}: {d.mean:+.4g} over {d.cases} cases"
        if isfinite(d.low):
            said += f", 95 % interval {d.low:+.4g} to {d.high:+.4g}, p {d.p:.3g}"
            if d.low < d.high:
                chart.line([(d.low, place), (d.high, place)], colour)
        chart.dot(d.mean, place, colour, 4.5, said)
    return chart.svg()


def _distributions(found: "PredictionComparison", part: str, scores: Sequence[str]) -> str:
    """Return a chart for each structure and score, with a row for each set of predictions."""
    first = next(iter(found.evaluations.values())).summaries[part]
    shown = []
    for structure in first.names:
        charts = []
        for score in (_SCORES[name] for name in scores):
            rows = [
                Row(
                    name,
                    named_values(each.cases[part], structure, score.name),
                    each.summaries[part].statistics[structure][score.name],
                )
                for name, each in found.evaluations.items()
            ]
            title = f"{score.title} of {structure} in each case, by predictions"
            charts.append(strip_chart(title, score, rows, first.cases))
        shown.append(f"<h3>{escape(structure)}</h3>{_charts(charts)}")
    return "".join(shown)


def _data(found: "PredictionComparison", scores: Sequence[str]) -> dict[str, Any]:
    """Return the scores of every case and structure by each, and how two differ, for the table."""
    names = list(found.evaluations)
    every = [_by_case(each.cases) for each in found.evaluations.values()]
    two = len(names) == 2
    titles, digits = [], []
    for score in scores:
        shown = [*names, " − ".join(names)] if two else names
        titles += [f"{_SCORES[score].title}, {name}" for name in shown]
        digits += [digits_of(score)] * len(shown)
    structures = list(next(iter(every[0].values())).structures)
    rows = []
    for place, case in enumerate(every[0]):
        for number, structure in enumerate(structures):
            cells: list[float] = []
            for score in scores:
                values = [cases[case].structures[structure].get(score, nan) for cases in every]
                cells += [*values, values[0] - values[1]] if two else values
            rows.append([place, number, *map(shortened, cells)])
    return {
        "cases": list(every[0]),
        "structures": structures,
        "columns": titles,
        "digits": digits,
        "rows": rows,
    }


def _by_case(parts: Mapping[str, Sequence[CaseScores]]) -> dict[str, CaseScores]:
    return {case.case_id: case for cases in parts.values() for case in cases}


def _provenance(found: "PredictionComparison") -> str:
    """Return which models predicted, as far as records say it, and what judged."""
    models = {
        f"SHA-256 of the model of {name}": each.model_sha256 or "no record says it"
        for name, each in found.evaluations.items()
    }
    table = facts_table({"judged by": f"vol3dseg {__version__}", **models})
    return f'<h2 id="provenance">Provenance</h2>{html([table])}'
