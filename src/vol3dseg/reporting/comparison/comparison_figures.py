"""Pictures of a comparison, as PNG. Needs the extra [report].

Runs bear their letters; each has a colour and a line style of its own, so that 24 can be told
apart.
"""

import io
import textwrap
from math import isnan
from typing import Any

import numpy as np

from vol3dseg.evaluation.overlap import DICE
from vol3dseg.reporting.comparison.comparison import Comparison
from vol3dseg.reporting.figures import COLOURS, new_figure

# Yellow is lost on white paper, above all as a thin line.
_COLOURS = tuple(colour for colour in COLOURS if colour != "#F0E442")
_STYLES = (("-", "solid"), ("--", "dashed"), (":", "dotted"), ("-.", "dash-dotted"))
_DPI = 150
_LONGEST = 16_000  # side of a picture [pixels]; browsers show no more
_LETTERS = 20  # in a line of a panel's title
_WIDTH = 10.5  # of a row of panels [inch]; wider pictures have too small a print on a page
_GREY = "#888888"
_DIFFERENCE = "difference of Dice, first − second"


def colour(number: int) -> str:
    """Return the colour of a run, as CSS and matplotlib write it."""
    return _COLOURS[number % len(_COLOURS)]


def line_style(number: int) -> str:
    """Return the line style of a run as matplotlib writes it."""
    return _STYLES[_style(number)][0]


def line_style_name(number: int) -> str:
    """Return the line style of a run in words."""
    return _STYLES[_style(number)][1]


def curve_columns(comparison: Comparison) -> dict[str, str]:
    """Return which columns of training.log can be drawn, each with what it is."""
    known = {"val_loss": "Loss (val_loss)", "val_dice": "Dice, mean of classes (val_dice)"}
    for name in comparison.foreground:
        column = f"val_{DICE.column(name)}"
        known[column] = f"Dice, {name} ({column})"
    columns = {column for entry in comparison.entries for column in entry.run.curves}
    return {column: caption for column, caption in known.items() if column in columns}


def draw_curves(comparison: Comparison, column: str) -> bytes:
    """Draw one column of training.log over epochs, a line for each run."""
    figure = new_figure(6.2, 3.9)
    axes = figure.subplots()
    for number, entry in enumerate(comparison.entries):
        values = entry.run.curves.get(column)
        if values is None:
            continue
        epochs = np.arange(1, len(values) + 1)
        style = {"color": colour(number), "linestyle": line_style(number)}
        axes.plot(epochs, values, **style, linewidth=1.6, label=entry.letter)
        chosen = entry.run.manifest.members[0].epoch
        if chosen <= len(values):
            axes.plot(chosen, values[chosen - 1], "o", color=colour(number), markersize=5)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss" if column == "val_loss" else "Dice")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if column != "val_loss":
        axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, fontsize="small", handlelength=3)
    return _png(figure)


def draw_differences(comparison: Comparison) -> bytes:
    """Draw mean differences with their intervals: a panel for each class, a line for each pair.

    Where the interval excludes 0 the dot is filled.
    """
    structures, pairs = comparison.judged, comparison.pairs
    down, across = _rows(len(structures), 2.3)
    figure = new_figure(2.3 * across + 1.2, (0.26 * len(pairs) + 1.0) * down + 0.3)
    panels = _panels(figure, (down, across), len(structures), sharex=True)
    places = np.arange(len(pairs))[::-1]
    for panel, structure in zip(panels, structures, strict=True):
        panel.axvline(0, color=_GREY, linewidth=1)
        for place, pair in zip(places, pairs, strict=True):
            found = next(d for d in pair.differences if d.structure == structure)
            _dot(panel, place, found.mean, (found.low, found.high), found.excludes_zero)
        panel.set_title(_wrapped(structure), fontsize="medium", parse_math=False)
        panel.grid(axis="x", alpha=0.3)
        panel.tick_params(axis="y", length=0)
        panel.tick_params(axis="x", labelbottom=True)  # a panel may have none below it
    panels[0].set_yticks(places, [f"{pair.first} − {pair.second}" for pair in pairs])
    panels[0].set_ylim(-0.7, len(pairs) - 0.3)
    figure.supxlabel(_DIFFERENCE, fontsize="medium")
    return _png(figure)


def draw_cases(comparison: Comparison) -> bytes:
    """Draw the Dice of every case: a panel for each class, a strip of dots for each run.

    The black line is the mean. With two runs, grey lines join the cases.
    """
    structures, entries = comparison.judged, comparison.entries
    width = max(2.0, 0.42 * len(entries) + 0.5)
    down, across = _rows(len(structures), width)
    figure = new_figure(width * across + 0.8, (3.4 if down == 1 else 2.7) * down + 0.4)
    panels = _panels(figure, (down, across), len(structures))
    shifts = _shifts(len(comparison.cases))
    for panel, structure in zip(panels, structures, strict=True):
        strips = [_values(comparison, number, structure) for number in range(len(entries))]
        if len(strips) == 2:
            ends = [shifts, 1 + shifts]
            panel.plot(ends, strips, color=_GREY, linewidth=0.5, alpha=0.5, zorder=1)
        for number, values in enumerate(strips):
            style = {"color": colour(number), "alpha": 0.65, "linewidths": 0}
            panel.scatter(number + shifts, values, s=14, zorder=2, **style)
            mean = entries[number].statistics[structure].mean
            if not isnan(mean):
                panel.hlines(mean, number - 0.35, number + 0.35, color="black", zorder=3)
        panel.set_xticks(range(len(entries)), [entry.letter for entry in entries])
        panel.set_xlim(-0.6, len(entries) - 0.4)
        panel.set_title(_wrapped(structure), fontsize="medium", parse_math=False)
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylim(-0.03, 1.03)
    figure.supylabel("Dice of a case", fontsize="medium")
    return _png(figure)


def _rows(count: int, width: float) -> tuple[int, int]:
    """Return how many panels of a width [inch] go below and beside each other."""
    across = max(1, min(count, int(_WIDTH / width)))
    return -(-count // across), across


def _panels(figure: Any, shape: tuple[int, int], count: int, sharex: bool = False) -> list[Any]:
    """Return `count` panels, row by row; what is left over of the last row stays empty."""
    every = list(figure.subplots(*shape, sharex=sharex, sharey=True, squeeze=False).flat)
    for panel in every[count:]:
        panel.set_axis_off()
    return every[:count]


def _dot(axes: Any, place: int, mean: float, ends: tuple[float, float], filled: bool) -> None:
    shade = "black" if filled else _GREY
    if not isnan(ends[0]):
        axes.hlines(place, *ends, color=shade, linewidth=1.4)
    if not isnan(mean):
        face = shade if filled else "white"
        axes.plot(mean, place, "o", color=shade, markerfacecolor=face, markersize=4)


def _values(comparison: Comparison, number: int, structure: str) -> list[float]:
    entry = comparison.entries[number]
    return [entry.value(case, structure) for case in comparison.cases]


def _shifts(count: int) -> Any:
    """Return where in its strip each case stands: spread evenly, the same for every run."""
    golden = (5**0.5 - 1) / 2
    return (np.arange(count) * golden % 1 - 0.5) * 0.5


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _LETTERS, max_lines=3, placeholder="…"))


def _style(number: int) -> int:
    return (number + number // len(_COLOURS)) % len(_STYLES)


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    dpi = min(_DPI, _LONGEST / max(figure.get_size_inches()))
    figure.savefig(content, dpi=dpi, format="png", metadata={"Software": None})
    return content.getvalue()
