"""The upper part of the page: what the whole set is like, as plain HTML."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from vol3dseg.quality.case_facts import CaseFacts
from vol3dseg.quality.expectations import FEWEST_CASES
from vol3dseg.reporting.inspection.survey import Survey
from vol3dseg.reporting.inspection.thumbnails import Drawing, Picture, colour_of
from vol3dseg.reporting.page import image_uri

_ROWS = 12  # of a table that may be as long as the set; the rest is counted
_WIDTH, _HEIGHT = 320, 22  # of a box plot [pixels]


def overview(found: Survey, example: Drawing | None) -> str:
    """Return HTML on the whole set; everything that comes from files is escaped."""
    parts = [_summary(found), _left_out(found)]
    if example is not None and example.pictures:
        parts.append(_example(found, example))
    parts += [_intensities(found), _classes(found), _contrasts(found), _correlations(found)]
    return "\n".join([*parts, _geometry(found)])


def _summary(found: Survey) -> str:
    labelled = sum(case.volumes_ml is not None for case in found.cases)
    kinds = Counter(verdict.reasons[0].kind for verdict in found.suspects)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    facts = {
        "cases": f"{len(found.cases)}, {labelled} with a label map",
        "layout": found.layout,
        "modalities": ", ".join(found.modalities),
        "classes": ", ".join(found.classes) or "none",
        "suspects": f"{len(found.suspects)}" + (f" ({listed}, by first reason)" if listed else ""),
        "left out": f"{len(found.left_out)}" + _rule(found),
    }
    lines = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    few = (
        f"<p><strong>With fewer than {FEWEST_CASES} cases there is nothing to compare: only what "
        "is wrong whatever other cases are like is found.</strong></p>"
        if len(found.cases) < FEWEST_CASES
        else ""
    )
    jump = '<p><a href="#cases">To the cases, suspects first</a></p>'
    return f'<dl class="facts">{lines}</dl>{few}{jump}'


def _rule(found: Survey) -> str:
    if not found.required:
        return "; no class is required by the config"
    return f"; a case must have {', '.join(found.required)}"


def _left_out(found: Survey) -> str:
    if not found.left_out:
        return ""
    items = "".join(
        f"<li>{escape(case_id)}: {escape(reason)}</li>"
        for case_id, reason in found.left_out.items()
    )
    count = len(found.left_out)
    return (
        f"<details><summary>Who is left out, and why ({count})</summary><ul>{items}</ul></details>"
    )


def _example(found: Survey, example: Drawing) -> str:
    figures = "".join(_figure(picture, example.case_id) for picture in example.pictures)
    return (
        f"<h2>Contrast of the modalities</h2>{legend(found.classes)}{figures}"
        f'<p class="note">{escape(example.case_id)}, an example: free of suspicion if any is, with '
        "more foreground than three in four. Slices with most foreground; R: the subject's right, "
        "A: front.</p>"
    )


def _figure(picture: Picture, case_id: str) -> str:
    captions = "".join(f"<span>{escape(text)}</span>" for text in picture.captions)
    return (
        f'<figure><img src="{image_uri(picture.content, "webp")}" '
        f'alt="{escape(f"{case_id}: {picture.alternative}")}">'
        f"<figcaption>{captions}</figcaption></figure>"
    )


def legend(classes: Sequence[str]) -> str:
    """Return the classes with their colours, as a list."""
    items = "".join(f"<li>{_swatch(n)}{escape(name)}</li>" for n, name in enumerate(classes))
    return f'<ul class="legend" aria-label="colours of the classes">{items}</ul>' if items else ""


def _swatch(number: int) -> str:
    return f'<span class="swatch" style="background:{colour_of(number)}"></span>'


def _intensities(found: Survey) -> str:
    rows = []
    for name in found.modalities:
        facts = [case.modalities[name] for case in found.cases if name in case.modalities]
        if facts:
            columns = ([f.low for f in facts], [f.median for f in facts], [f.high for f in facts])
            noise = [f.noise for f in facts if f.noise is not None]
            texts = [_spread(values) for values in (*columns, noise)]
            rows.append([escape(name), str(len(facts)), *texts])
    head = ["modality", "cases", "percentile 1", "median", "percentile 99", "noise"]
    return (
        '<h2>Intensities</h2><div class="histograms" id="whole"></div>'
        '<p class="note">Voxels inside (not background), each case by itself brought to mean 0 and '
        "standard deviation (sd) 1.</p>"
        f"{_table(head, rows)}"
        '<p class="note">Raw intensities inside: median over cases, and where the middle 90 % lie. '
        "Noise: share of the image's standard deviation.</p>"
    )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f"{plain(middle)} ({plain(low)} to {plain(high)})"


def plain(value: float) -> str:
    """Return three digits without an exponent, or all before the point."""
    if value == 0 or abs(value) >= 1e12 or abs(value) < 1e-6:
        return f"{value:.3g}"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{digits}f}"


def _classes(found: Survey) -> str:
    volumes = {
        name: [v for case in found.cases if (v := (case.volumes_ml or {}).get(name, 0.0)) > 0]
        for name in found.classes
    }
    highest = max((max(v) for v in volumes.values() if v), default=0.0)
    if highest == 0:
        return "<h2>Class volumes</h2><p>No labelled voxels.</p>"
    lowest = min(min(v) for v in volumes.values() if v)
    rows = []
    for number, (name, values) in enumerate(volumes.items()):
        figures = np.percentile(values, (0, 25, 50, 75, 100)).tolist() if values else []
        texts = [plain(v) for v in figures] or ["–"] * 5
        plot = _box_plot(figures, lowest, highest, number) if figures else ""
        rows.append([_swatch(number) + escape(name), str(len(values)), *texts, plot])
    head = ["class", "cases", "smallest", "25 %", "median", "75 %", "largest", "logarithmic"]
    return (
        f"<h2>Class volumes [ml]</h2>{_table(head, rows)}"
        '<p class="note">Of the cases that have the class. Box: middle half, bar: median.</p>'
    )


def _box_plot(figures: Sequence[float], lowest: float, highest: float, number: int) -> str:
    span = max(np.log(highest / lowest), 1e-9)
    x = [4 + (_WIDTH - 8) * float(np.log(v / lowest)) / span for v in figures]
    middle = _HEIGHT / 2
    return (
        f'<svg class="boxes" width="{_WIDTH}" height="{_HEIGHT}" aria-hidden="true">'
        f'<line x1="{x[0]:.1f}" x2="{x[4]:.1f}" y1="{middle}" y2="{middle}"/>'
        f'<rect x="{x[1]:.1f}" y="4" width="{max(x[3] - x[1], 1):.1f}" height="{_HEIGHT - 8}" '
        f'fill="{colour_of(number)}"/>'
        f'<line x1="{x[2]:.1f}" x2="{x[2]:.1f}" y1="1" y2="{_HEIGHT - 1}"/></svg>'
    )


def _contrasts(found: Survey) -> str:
    rows = [
        [_swatch(number) + escape(name), *(_middle(found, (name, m)) for m in found.modalities)]
        for number, name in enumerate(found.classes)
    ]
    if not rows:
        return ""
    return (
        "<h2>Contrast of the classes</h2>"
        f"{_table(['class', *map(escape, found.modalities)], rows)}"
        '<p class="note">Mean inside the class minus mean of the rest of the body, in standard '
        "deviations of the image: median over cases, and where the middle 90 % lie.</p>"
    )


def _correlations(found: Survey) -> str:
    names = found.modalities
    if len(names) < 2:
        return ""
    rows = [[escape(a), *("" if a == b else _middle(found, (a, b)) for b in names)] for a in names]
    return (
        "<h2>Correlation between modalities</h2>"
        f"{_table(['', *map(escape, names)], rows)}"
        '<p class="note">Of ranks, inside: median over cases, and where the middle 90 % lie.</p>'
    )


def _middle(found: Survey, key: tuple[str, str]) -> str:
    def of(case: CaseFacts) -> Iterable[float]:
        pairs = (
            case.contrasts.get(key),
            case.correlations.get(key),
            case.correlations.get(key[::-1]),
        )
        return (value for value in pairs if value is not None)

    values = [value for case in found.cases for value in of(case)]
    if not values:
        return "–"
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f"{middle:+.2f} ({low:+.2f} to {high:+.2f})"


def grid_words(case: CaseFacts) -> dict[str, str]:
    """Return shape, spacing and axes of a case in words; empty without a geometry."""
    grid = case.geometry
    if grid is None:
        return {}
    return {
        "shape [voxels]": " × ".join(map(str, grid.shape)),
        "spacing [mm]": " × ".join(f"{s:.4g}" for s in grid.spacing_mm),
        "axes": grid.axis_codes,
    }


def _geometry(found: Survey) -> str:
    grids = Counter(tuple(w.values()) for case in found.cases if (w := grid_words(case)))
    rows = [[*map(escape, grid), str(count)] for grid, count in grids.most_common(_ROWS)]
    more = len(grids) - len(rows)
    rest = f'<p class="note">and {more} more geometries</p>' if more > 0 else ""
    head = ["shape [voxels]", "spacing [mm]", "axes", "cases"]
    return f"<h2>Geometry</h2>{_table(head, rows)}{rest}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are HTML already."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'
