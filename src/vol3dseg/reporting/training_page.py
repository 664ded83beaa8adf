"""The page of a training: how far it is, its curves, and the same slice as it learns to see it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib import resources

from vol3dseg.config import VOLUME_DICE, Measure
from vol3dseg.evaluation.overlap import DICE
from vol3dseg.reporting.figures import VALIDATION
from vol3dseg.reporting.page import html_page, image_uri
from vol3dseg.reporting.strip import Slice, Strip
from vol3dseg.reporting.svg import INK, Axis, Chart, legend, line_colour

PAGE = "training.html"
Log = Mapping[str, Sequence[float]]  # of `read_log`
_TRAINING, _JUDGED, _WHOLE = "var(--accent)", INK, line_colour(6)  # colours of parts
_PATIENCE_S = 120  # beyond three epochs, until it is said that nothing comes any more
# The page is written anew while the training runs. It does not say by itself that it was killed.
_SCRIPT = """const status = document.getElementById("status");
if (status.dataset.running) {
  const silent = Date.now() / 1000 - Number(status.dataset.written);
  if (silent > Number(status.dataset.patience)) document.getElementById("silent").hidden = false;
  setTimeout(() => location.reload(), 30000);
}"""
_SILENT = (
    "Nothing has been written for long: an epoch, or what comes after the last one, takes longer "
    "than those before, or the training was stopped, and vol3dseg train --resume goes on with it."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a training is.

    Attributes
    ----------
    done, epochs : int
        How many epochs are done, and how many there are.
    epoch_s : float or None
        What the latest epoch took [s].
    left : str
        What is left, in words; empty where it is not known.
    ended : str
        How it ended, in words; empty while it runs.
    now : float
        Seconds since 1970.
    """

    done: int
    epochs: int
    epoch_s: float | None
    left: str
    ended: str
    now: float


@dataclass(frozen=True, slots=True)
class Subject:
    """What of a training stays the same: its name, what it learns from, what is shown of it.

    `settings` are lines of text; `validated` says whether there is a validation part; `best_by` is
    what the best epoch is chosen by, None where none is.
    """

    title: str
    settings: tuple[str, ...]
    classes: tuple[str, ...]
    validated: bool
    best_by: Measure | None
    shown: Slice


def training_page(subject: Subject, standing: Standing, log: Log, strip: Strip) -> str:
    """Return the whole HTML page; `log` is empty before the first epoch has ended."""
    parts = [_status(subject, standing, log)]
    if log:
        parts += ["<h2>Learning curves</h2>", f'<div class="charts">{_curves(subject, log)}</div>']
    parts += [_strip(subject, strip)]
    style = resources.files(__package__).joinpath("training_page.css").read_text("utf-8")
    return html_page(f"Training of {subject.title}", "\n".join(parts), style, _SCRIPT)


def best_epoch(log: Log, measure: Measure) -> int | None:
    """Return the epoch, from 1, whose checkpoint is the best by now; None where there is none."""
    found = [(value, -number) for number, value in enumerate(log.get(measure, ()), start=1)]
    finite = [(value, number) for value, number in found if math.isfinite(value)]
    if not finite:
        return None
    if measure == VOLUME_DICE:
        return -max(finite)[1]
    return -min(finite, key=lambda each: (each[0], -each[1]))[1]


def _status(subject: Subject, standing: Standing, log: Log) -> str:
    done, epochs = standing.done, standing.epochs
    said = [f"{done} of {epochs} epochs"]
    if standing.epoch_s is not None:
        said.append(f"{standing.epoch_s:.3g} s for the latest")
    if not standing.ended and standing.left:
        said.append(f"{standing.left} left")
    best = subject.best_by and best_epoch(log, subject.best_by)
    if best and subject.best_by:
        value = log[subject.best_by][best - 1]
        said.append(f"best epoch {best} ({subject.best_by} {value:.4f})")
    written = datetime.fromtimestamp(standing.now).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    said.append(f"written {written}")
    running = "" if standing.ended else "true"
    patience = 3 * (standing.epoch_s or 600) + _PATIENCE_S
    lines = [
        f'<p id="status" data-running="{running}" data-written="{standing.now:.0f}" '
        f'data-patience="{patience:.0f}">{escape(" · ".join(said))}</p>',
        f'<progress max="{epochs}" value="{done}" aria-label="epochs that are done"></progress>',
        f'<p id="silent" class="warning" hidden>{escape(_SILENT)}</p>',
    ]
    ended = standing.ended or "Running. This page loads itself again every 30 seconds."
    lines.append(f'<p class="ended">{escape(ended)}</p>')
    lines += [f'<p class="note settings">{escape(line)}</p>' for line in subject.settings]
    return "\n".join(lines)


