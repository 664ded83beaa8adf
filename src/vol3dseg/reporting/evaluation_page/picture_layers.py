"""Slices as layers of SVG: a grey PNG, and over it what is transparent but for labels.

The grey one is in the page once for all panels of a slice, so that the page stays small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from vol3dseg.reporting.evaluation_page.telling_slices import (
    FALSE,
    MISSED,
    OTHER,
    Pixels,
    Telling,
    TellingSlice,
)
from vol3dseg.reporting.figures import class_colour
from vol3dseg.reporting.page import image_uri
from vol3dseg.reporting.png import Colour, grey_png, palette_png
from vol3dseg.reporting.slices import LEFT_SIDE, PLANES
from vol3dseg.space.labels import IGNORED

ORDER = (2, 1, 0)  # axial, coronal, sagittal
_Rgb = tuple[int, int, int]
_FILL, _BORDER = 110, 255  # opacity
_CLEAR: Colour = (0, 0, 0, 0)
_WITH_BORDERS = 127  # classes that have one more colour each in a palette
# Colours that few classes have, on grey.
_DIFFERENCES: dict[int, tuple[str, _Rgb]] = {
    MISSED: ("missed: in the reference alone", (0, 114, 178)),
    FALSE: ("false: in the prediction alone", (230, 159, 0)),
    OTHER: ("another class", (204, 121, 167)),
}
_LEVELS = 64  # of entropy
_RAMP = ((0, 0, 0), (60, 20, 110), (190, 50, 100), (245, 140, 60), (252, 245, 180))


@dataclass(frozen=True, slots=True)
class _Layer:
    """What lies over the image, as PNG; empty for nothing. `covers`: nothing of it is seen."""

    title: str
    content: bytes
    covers: bool = False


def class_entries(names: Sequence[str]) -> dict[str, str]:
    """Return the CSS colour of each foreground class."""
    return {name: _css(_of_class(number)) for number, name in enumerate(names)}


def difference_entries() -> dict[str, str]:
    """Return the CSS colour of each way in which two maps differ."""
    return {name: _css(colour) for name, colour in _DIFFERENCES.values()}


def panels(found: Telling, case_id: str, number: int) -> str:
    """Return a grid of panels: a row for each plane, a column for each layer."""
    rows = [(axis, found.slices[axis], list(_layers(found.slices[axis]))) for axis in ORDER]
    titles = [layer.title for layer in rows[0][2]]
    cells = [f"<span>{title}</span>" for title in titles]
    for axis, each, layers in rows:
        key, plane = f"grey-{number}-{axis}", PLANES[axis]
        for layer in layers:
            said = f"{case_id}, {plane} slice {each.number}: {layer.title}"
            cells.append(_panel(each, layer, key, found.side_mm, LEFT_SIDE[plane], said))
    return f'<div class="panels" style="--panels:{len(titles)}">{"".join(cells)}</div>'


def _layers(of: TellingSlice) -> Iterator[_Layer]:
    if of.grey is not None:
        yield _Layer("image", b"")
    highest = max(
        int(labels.max(where=labels != IGNORED, initial=0))
        for labels in (of.reference, of.prediction)
    )
    colours = [_of_class(number) for number in range(highest)]
    for title, labels in (("reference", of.reference), ("prediction", of.prediction)):
        yield _Layer(title, _labels_png(np.where(labels == IGNORED, 0, labels), colours))
    ways = [colour for _, colour in _DIFFERENCES.values()]
    yield _Layer("difference", _labels_png(of.difference, ways))
    if of.entropy is not None:
        yield _Layer("entropy", _entropy_png(of.entropy), covers=True)


def _labels_png(labels: Pixels, colours: Sequence[_Rgb]) -> bytes:
    """Return classes, from 1, tinted, and in full colour along their borders."""
    fills = [(*colour, _FILL) for colour in colours]
    if len(colours) > _WITH_BORDERS:
        return palette_png(labels.astype(np.uint8), [_CLEAR, *fills])
    bordered = np.where(_border(labels) & (labels > 0), labels + len(colours), labels)
    full = [(*colour, _BORDER) for colour in colours]
    return palette_png(bordered.astype(np.uint8), [_CLEAR, *fills, *full])


def _entropy_png(entropy: NDArray[np.float32]) -> bytes:
    """Return entropy in colours from dark to light."""
    stops, places = np.linspace(0, 1, len(_RAMP)), np.linspace(0, 1, _LEVELS)
    red, green, blue = (np.interp(places, stops, part) for part in zip(*_RAMP, strict=True))
    colours = [(int(r), int(g), int(b), 255) for r, g, b in zip(red, green, blue, strict=True)]
    return palette_png(np.rint(entropy * (_LEVELS - 1)).astype(np.uint8), colours)


def _border(labels: Pixels) -> NDArray[np.bool_]:
    padded = np.pad(labels, 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray(np.any([labels != other for other in around], axis=0))


def _panel(
    of: TellingSlice, layer: _Layer, key: str, side_mm: float, letter: str, said: str
) -> str:
    """Return a black square with the slice in its middle, all at one scale."""
    width, height = of.size_mm
    place = f'x="{(side_mm - width) / 2:.2f}" y="{(side_mm - height) / 2:.2f}"'
    size = f'width="{width:.2f}" height="{height:.2f}" preserveAspectRatio="none"'
    parts = [f'<rect width="{side_mm:.2f}" height="{side_mm:.2f}"/>']
    if of.grey is not None and not layer.covers:
        source = image_uri(grey_png(of.grey)) if not layer.content else ""
        image = f'<image id="{key}" {place} {size} href="{source}"/>'
        parts.append(image if source else f'<use href="#{key}"/>')
    if layer.content:
        parts.append(f'<image class="sharp" {place} {size} href="{image_uri(layer.content)}"/>')
    text = f'x="2%" y="50%" font-size="{side_mm / 14:.2f}" dominant-baseline="central"'
    view = f'viewBox="0 0 {side_mm:.2f} {side_mm:.2f}"'
    inside = "".join(parts)
    head = f'<svg {view} role="img" aria-label="{escape(said)}">'
    return f"{head}{inside}<text {text}>{letter}</text></svg>"


def _of_class(number: int) -> _Rgb:
    red, green, blue = (round(255 * part) for part in class_colour(number))
    return red, green, blue


def _css(colour: _Rgb) -> str:
    return f"rgb({colour[0]} {colour[1]} {colour[2]})"
