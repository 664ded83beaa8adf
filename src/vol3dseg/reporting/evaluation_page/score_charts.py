"""Charts of the scores of all cases: how they lie, and what they depend on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

import numpy as np

from vol3dseg.evaluation.scoring import CaseScores, Statistics, Summary
from vol3dseg.evaluation.structure_scores import Score
from vol3dseg.reporting.svg import INK, Axis, Chart, line_colour

_ROW, _AROUND = 46, 56  # height of a structure, and of what is around all of them [px]
_WIDTH = 600
_DOTS = 5000  # of a chart; of more, those within the whiskers are left out
_SPREAD = 0.2  # of the rows, across which dots are moved apart
_GOLDEN = 0.618  # so that neighbours are moved unlike each other
_WHISKER = 1.5  # times the distance of the quartiles, at most (Tukey 1977)
_LIMITS = 1.96  # standard deviations on either side: 95 % of a normal distribution
_SOME = 12  # structures of one chart, or with a chart of their own
_ENOUGH = 20  # cases that a line of medians takes
_PARTS = 5  # of the cases, by volume, with a median each
DICE = "dice"
Named = Sequence[tuple[str, float]]  # a case and its value


@dataclass(frozen=True, slots=True)
class _Scale:
    """An axis, and where on it a value lies."""

    axis: Axis
    at: Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a chart: of a structure, or of one set of predictions."""

    name: str
    values: Named
    mean: Statistics  # of these


def named_values(cases: Sequence[CaseScores], structure: str, score: str) -> Named:
    """Return the cases that define a score, with its value."""
    every = ((case.case_id, case.structures[structure][score]) for case in cases)
    return [(name, value) for name, value in every if isfinite(value)]


def strips(cases: Sequence[CaseScores], summary: Summary, score: Score) -> str:
    """Return a chart of a score with a row for each structure; see `strip_chart`."""
    rows = [
        Row(name, named_values(cases, name, score.name), summary.statistics[name][score.name])
        for name in summary.names
    ]
    return strip_chart(f"{score.title} of each case, by structure", score, rows, len(cases))


def strip_chart(title: str, score: Score, rows: Sequence[Row], cases: int) -> str:
    """Return a chart of rows with a dot for each case, a box, the mean.

    Empty where no case defines the score.
    """
    every = [value for row in rows for _, value in row.values]
    if not every:
        return ""
    scale = _scale_of(score, every)
    names = [r.name if len(r.values) == cases else f"{r.name} ({len(r.values)})" for r in rows]
    size = (_WIDTH, _ROW * len(names) + _AROUND)
    chart = Chart(title, scale.axis, Axis.of_names("", names[::-1]), size)
    few = len(every) <= _DOTS
    for number, row in enumerate(rows):
        if row.values:
            place = float(len(names) - 1 - number)
            _strip(chart, scale, place, row.values, line_colour(number), few)
            _mean(chart, scale, place, row.mean, row.name)
    return chart.svg()


def _strip(
    chart: Chart, scale: _Scale, row: float, values: Named, colour: str, every_dot: bool
) -> None:
    """Draw a box with whiskers, and the cases as dots around it."""
    numbers = [value for _, value in values]
    low, middle, high = np.percentile(numbers, (25, 50, 75)).tolist()
    reach = _WHISKER * (high - low)
    within = [value for value in numbers if low - reach <= value <= high + reach]
    first, last = (scale.at(end(within)) for end in (min, max))
    for number, (case, value) in enumerate(values):
        if every_dot or not low - reach <= value <= high + reach:
            place = row + _SPREAD * (2 * (number * _GOLDEN % 1) - 1)
            chart.dot(scale.at(value), place, colour, 2.5, f"{case}: {value:.4g}")
    for start, end in ((first, scale.at(low)), (scale.at(high), last)):
        if start != end:
            chart.line([(start, row), (end, row)], INK, "thin")
    if low < high:
        half = _SPREAD + 0.05
        chart.box((scale.at(low), row - half), (scale.at(high), row + half), INK, "hollow")
    chart.line([(scale.at(middle), row - 0.25), (scale.at(middle), row + 0.25)], INK)


def _mean(chart: Chart, scale: _Scale, row: float, found: Statistics, name: str) -> None:
    """Draw the mean with its interval below the row."""
    below = row - 0.38
    said = f"{name}: mean {found.mean:.4g}"
    if isfinite(found.low):
        said += f", 95 % interval {found.low:.4g} to {found.high:.4g}"
        if found.low < found.high:
            chart.line([(scale.at(found.low), below), (scale.at(found.high), below)], INK)
    chart.dot(scale.at(found.mean), below, INK, 4, said)


def _scale_of(score: Score, values: Sequence[float]) -> _Scale:
    """Return the axis of a score; distances and counts may be of several orders of magnitude."""
    if score.is_share:
        return _Scale(Axis.over(score.title, [*values, 1.0]), float)
    highest = max(values)
    if min(values) < 0 or highest < 5:
        return _Scale(Axis.over(score.title, [0.0, *values]), float)
    steps = [0.0, *(m * 10.0**n for n in range(-1, ceil(log10(highest)) + 1) for m in (1, 2, 5))]
    beyond = next(step for step in steps if step >= highest)
    ticks = [step for step in steps if step <= beyond and (step == 0 or step >= 1)]
    places = tuple((_compressed(tick), f"{tick:g}") for tick in ticks)
    title = f"{score.title}, as log(1 + x)"
    return _Scale(Axis(title, 0.0, _compressed(beyond), places), _compressed)


