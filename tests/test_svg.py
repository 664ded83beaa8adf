"""Charts as inline SVG: where marks lie, what names may hold, and how small they stay."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from vol3dseg.reporting.page import html_page
from vol3dseg.reporting.svg import INK, Axis, Chart, legend, line_colour

SQUARE = Axis("", 0.0, 1.0, ())


def chart(x=SQUARE, y=SQUARE):
    return Chart("what is seen", x, y, size=(100, 100))


def marks(drawn, tag):
    return ET.fromstring(drawn.svg()).findall(f".//{tag}")


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 1.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([-3, 0.2], ["-3", "-2", "-1", "0", "1"]),
        ([1e-7, 3e-7], ["1e-07", "1.5e-07", "2e-07", "2.5e-07", "3e-07"]),
        ([0.5], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.0, math.inf, math.nan, 2e6], ["0", "5e+05", "1e+06", "1.5e+06", "2e+06"]),
    ],
)
def test_ticks_are_round_and_hold_all_values(values, ticks):
    axis = Axis.over("x", values)
    assert [text for _, text in axis.ticks] == ticks
    finite = [value for value in values if math.isfinite(value)]
    assert axis.low <= min(finite) <= max(finite) <= axis.high


@pytest.mark.parametrize(("last", "ticks"), [(1, ["1", "2"]), (3, ["1", "2", "3"])])
def test_epochs_are_whole_and_begin_where_they_begin(last, ticks):
    axis = Axis.over("epoch", range(1, last + 1), whole=True)
    assert axis.low == 1
    assert [text for _, text in axis.ticks] == ticks


def test_marks_lie_where_the_axes_say():
    drawn = chart()
    for x, y in ((0, 0), (1, 1), (2, 0.5), (math.nan, 0)):
        drawn.dot(x, y)
    low, high, beyond = [(float(d.get("cx")), float(d.get("cy"))) for d in marks(drawn, "circle")]
    assert low[0] < high[0] == beyond[0] <= 100
    assert 0 <= high[1] < beyond[1] < low[1] <= 100


def test_a_line_has_gaps_and_a_point_by_itself_is_a_dot():
    drawn = chart(Axis("", 0, 4, ()))
    drawn.line([(0, 0), (1, 1), (2, math.nan), (3, 1)], line_colour(2), "thin")
    (line,) = marks(drawn, "polyline")
    assert len(line.get("points").split()) == 2
    assert line.get("class") == "line thin"
    assert len(marks(drawn, "circle")) == 1


def test_a_line_of_very_many_points_stays_small_and_keeps_its_extremes():
    epochs = range(100_000)
    values = [math.sin(epoch / 1000) + 3 * (epoch == 70_001) for epoch in epochs]
    drawn = Chart("x", Axis.over("", epochs, whole=True), Axis.over("", values))
    drawn.line(zip(epochs, values, strict=True))
    assert len(drawn.svg()) < 10_000
    heights = [float(p.split(",")[1]) for p in marks(drawn, "polyline")[0].get("points").split()]
    best = Chart("x", Axis.over("", epochs, whole=True), Axis.over("", values))
    best.dot(70_001, max(values))
    assert min(heights) == float(marks(best, "circle")[0].get("cy"))


HOSTILE = "</text><script>document.title='!'</script>\"'&"


def test_names_are_shown_as_they_are(browse, tmp_path):
    drawn = Chart(HOSTILE, Axis.over(HOSTILE, [0, 1]), Axis.of_names("", [HOSTILE, "n" * 99]))
    drawn.dot(0.5, 0, line_colour(9), title=HOSTILE)
    drawn.box((0.1, 0.8), (0.4, 1.2), INK, "hollow")
    drawn.text(0.5, 1, HOSTILE)
    ET.fromstring(drawn.svg())
    (tmp_path / "page.html").write_text(html_page("x", drawn.svg() + legend({HOSTILE: INK})))
    dom, console = browse(tmp_path / "page.html")
    assert not console
    assert "<title>x</title>" in dom
    assert not re.search("<script", dom)
