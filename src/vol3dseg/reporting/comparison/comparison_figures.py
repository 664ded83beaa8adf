"""Pictures of a comparison, as PNG: runs bear letters, colours and line styles. Needs [report]."""

import math
import textwrap
from typing import Any

import numpy as np

from vol3dseg.config import VOLUME_DICE
from vol3dseg.evaluation.overlap import DICE
from vol3dseg.reporting.comparison.common_cases import Comparison
from vol3dseg.reporting.figures import (
    LINE_COLOURS,
    VALIDATION,
    drawing,
    epochs_of,
    judged_epochs,
    new_figure,
    png,
)

# As matplotlib and CSS write them; CSS knows no dash-dotted line.
_STYLES = (("-", "solid"), ("--", "dashed"), (":", "dotted"), ("-.", "double"))
_LETTERS = 20  # in a line of a panel's title
_WIDTH = 10.5  # of a row of panels [inch]; wider pictures have too small a print on a page
_GREY = "#888888"
_LOSS = f"{VALIDATION}loss"


def colour(number: int) -> str:
    """Return the colour of a run, as CSS and matplotlib write it."""
    return LINE_COLOURS[number % len(LINE_COLOURS)]


def line_style(number: int) -> tuple[str, str]:
    """Return the line style of a run, as matplotlib and as CSS write it."""
    return _STYLES[(number + number // len(LINE_COLOURS)) % len(_STYLES)]


def curve_columns(comparison: Comparison) -> dict[str, str]:
    """Return which columns of training.log can be drawn, each with what it is."""
    mean = VALIDATION + DICE.name
    known = {_LOSS: f"Loss ({_LOSS})", mean: f"{DICE.title}, mean of classes ({mean})"}
    for name in comparison.foreground:
        column = VALIDATION + DICE.column(name)
        known[column] = f"{DICE.title}, {name} ({column})"
    known[VOLUME_DICE] = f"{DICE.title} of whole volumes, mean of classes ({VOLUME_DICE})"
    columns = {column for entry in comparison.entries for column in entry.run.curves}
    return {column: caption for column, caption in known.items() if column in columns}


@drawing
def draw_curves(comparison: Comparison, column: str) -> bytes:
    """Draw one column of training.log over epochs, a line for each run."""
    figure = new_figure(6.2, 3.9)
    axes = figure.subplots()
    for number, entry in enumerate(comparison.entries):
        values = entry.run.curves.get(column)
        if values is None:
            continue
        style = {"color": colour(number), "linestyle": line_style(number)[0]}
        points = judged_epochs(values) if column == VOLUME_DICE else epochs_of(values)
        axes.plot(*points, **style, linewidth=1.6, label=entry.letter)
        chosen = entry.run.training.epoch
        if chosen <= len(values):
            axes.plot(chosen, values[chosen - 1], "o", color=colour(number), markersize=5)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss" if column == _LOSS else DICE.title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if column != _LOSS:
        axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, fontsize="small", handlelength=3)
    return png(figure)


@drawing
def draw_differences(comparison: Comparison) -> bytes:
    """Draw mean differences with their intervals: a panel for each class, a line for each pair."""
    pairs = comparison.pairs
    figure, panels = _panels(comparison.compared, 2.3, 1.2, 0.26 * len(pairs) + 1.0, sharex=True)
    places = np.arange(len(pairs))[::-1]
    for number, panel in enumerate(panels):
        panel.axvline(0, color=_GREY, linewidth=1)
        for place, pair in zip(places, pairs, strict=True):
            found = pair.differences[number]
            shade = "black" if found.excludes_zero else _GREY
            face = shade if found.excludes_zero else "white"
            panel.hlines(place, found.low, found.high, color=shade, linewidth=1.4)
            panel.plot(found.mean, place, "o", color=shade, markerfacecolor=face, markersize=4)
        panel.grid(axis="x", alpha=0.3)
        panel.tick_params(axis="y", length=0)
        panel.tick_params(axis="x", labelbottom=True)  # a panel may have none below it
    panels[0].set_yticks(places, [pair.title for pair in pairs])
    panels[0].set_ylim(-0.7, len(pairs) - 0.3)
    figure.supxlabel("difference of Dice, first − second", fontsize="medium")
    return png(figure)


@drawing
def draw_cases(comparison: Comparison) -> bytes:
    """Draw the Dice of every case: a panel for each class, a strip of dots for each run."""
    structures, entries = comparison.compared, comparison.entries
    width = max(2.0, 0.42 * len(entries) + 0.5)
    figure, panels = _panels(structures, width, 0.8, 3.0)
    golden = (5**0.5 - 1) / 2  # spreads the cases evenly over a strip, alike for every run
    shifts = (np.arange(len(comparison.cases)) * golden % 1 - 0.5) * 0.5
    for panel, structure in zip(panels, structures, strict=True):
        strips = [list(entry.scores.dice[structure].values()) for entry in entries]
        if len(strips) == 2:
            panel.plot([shifts, 1 + shifts], strips, color=_GREY, lw=0.5, alpha=0.5, zorder=1)
        for number, (entry, values) in enumerate(zip(entries, strips, strict=True)):
            style = {"color": colour(number), "alpha": 0.65, "linewidths": 0}
            panel.scatter(number + shifts, values, s=14, zorder=2, **style)
            mean = entry.statistics[structure].mean
            if not math.isnan(mean):
                panel.hlines(mean, number - 0.35, number + 0.35, color="black", zorder=3)
        panel.set_xticks(range(len(entries)), [entry.letter for entry in entries])
        panel.set_xlim(-0.6, len(entries) - 0.4)
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylim(-0.03, 1.03)
    figure.supylabel("Dice of a case", fontsize="medium")
    return png(figure)


def _panels(
    titles: tuple[str, ...], width: float, margin: float, height: float, sharex: bool = False
) -> tuple[Any, list[Any]]:
    """Return a figure with a panel [inches] under each title, row by row; all have one y axis."""
    across = max(1, min(len(titles), int(_WIDTH / width)))
    down = math.ceil(len(titles) / across)
    figure = new_figure(width * across + margin, height * down + 0.3)
    panels = list(figure.subplots(down, across, sharex=sharex, sharey=True, squeeze=False).flat)
    for panel in panels[len(titles) :]:
        panel.set_axis_off()
    for panel, title in zip(panels, titles, strict=False):
        lines = textwrap.wrap(title, _LETTERS, max_lines=3, placeholder="…")
        panel.set_title("\n".join(lines), fontsize="medium", parse_math=False)
    return figure, panels[: len(titles)]
