"""The upper part of the page: means with intervals, how scores lie, volumes, what is confused."""

from collections.abc import Sequence
from html import escape
from math import isnan

import numpy as np
from numpy.typing import NDArray

from vol3dseg.evaluation.scoring import CaseScores, Statistics, Summary
from vol3dseg.evaluation.structure_scores import HD95, SCORES, SURFACE_DICE
from vol3dseg.reporting.document import Table, html, number
from vol3dseg.reporting.evaluation_page.score_charts import DICE, agreement, by_volume, strips
from vol3dseg.reporting.shape_tables import rules_in_words
from vol3dseg.reporting.svg import legend, line_colour

_LESIONS = ("lesion_dice", "lesion_hd95_mm", "lesion_recall", "lesion_precision")
_SHOWN = (DICE, HD95, SURFACE_DICE, *_LESIONS)
_BY_NAME = {score.name: score for score in SCORES}
_MOST_CLASSES = 40  # of a table of confusions that is still looked at
STRIPS = (
    "A dot is a case; its name shows under the mouse. Box: quartiles, with the median; whiskers: "
    "the farthest cases within 1.5 times the quartiles' distance of them. The dot below is the "
    "mean, its line the 95 % interval. In brackets: how many cases define the score, where not all "
    "do."
)
_VOLUMES = (
    "Dice of small structures is low for the same distance between surfaces. Lines join the "
    "medians of fifths of the cases."
)
_AGREEMENT = (
    "Above 0 the prediction is larger. Solid: the mean difference; dashed: limits that 95 % of "
    "differences lie within, if they are normally distributed (Bland and Altman 1986)."
)
_CONFUSION = (
    "Rows are the reference, columns the prediction; shares of each row, over all judged voxels of "
    "all cases."
)


def summary_section(summary: Summary) -> str:
    """Return means with their intervals, and the rules that they stand by."""
    known = scores_of(summary)
    of_lesions = [name for name in known if name in _LESIONS]
    others = [name for name in known if name not in _LESIONS]
    tables = [_table(summary, names) for names in (others, of_lesions) if names]
    note = (
        "Means over cases, with intervals by bootstrap over subjects; in brackets how many cases "
        f"define a score, where not all do. {rules_in_words(summary)}"
    )
    return f'<h2 id="summary">Summary</h2>\n{html([*tables, note])}'


def _table(summary: Summary, scores: Sequence[str]) -> Table:
    rows = []
    for name, found in summary.statistics.items():
        cells = (_statistics(found[score], summary.cases, score) for score in scores)
        rows.append((name, *(text for three in cells for text in three)))
    if len(summary.foreground) > 1:
        means = (_digits(summary.mean_foreground[score], score) for score in scores)
        rows.append(("mean of classes", *(text for mean in means for text in (mean, "", ""))))
    titles = (t for score in scores for t in (_BY_NAME[score].title, "95 % interval", "median"))
    return Table(("class or region", *titles), tuple(rows), kind="summary")


def scores_of(summary: Summary) -> list[str]:
    """Return which of the scores that are shown were computed."""
    first = next(iter(summary.statistics.values()))
    return [name for name in _SHOWN if name in first]


def _statistics(found: Statistics, cases: int, score: str) -> tuple[str, str, str]:
    """Return the mean with the number of cases that define it, its interval, and the median."""
    mean, median, low, high = (
        _digits(value, score) for value in (found.mean, found.median, found.low, found.high)
    )
    count = "" if found.cases == cases else f" ({found.cases})"
    return f"{mean}{count}", "" if isnan(found.low) else f"{low} to {high}", median


def _digits(value: float, score: str) -> str:
    """Return a share with four digits, as in all tables, and millimetres with two."""
    return number(value) if _BY_NAME[score].is_share or isnan(value) else f"{value:.2f}"


def distributions_section(cases: Sequence[CaseScores], summary: Summary) -> str:
    """Return how scores of cases lie, and what Dice and volumes have to do with each other."""
    drawn = [strips(cases, summary, _BY_NAME[name]) for name in scores_of(summary)]
    figures = "".join(_figure(chart) for chart in drawn if chart)
    colours = {name: line_colour(n) for n, name in enumerate(summary.names)}
    parts = [f'<h2 id="distributions">Distributions</h2>{html([STRIPS])}']
    parts.append(f'<div class="charts">{figures}</div>')
    if chart := by_volume(cases, summary.names):
        parts.append(f'<h2 id="volumes">Volumes</h2>{legend(colours)}<h3>Dice and volume</h3>')
        parts.append(f"{html([_VOLUMES])}{_figure(chart)}")
    if charts := agreement(cases, summary.names):
        figures = "".join(_figure(*each) for each in charts.values())
        parts.append(f"<h3>Agreement of volumes</h3>{html([_AGREEMENT])}")
        parts.append(f'<div class="charts">{figures}</div>')
    return "\n".join(parts)


def _figure(chart: str, title: str = "", more: str = "") -> str:
    said = f"<figcaption><b>{escape(title)}</b> {escape(more)}</figcaption>" if title else ""
    return f"<figure>{said}{chart}</figure>"


def confusion_section(cases: Sequence[CaseScores]) -> str:
    """Return which class was taken for which."""
    names = cases[0].labels.names
    if len(names) > _MOST_CLASSES:
        return ""
    matrix: NDArray[np.int64] = np.sum([case.matrix for case in cases], axis=0)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = []
    for name, row in zip(names, matrix.tolist(), strict=True):
        total = sum(row)
        shares = [count / total if total else 0.0 for count in row]
        cells = "".join(
            f'<td style="--share:{share:.3f}" title="{count} voxels">{_percent(share, count)}</td>'
            for share, count in zip(shares, row, strict=True)
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td>{total:,}</td></tr>')
    table = (
        f'<table class="confusion"><thead><tr><th>reference</th>{head}<th>voxels</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    title = '<h2 id="confusion">Confusion of classes</h2>'
    return f'{title}{html([_CONFUSION])}<div class="scroll">{table}</div>'


def _percent(share: float, count: int) -> str:
    if 0 < share < 0.0005:
        return "&lt; 0.1 %"
    return f"{100 * share:.1f} %" if count else "0"
