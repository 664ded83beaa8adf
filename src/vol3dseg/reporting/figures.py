"""Pictures: splits, and what all pictures share; the log of a training. Needs [report]."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from vol3dseg.datasets.splits import PARTS, Split
from vol3dseg.errors import RunError, reading
from vol3dseg.extras import load_extra
from vol3dseg.files import write_bytes

# Okabe and Ito, "Color Universal Design", 2008: told apart with any kind of colour vision. The
# order differs, because neighbouring classes must differ most, and yellow is lost on white paper.
COLOURS = ("#D55E00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#0072B2", "#E69F00")
# Yellow is lost above all as a thin line.
LINE_COLOURS = tuple(colour for colour in COLOURS if colour != "#F0E442")
VALIDATION = "val_"  # before the names of what Keras logs of the validation patches
_P = ParamSpec("_P")
_R = TypeVar("_R")
_LONGEST = 16_000  # side of a picture [pixels]; browsers show no more


def drawing(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function draw with matplotlib's own settings, whatever those of the program are."""

    @wraps(draw)
    def alike(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        matplotlib = load_extra("matplotlib", "report")
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            return draw(*args, **kwargs)

    return alike


@drawing
def save_split(path: Path, split: Split, volumes_ml: Mapping[str, float]) -> None:
    """Draw how many cases each part has, and how large the foreground [ml] of each case is."""
    figure = new_figure(7.0, 5.0)
    bar, boxes = figure.subplots(2, 1, height_ratios=[1, 5])
    parts = {name: split.part(name) for name in PARTS}
    _draw_shares(bar, parts)
    _draw_volumes(boxes, {name: [volumes_ml[i] for i in ids] for name, ids in parts.items() if ids})
    save_figure(figure, path)


def read_log(path: Path) -> dict[str, tuple[float, ...]]:
    """Return each column of Keras' training.log by epoch; NaN where an epoch has no value."""
    expected, remedy = "the log that vol3dseg train writes", "copy the whole run folder again"
    with reading(path, RunError, expected=expected, remedy=remedy):
        content = path.read_bytes()
    try:
        names, *rows = list(csv.reader(content.decode().splitlines())) or [[]]
        # Keras writes an empty cell or NA for what an epoch does not have.
        columns = [
            [float({"": "nan", "NA": "nan"}.get(cell, cell)) for cell in row]
            for row in zip(*rows, strict=True)
        ]
        log = {name: tuple(column) for name, column in zip(names, columns, strict=bool(rows))}
    except (ValueError, csv.Error) as error:
        raise RunError(
            f"is damaged ({error})", where=path, expected=expected, remedy=remedy
        ) from error
    if not rows:
        raise RunError("holds no epoch", where=path, remedy="train for at least one")
    return log


def _draw_shares(axes: Any, parts: Mapping[str, Sequence[str]]) -> None:
    left, total = 0, max(sum(map(len, parts.values())), 1)
    for number, (name, ids) in enumerate(parts.items()):
        label = f"{name}: {len(ids)} ({len(ids) / total:.0%})"
        axes.barh(0, len(ids), left=left, color=class_colour(number), label=label)
        left += len(ids)
    axes.set_yticks([])
    axes.set_xlim(0, total)
    axes.set_xlabel("cases")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _draw_volumes(axes: Any, volumes_ml: Mapping[str, Sequence[float]]) -> None:
    """Draw the quartiles of each part, and each case as a point beside the others."""
    rng = np.random.default_rng(0)  # moves points apart
    dots = {"s": 11, "alpha": 0.7, "edgecolors": "black", "linewidths": 0.3}
    for number, values in enumerate(volumes_ml.values()):
        places = number + rng.uniform(-0.22, 0.22, len(values))
        axes.scatter(places, values, color=class_colour(number), **dots)
        low, median, high = np.percentile(values, (25, 50, 75))
        # By hand, since axes.boxplot imports pyplot.
        axes.bar(number, high - low, width=0.6, bottom=low, fill=False, edgecolor="black")
        axes.plot([number - 0.3, number + 0.3], [median, median], color="black", linewidth=2.0)
    names = [f"{name}, median {np.median(v):.4g} ml" for name, v in volumes_ml.items()]
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("foreground of a case [ml]")
    axes.grid(axis="y", alpha=0.3)
    _scale_volumes(axes, np.array([v for values in volumes_ml.values() for v in values]))


def _scale_volumes(axes: Any, volumes_ml: Any) -> None:
    """Give volumes of several orders of magnitude a logarithmic axis, with plain numbers."""
    from matplotlib.ticker import LogFormatter, StrMethodFormatter

    positive = volumes_ml[volumes_ml > 0]
    if not positive.size or positive.max() < 10 * positive.min():
        return
    if positive.size < volumes_ml.size:  # a logarithm would lose the empty ones
        axes.set_yscale("symlog", linthresh=positive.min())
        axes.set_ylim(-0.3 * positive.min(), 2 * positive.max())
    else:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def epochs_of(values: Sequence[float]) -> tuple[Any, Any]:
    """Return the number of each epoch, from 1, and its value; NaN makes a gap in a line."""
    return np.arange(1, len(values) + 1), np.asarray(values)


def judged_epochs(values: Sequence[float]) -> tuple[Any, Any]:
    """Return the epochs that have a value, and those; for what only some of them are judged by."""
    epochs, found = epochs_of(values)
    return epochs[np.isfinite(found)], found[np.isfinite(found)]


def class_colour(number: int) -> tuple[float, float, float]:
    """Return the colour of foreground class `number`, from 0; RGB from 0 to 1."""
    # The eighth class and those after it have paler shades of the same colours.
    shade = 0.5 ** (number // len(COLOURS))
    parts = bytes.fromhex(COLOURS[number % len(COLOURS)].removeprefix("#"))
    red, green, blue = (1 - shade * (1 - part / 255) for part in parts)
    return red, green, blue


def new_figure(width: float, height: float) -> Any:
    """Return a figure [inches] without pyplot, which would keep it alive and want a screen."""
    figure = load_extra("matplotlib.figure", "report").Figure
    return figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    write_bytes(path, png(figure, dpi=110))


def png(figure: Any, dpi: float = 150) -> bytes:
    """Return a figure as PNG, the same every time; with fewer dots where it is very large."""
    content = io.BytesIO()
    dpi = min(dpi, _LONGEST / max(figure.get_size_inches()))
    figure.savefig(content, dpi=dpi, format="png", metadata={"Software": None})
    return content.getvalue()
