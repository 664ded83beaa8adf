"""Whether the model was unsure where it was wrong: reliability, and errors by entropy."""

from collections.abc import Sequence
from html import escape
from math import isfinite

from vol3dseg.evaluation.calibration import Bins, Calibration, pooled
from vol3dseg.evaluation.scoring import CaseScores
from vol3dseg.reporting.document import Table, html
from vol3dseg.reporting.svg import INK, Axis, Chart, line_colour

_SIZE = (350, 300)
_SHARE = Axis("", 0.0, 1.0, tuple((n / 5, f"{n / 5:.1f}") for n in range(6)))
_ECE = (
    "Expected calibration error (Guo et al. 2017, 15 bins) of the winning class's probability. "
    "Bars are the share of voxels that are right among those of a probability; the line is where "
    "both agree. Bars below it: the model was too sure of itself. What post-processing has changed "
    "counts as it is in the label map."
)
_ENTROPY = (
    "Errors should gather where entropy is high: then it tells where to look. Bars are the share "
    "of voxels that are wrong among those of an entropy."
)


def certainty_section(cases: Sequence[CaseScores]) -> str:
    """Return what is known of all cases together as HTML; empty where nothing is."""
    known = [case.calibration for case in cases if case.calibration is not None]
    if not known:
        return ""
    whole = pooled(known)
    confidence = whole.confidence if isfinite(whole.ece) else None
    entropy = whole.entropy if isfinite(whole.mean_entropy) else None
    parts = [
        '<h2 id="certainty">Was the model right to be sure?</h2>',
        f'<p class="note">Over voxels that are foreground in reference or prediction, of '
        f"{len(known)} of {len(cases)} cases. Over all voxels both would be flattered by what is "
        "surely background.</p>",
        '<div class="columns">',
        "" if confidence is None else _reliability(whole, confidence),
        "" if entropy is None else _by_entropy(whole, entropy),
        "</div>",
    ]
    return "\n".join(parts)


def _reliability(whole: Calibration, bins: Bins) -> str:
    x = Axis("probability of the winning class", 0.0, 1.0, _SHARE.ticks)
    y = Axis("share of voxels that are right", 0.0, 1.0, _SHARE.ticks)
    chart = Chart(f"Reliability: expected calibration error {whole.ece:.4f}", x, y, _SIZE)
    _bars(chart, bins, 1.0, right=True)
    chart.line([(0.0, 0.0), (1.0, 1.0)], INK, "dashed")
    head = f"<h3>Expected calibration error: {whole.ece:.4f}</h3>"
    return f'<div>{head}{chart.svg()}<p class="note narrow">{_ECE}</p></div>'


def _by_entropy(whole: Calibration, bins: Bins) -> str:
    axis = Axis.over("entropy [nat]", [0.0, whole.highest])
    ticks = tuple(tick for tick in axis.ticks if tick[0] <= whole.highest)
    chart = Chart(
        "Share of wrong voxels by entropy",
        Axis(axis.label, 0.0, whole.highest, ticks),
        Axis("share of voxels that are wrong", 0.0, 1.0, _SHARE.ticks),
        _SIZE,
    )
    _bars(chart, bins, whole.highest, right=False)
    head = f"<h3>Mean entropy of a voxel: {whole.mean_entropy:.4f} nat</h3>"
    note = f'<p class="note narrow">{escape(_ENTROPY)}</p>'
    return f"<div>{head}{chart.svg()}{note}</div><div>{html([_table(bins, whole.highest)])}</div>"


def _bars(chart: Chart, bins: Bins, highest: float, right: bool) -> None:
    width = highest / len(bins)
    for number, (voxels, wrong, _) in enumerate(bins.tolist()):
        if voxels:
            share = (voxels - wrong if right else wrong) / voxels
            chart.box((number * width, 0.0), ((number + 1) * width, share), line_colour(1))


def _table(bins: Bins, highest: float) -> Table:
    width, (voxels, wrong) = highest / len(bins), bins[:, :2].sum(axis=0).tolist()
    rows = []
    for number, (count, errors, _) in enumerate(bins.tolist()):
        cells = [f"{number * width:.2f} to {(number + 1) * width:.2f}", _percent(count, voxels)]
        rows.append((*cells, _percent(errors, count), _percent(errors, wrong)))
    columns = ("entropy [nat]", "of all voxels", "of these wrong", "of all errors")
    return Table(columns, tuple(rows))


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