def _curves(subject: Subject, log: Log) -> str:
    mean = DICE.name
    dice = [
        (log.get(mean, ()), "training patches", _TRAINING, "thin"),
        (log.get(VALIDATION + mean, ()), "validation patches", _JUDGED, ""),
        (log.get(VOLUME_DICE, ()), "whole volumes", _WHOLE, "dashed"),
    ]
    loss = [
        (log.get("loss", ()), "training patches", _TRAINING, "thin"),
        (log.get(f"{VALIDATION}loss", ()), "validation patches", _JUDGED, ""),
    ]
    charts = [_chart("Loss", "loss", loss), _chart("Dice, mean of classes", "Dice", dice)]
    prefix = VALIDATION if subject.validated else ""
    each = [
        (log[column], name, line_colour(number), "")
        for number, (column, name) in enumerate(_structures(subject.classes, log, prefix))
    ]
    part = "validation" if subject.validated else "training"
    charts.append(_chart(f"Dice of each class, {part} patches", "Dice", each))
    rate = [(log.get("learning_rate", ()), "", INK, "")]
    charts.append(_chart("Learning rate", "rate", rate))
    return "\n".join(filter(None, charts))


def _structures(classes: Sequence[str], log: Log, prefix: str) -> list[tuple[str, str]]:
    """Return column and name of classes, in their order, then of regions; all that the log has."""
    named = {prefix + DICE.column(name): name for name in classes}
    for column in log:
        if column.startswith(prefix) and (name := DICE.class_in(column.removeprefix(prefix))):
            named.setdefault(column, name)
    return [(column, name) for column, name in named.items() if column in log]


def _chart(caption: str, unit: str, lines: Iterable[tuple[Sequence[float], str, str, str]]) -> str:
    """Return a figure of lines over epochs: values, name, colour and kind of each."""
    lines = [line for line in lines if any(map(math.isfinite, line[0]))]
    if not lines:
        return ""
    epochs = range(1, max(len(values) for values, *_ in lines) + 1)
    every = [value for values, *_ in lines for value in values]
    y = Axis.over(unit, [0.0, 1.0] if unit == "Dice" else every)
    chart = Chart(f"{caption} over epochs", Axis.over("epoch", epochs, whole=True), y)
    names = {}
    for values, name, colour, kind in lines:
        points = zip(epochs, values, strict=False)
        judged = [(at, value) for at, value in points if math.isfinite(value)]
        if kind == "dashed":  # few epochs have a value
            for at, value in judged:
                chart.dot(at, value, colour, 3 if len(judged) <= 50 else 1.5)
        chart.line(judged if kind == "dashed" else zip(epochs, values, strict=False), colour, kind)
        if name:
            names[f"{name} {judged[-1][1]:.4f}"] = colour
    said = legend(names) if names else ""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{chart.svg()}{said}</figure>"


def _strip(subject: Subject, strip: Strip) -> str:
    shown, part = subject.shown, "validation" if subject.validated else "training"
    pictures = [
        (shown.modality, image_uri(shown.draw(None), "webp")),
        ("reference", image_uri(shown.draw(shown.reference), "webp")),
    ]
    for each in strip.predictions:
        pictures.append((f"epoch {each.epoch}", f"data:image/webp;base64,{each.picture}"))
    panels = "\n".join(
        f'<figure><img src="{uri}" alt="{escape(name)}"><figcaption>{escape(name)}</figcaption>'
        "</figure>"
        for name, uri in pictures
    )
    which = f"One {shown.plane} slice of the {part} case {shown.case}"
    if not subject.validated:
        which += ", which the network learns from, since there is no validation part"
    how = "as it was predicted after some epochs, in one patch, by the weights to deploy"
    colours = {name: line_colour(number) for number, name in enumerate(subject.classes)}
    return (
        f'<h2>What it sees</h2>\n<p class="note">{escape(f"{which}, {how}.")}</p>\n'
        f'{legend(colours)}\n<div class="strip">{panels}</div>'
    )