def _compressed(value: float) -> float:
    return log10(1 + value)


def by_volume(cases: Sequence[CaseScores], structures: Sequence[str]) -> str:
    """Return a chart of Dice against the volume of the reference, a colour for each structure.

    Empty where no case has any.
    """
    shown = structures[:_SOME]
    points = {
        name: [
            (case.case_id, ml, dice)
            for case in cases
            for scores in [case.structures[name]]
            for ml, dice in [(scores["reference_ml"], scores[DICE])]
            if ml > 0 and isfinite(dice)
        ]
        for name in shown
    }
    volumes = [ml for found in points.values() for _, ml, _ in found]
    if not volumes:
        return ""
    x = _decades("volume of the reference [ml]", volumes)
    y = Axis.over("Dice", [dice for found in points.values() for *_, dice in found] + [1.0])
    chart = Chart("Dice of each case against the volume of its reference", x, y, (_WIDTH, 380))
    for number, (name, found) in enumerate(points.items()):
        colour = line_colour(number)
        for case, ml, dice in found:
            chart.dot(log10(ml), dice, colour, 2.5, f"{case}, {name}: {ml:.3g} ml, {dice:.4f}")
        chart.line(_medians([(ml, dice) for _, ml, dice in found]), colour)
    return chart.svg()


def _medians(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Give the median of each fifth of the cases, by volume, where there are enough."""
    if len(points) >= _ENOUGH:
        for part in np.array_split(np.array(sorted(points)), _PARTS):
            ml, dice = np.median(part, axis=0).tolist()
            yield log10(ml), dice


def _decades(label: str, values: Sequence[float]) -> Axis:
    """Return an axis of logarithms, with powers of ten; with 2 and 5 times them where few are."""
    first, last = floor(log10(min(values))), ceil(log10(max(values)) + 1e-9)
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [
        m * 10.0**n for n in range(first, last + 1) for m in factors if m * 10.0**n <= 10**last
    ]
    return Axis(label, first, last, tuple((log10(tick), f"{tick:g}") for tick in ticks))


def agreement(
    cases: Sequence[CaseScores], structures: Sequence[str]
) -> Mapping[str, tuple[str, str, str]]:
    """Return a Bland-Altman chart of the volumes of each structure (Bland and Altman 1986).

    The difference of both volumes against their mean, the mean difference, and the limits that 95 %
    of differences lie within if they are normally distributed. Of many structures, those whose
    differences vary most. Each with its name, and with its lines in numbers.
    """
    pairs = {name: _volumes(cases, name) for name in structures}
    known = {name: found for name, found in pairs.items() if found}
    spreads = {n: float(np.std([b - a for _, a, b in found])) for n, found in known.items()}
    widest = sorted(spreads, key=lambda name: -spreads[name])[:_SOME]
    return {
        name: _bland_altman(name, known[name], line_colour(structures.index(name)))
        for name in known
        if name in widest
    }


def _volumes(cases: Sequence[CaseScores], name: str) -> list[tuple[str, float, float]]:
    """Return the volumes of reference and prediction of the cases where either has any [ml]."""
    every = ((case.case_id, case.structures[name]) for case in cases)
    volumes = ((case, s["reference_ml"], s["prediction_ml"]) for case, s in every)
    return [(c, a, b) for c, a, b in volumes if isfinite(a) and isfinite(b) and a + b > 0]


def _bland_altman(
    name: str, found: Sequence[tuple[str, float, float]], colour: str
) -> tuple[str, str, str]:
    differences = [b - a for _, a, b in found]
    mean = float(np.mean(differences))
    lines, said = [(mean, "")], f"mean difference {mean:+.3g} ml"
    if len(found) > 1:
        reach = _LIMITS * float(np.std(differences, ddof=1))
        lines += [(mean - reach, "dashed"), (mean + reach, "dashed")]
        said += f", limits {mean - reach:+.3g} to {mean + reach:+.3g} ml"
    x = Axis.over("mean of both volumes [ml]", [0.0, *((a + b) / 2 for _, a, b in found)])
    ends = [0.0, *differences, *(value for value, _ in lines)]
    y = Axis.over("prediction − reference [ml]", ends)
    chart = Chart(f"Bland-Altman plot of {name}: {said}", x, y, (390, 270))
    chart.line([(x.low, 0.0), (x.high, 0.0)], INK, "thin")
    for case, a, b in found:
        title = f"{case}: reference {a:.4g} ml, prediction {b:.4g} ml"
        chart.dot((a + b) / 2, b - a, colour, 2.5, title)
    for value, kind in lines:
        chart.line([(x.low, value), (x.high, value)], INK, kind)
    return chart.svg(), name, said
