"""Charts as inline SVG: text and lines take the page's colours, so they suit light and dark.

A chart is a string that stands in the body of `html_page`; how it looks says page.css.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Literal

from vol3dseg.reporting.figures import class_colour

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
INK = "var(--ink)"
_LETTER, _LINE = 6.6, 18  # width of a letter of 12 px and height of a line [px]
_LONGEST = 32  # letters of a name at a tick
_COLUMN = 2  # px; points of a line that lie within one are drawn by their extremes


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`, with ticks and what stands at them."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def over(
        cls, label: str, values: Iterable[float], *, whole: bool = False, ticks: int = 5
    ) -> "Axis":
        """Return an axis of round numbers over all values that are finite.

        `whole` takes whole numbers only and ends at the outermost values themselves.
        """
        found = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = float(min(found)), float(max(found))
        if low == high:
            low, high = (low, low + 1) if whole else (low - 0.5, low + 0.5)
        step = max(_round(high - low, ticks), 1.0 if whole else 0.0)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        places = [number * step for number in range(first, last + 1)]
        if whole:
            places = [place for place in places if low <= place <= high]
            return cls(label, low, high, tuple((place, f"{place:.0f}") for place in places))
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        short = step >= 1e-4 and places[-1] < 1e5
        texts = [f"{place:.{digits}f}" if short else f"{place:.3g}" for place in places]
        return cls(label, places[0], places[-1], tuple(zip(places, texts, strict=True)))

    @classmethod
    def of_names(cls, label: str, names: Sequence[str]) -> "Axis":
        """Return an axis with a name at 0, 1, 2 and so on, and half a step beyond the outermost."""
        cut = [n if len(n) <= _LONGEST else f"{n[: _LONGEST - 1]}…" for n in names]
        return cls(label, -0.5, len(names) - 0.5, tuple(enumerate(cut)))

    def share(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; the end where it lies beyond."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


class Chart:
    """A plot with two axes, to which marks are added in the units of the axes; y points up.

    Parameters
    ----------
    alternative : str
        What is seen, for those who cannot see it.
    x, y : Axis
    size : (2,) tuple of int
        Width and height of the whole [px]; a page scales it down where it is too wide.
    """

    def __init__(
        self, alternative: str, x: Axis, y: Axis, size: tuple[int, int] = (560, 300)
    ) -> None:
        self._alternative, self._x, self._y = alternative, x, y
        self._size = size
        widest = max((len(text) for _, text in y.ticks), default=0) * _LETTER
        self._left, self._top = widest + 12 + _LINE * bool(y.label), 10.0
        self._right = size[0] - 14.0
        self._bottom = size[1] - _LINE - 6 - _LINE * bool(x.label)
        self._marks: list[str] = []

    def line(self, points: Iterable[Point], colour: str = INK, kind: str = "") -> None:
        """Add a line through points; NaN makes a gap, a point without neighbours is a dot.

        `kind` is the CSS class: "thin", "dashed" or none.
        """
        place = (self._place(*point) if _finite(point) else None for point in points)
        for known, row in groupby(place, key=lambda at: at is not None):
            if not known:
                continue
            corners = list(_thinned([at for at in row if at is not None]))
            if len(corners) == 1:
                self._dot(*corners[0], colour, 3, "")
            else:
                path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
                self._add("polyline", f'points="{path}" {_style("line " + kind, colour)}')

    def dot(
        self, x: float, y: float, colour: str = INK, radius: float = 3, title: str = ""
    ) -> None:
        """Add a dot; nothing where it has no place. `title` shows under the mouse."""
        if _finite((x, y)):
            self._dot(*self._place(x, y), colour, radius, title)

    def box(self, one: Point, other: Point, colour: str = INK, kind: str = "") -> None:
        """Add a rectangle between two corners; `kind` is "hollow" or none."""
        (x0, y0), (x1, y1) = self._place(*one), self._place(*other)
        place = f'x="{min(x0, x1):.1f}" y="{min(y0, y1):.1f}"'
        size = f'width="{abs(x1 - x0):.1f}" height="{abs(y1 - y0):.1f}"'
        self._add("rect", f"{place} {size} {_style('box ' + kind, colour)}")

    def text(self, x: float, y: float, text: str, anchor: Anchor = "middle") -> None:
        """Add text whose middle is at the height of a point."""
        self._marks.append(_text(*self._place(x, y), text, anchor))

    def svg(self) -> str:
        """Return the chart as an element of HTML."""
        width, height = self._size
        head = f'role="img" aria-label="{escape(self._alternative)}"'
        view = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        marks = "\n".join([*self._frame(), *self._marks])
        return f'<svg class="chart" {view} {head}>\n{marks}\n</svg>'

    def _frame(self) -> Iterator[str]:
        left, right, top, bottom = self._left, self._right, self._top, self._bottom
        for value, text in self._y.ticks:
            y = self._place(self._x.low, value)[1]
            yield f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>'
            yield _text(left - 6, y, text, "end")
        for value, text in self._x.ticks:
            x = self._place(value, self._y.low)[0]
            yield f'<path class="axis" d="M{x:.1f} {bottom:.1f}v4"/>'
            yield _text(x, bottom + 14, text, "middle")
        yield f'<path class="axis" d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}"/>'
        if self._x.label:
            yield _text((left + right) / 2, bottom + 14 + _LINE, self._x.label, "middle")
        if self._y.label:
            x, y = 10.0, (top + bottom) / 2
            yield _text(x, y, self._y.label, "middle", f' transform="rotate(-90 {x:.1f} {y:.1f})"')

    def _place(self, x: float, y: float) -> Point:
        across, up = self._x.share(x), self._y.share(y)
        return (
            self._left + across * (self._right - self._left),
            self._bottom - up * (self._bottom - self._top),
        )

    def _dot(self, x: float, y: float, colour: str, radius: float, title: str) -> None:
        place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
        self._add("circle", f"{place} {_style('dot', colour)}", title)

    def _add(self, tag: str, attributes: str, title: str = "") -> None:
        inside = f"><title>{escape(title)}</title></{tag}>" if title else "/>"
        self._marks.append(f"<{tag} {attributes}{inside}")


def line_colour(number: int) -> str:
    """Return the CSS colour of foreground class `number`, from 0, drawn towards that of the text.

    As a thin line or a small dot the colour of its areas would be lost: yellow on white paper.
    """
    red, green, blue = (round(255 * part) for part in class_colour(number))
    return f"color-mix(in srgb, rgb({red} {green} {blue}) 70%, var(--ink))"


def legend(entries: Mapping[str, str]) -> str:
    """Return a list of names, each beside its CSS colour."""
    items = "".join(
        f'<li><span style="background:{escape(colour)}"></span>{escape(name)}</li>'
        for name, colour in entries.items()
    )
    return f'<ul class="legend">{items}</ul>'


def _round(span: float, ticks: int) -> float:
    """Return the step of 1, 2 or 5 times a power of ten that makes about so many ticks."""
    power = 10.0 ** math.floor(math.log10(span / ticks))
    return next(step * power for step in (1, 2, 5, 10) if step * power * ticks >= span * 0.999)


def _thinned(places: Sequence[Point]) -> Iterator[Point]:
    """Give of all places in one column of pixels the highest and the lowest, in their order."""
    for _, column in groupby(places, key=lambda at: at[0] // _COLUMN):
        here = list(column)
        ends = {min(here, key=_height), max(here, key=_height)}
        yield from (at for at in dict.fromkeys(here) if at in ends)


def _height(place: Point) -> float:
    return place[1]


def _finite(point: Point) -> bool:
    return all(map(math.isfinite, point))


def _style(kind: str, colour: str) -> str:
    return f'class="{kind.strip()}" style="--mark:{escape(colour)}"'


def _text(x: float, y: float, text: str, anchor: Anchor, more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} dominant-baseline="central"{more}>{escape(text)}</text>'
