"""The upper part of the page: what the whole set is like, as plain HTML."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

import numpy as np

from vol3dseg.reporting.inspection.survey import Survey
from vol3dseg.reporting.inspection.thumbnails import Picture, colour_of
from vol3dseg.space.geometry import Geometry

_ROWS = 12  # of a table that may be as long as the set; the rest is counted
_WIDTH, _HEIGHT = 320, 22  # of a box plot [pixels]
_MIDDLE = "median over cases (range of the middle 90 %; how many, where not all have it)"


def overview(found: Survey, example: Sequence[Picture]) -> str:
    """Return HTML on the whole set; everything that comes from files is escaped."""
    parts = [_summary(found), _left_out(found), _example(found, example) if example else ""]
    parts += [_intensities(found), _classes(found), _contrasts(found), _correlations(found)]
    return "\n".join([*parts, _geometry(found)])


def _summary(found: Survey) -> str:
    labelled = sum(case.volumes_ml is not None for case in found.cases)
    kinds = Counter(verdict.reasons[0].kind for verdict in found.suspects)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    rule = f"a case must have {', '.join(found.required)}" if found.required else ""
    facts = {
        "cases": f"{len(found.cases)}, {labelled} with a label map",
        "layout": found.layout,
        "modalities": ", ".join(found.modalities),
        "classes": ", ".join(found.classes) or "none",
        "suspects": f"{len(found.suspects)}" + (f" ({listed}, by first reason)" if listed else ""),
        "left out": f"{len(found.left_out)}; {rule or 'no class is required'}",
    }
    lines = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    few = f"<p><strong>{found.too_few}</strong></p>" if found.too_few else ""
    jump = '<p><a href="#cases">To the cases, suspects first</a></p>'
    return f'<dl class="facts">{lines}</dl>{few}{jump}'


def _left_out(found: Survey) -> str:
    if not found.left_out:
        return ""
    items = "".join(f"<li>{escape(f'{i}: {why}')}</li>" for i, why in found.left_out.items())
    summary = f"<summary>Cases left out, and why ({len(found.left_out)})</summary>"
    return f"<details>{summary}<ul>{items}</ul></details>"


def _example(found: Survey, pictures: Sequence[Picture]) -> str:
    figures = "".join(_figure(picture, found.example) for picture in pictures)
    note = (
        f"Example: {found.example}, not suspect if any case is not, with more foreground than "
        "three quarters of the cases. Slices with the most foreground; R: the subject's right, "
        "A: front."
    )
    return _section("Contrast of the modalities", legend(found.classes) + figures, note)


def _figure(picture: Picture, case_id: str) -> str:
    captions = "".join(f"<span>{escape(text)}</span>" for text in picture.captions)
    alternative = escape(f"{case_id}: {picture.alternative}")
    image = f'<img src="{picture.uri}" alt="{alternative}">'
    return f"<figure>{image}<figcaption>{captions}</figcaption></figure>"


def legend(classes: Sequence[str]) -> str:
    """Return the classes with their colours, as a list."""
    items = "".join(f"<li>{_swatch(n, name)}</li>" for n, name in enumerate(classes))
    return f'<ul class="legend" aria-label="colours of the classes">{items}</ul>' if items else ""


def _swatch(number: int, name: str) -> str:
    return f'<span class="swatch" style="background:{colour_of(number)}"></span>{escape(name)}'


def _intensities(found: Survey) -> str:
    rows = []
    for name in found.modalities:
        facts = found.facts_of(name)
        if facts:
            columns = zip(*((f.low, f.median, f.high, f.noise) for f in facts), strict=True)
            rows.append(
                [escape(name), f"{len(facts)} of {len(found.cases)}", *map(_middle, columns)]
            )
    head = ["modality", "cases", "percentile 1", "median", "percentile 99", "noise"]
    histograms = (
        f'<div class="histograms" id="whole"></div><p class="note">Voxels inside (not background)'
        f"{_scaled(found)}.</p>"
    )
    note = f"Raw intensities inside: {_MIDDLE}. Noise: share of the image's standard deviation."
    return _section("Intensities", histograms + _table(head, rows), note)


def _scaled(found: Survey) -> str:
    """Return what histograms are over, as half a sentence."""
    fixed = {facts.scale.fixed for name in found.modalities for facts in found.facts_of(name)}
    own = ", each case scaled to mean 0 and standard deviation (sd) 1"
    known = ", between the ends of the config's window or, in CT, of what tissue has"
    return known * (True in fixed) + "; of all else" * (len(fixed) > 1) + own * (False in fixed)


def plain(value: float) -> str:
    """Return three digits without an exponent, or all before the point."""
    if value == 0 or abs(value) >= 1e12 or abs(value) < 1e-6:
        return f"{value:.3g}"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{digits}f}"


def _middle(values: Iterable[float | None], text: Callable[[float], str] = plain) -> str:
    """Return the median, and where the middle 90 % lie, of those that are known, and how many."""
    every = list(values)
    known = [value for value in every if value is not None]
    if not known:
        return "–"
    low, middle, high = map(text, np.percentile(known, (5, 50, 95)))
    fewer = f"; {len(known)} of {len(every)}" if len(known) < len(every) else ""
    return f"{middle} ({low} to {high}{fewer})"


def _classes(found: Survey) -> str:
    volumes = {
        name: [v for case in found.cases if (v := (case.volumes_ml or {}).get(name, 0.0)) > 0]
        for name in found.classes
    }
    every = [volume for values in volumes.values() for volume in values]
    if not every:
        return "<h2>Class volumes</h2><p>No labelled voxels.</p>"
    rows, labelled = [], sum(case.volumes_ml is not None for case in found.cases)
    for number, (name, values) in enumerate(volumes.items()):
        figures = np.percentile(values, (0, 25, 50, 75, 100)).tolist() if values else []
        texts = [plain(v) for v in figures] or ["–"] * 5
        plot = _box_plot(figures, min(every), max(every), number) if figures else ""
        count = f"{len(values)} of {labelled}"
        rows.append([_swatch(number, name), count, *texts, plot])
    head = ["class", "cases", "smallest", "25 %", "median", "75 %", "largest", "logarithmic"]
    note = "Of the cases that have the class, among those with a label map. Box: middle half."
    return _section("Class volumes [ml]", _table(head, rows), note)


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
    if not found.classes:
        return ""
    known = [case.contrasts for case in found.cases]
    rows = [
        [_swatch(number, name), *_middles(known, [(name, m) for m in found.modalities])]
        for number, name in enumerate(found.classes)
    ]
    note = (
        "Mean inside the class minus mean of the rest of the body, in standard deviations of the "
        f"image: {_MIDDLE}."
    )
    table = _table(["class", *map(escape, found.modalities)], rows)
    return _section("Contrast of the classes", table, note)


def _correlations(found: Survey) -> str:
    names = found.modalities
    if len(names) < 2:
        return ""
    known = [case.correlations for case in found.cases]
    rows = [[escape(a), *_middles(known, [(min(a, b), max(a, b)) for b in names])] for a in names]
    table = _table(["", *map(escape, names)], rows)
    return _section("Correlation between modalities", table, f"Of ranks, inside: {_MIDDLE}.")


def _middles(
    known: Sequence[Mapping[tuple[str, str], float]], keys: Iterable[tuple[str, str]]
) -> list[str]:
    return [_middle((each.get(key) for each in known), "{:+.2f}".format) for key in keys]


def describe_grid(grid: Geometry) -> dict[str, str]:
    """Return shape, spacing and axes as text."""
    return {
        "shape [voxels]": " × ".join(map(str, grid.shape)),
        "spacing [mm]": " × ".join(f"{s:.4g}" for s in grid.spacing_mm),
        "axes": grid.axis_codes,
    }


def _geometry(found: Survey) -> str:
    known = (case.geometry for case in found.cases if case.geometry is not None)
    grids = Counter(tuple(describe_grid(grid).values()) for grid in known)
    rows = [[*map(escape, grid), str(count)] for grid, count in grids.most_common(_ROWS)]
    more = len(grids) - len(rows)
    head = ["shape [voxels]", "spacing [mm]", "axes", "cases"]
    return _section("Geometry", _table(head, rows), f"and {more} more geometries" * (more > 0))


def _section(title: str, content: str, note: str = "") -> str:
    """Return a part of the page; the content is HTML, the note below it is not."""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<h2>{title}</h2>{content}{below}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are HTML already."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'
