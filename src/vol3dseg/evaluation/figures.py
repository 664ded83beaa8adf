"""Pictures: overlays, splits, learning curves. Needs the extra [report]."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import EvaluationError, MissingExtraError
from vol3dseg.files import atomic_path
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.labels import Segmentation
from vol3dseg.volumes.resampling import resample

# Okabe and Ito, "Color Universal Design", 2008: told apart with any kind of colour vision. The
# order differs, because neighbouring classes must differ most, and yellow is lost on white paper.
COLOURS = ("#D55E00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#0072B2", "#E69F00")
_LINE_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_TRAINING, _VALIDATION = 1.0, 2.4  # line widths [pt]


def save_overlay(
    path: Path,
    image: NDArray[np.float32],
    reference: Segmentation | None,
    prediction: Segmentation,
    title: str,
) -> None:
    """Draw image, reference and prediction side by side, on the slice with most foreground.

    Axial, in radiological view: the subject's right is on the left of the picture, front is up.
    The slice is chosen by the reference; by the prediction where there is none or it is empty.

    Parameters
    ----------
    path : Path
        A .png file.
    image : (i, j, k) array
        On the grid of the prediction.
    reference : Segmentation or None
    prediction : Segmentation
    title : str

    Raises
    ------
    EvaluationError
        The three do not lie on one grid.
    MissingExtraError
        matplotlib is not installed.
    """
    grid = prediction.geometry
    if image.shape != grid.shape or not (reference is None or reference.geometry.fits(grid)):
        found = f"image {image.shape}, reference {reference and str(reference.geometry)}"
        raise EvaluationError(f"{title}: {found} and prediction {grid} must lie on one grid")
    labels = {} if reference is None else {"reference": _upright(reference.array, grid)}
    labels["prediction"] = _upright(prediction.array, grid)
    level = _fullest(list(labels.values()))
    grey = _radiological(_upright(image, grid)[..., level])
    names, (across, up, _) = prediction.labels.foreground, grid.canonical().spacing_mm
    figure = _figure(4.2 * (len(labels) + 1), 4.2 * up * grey.shape[0] / across / grey.shape[1] + 1)
    panels = figure.subplots(1, len(labels) + 1)
    for axes, name in zip(panels, ("image", *labels), strict=True):
        axes.imshow(grey, cmap="gray", **_window(grey), aspect=up / across)
        axes.set_title(name)
        axes.set_axis_off()
        axes.text(0.02, 0.5, "R", color="white", transform=axes.transAxes, va="center")
    for axes, label in zip(panels[1:], labels.values(), strict=True):
        picture = _painted(_radiological(label[..., level]), len(names))
        axes.imshow(picture, interpolation="nearest", aspect=up / across)
    _name_classes(figure, names)
    figure.suptitle(f"{title}, axial slice {level}, R: the subject's right", parse_math=False)
    _save(figure, path)


def save_split(path: Path, parts: Mapping[str, Sequence[str]]) -> None:
    """Draw how many cases each part of a split has.

    Parameters
    ----------
    path : Path
        A .png file.
    parts : mapping from part to case ids

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    figure = _figure(7.0, 1.7)
    axes = figure.subplots()
    left, total = 0, max(sum(map(len, parts.values())), 1)
    for number, (name, ids) in enumerate(parts.items()):
        label = f"{name}: {len(ids)} ({len(ids) / total:.0%})"
        axes.barh(0, len(ids), left=left, color=_colour(number), label=label)
        left += len(ids)
    axes.set_yticks([])
    axes.set_xlim(0, total)
    axes.set_xlabel("cases")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    _save(figure, path)


def save_curves(path: Path, training_log: Path) -> None:
    """Draw loss and Dice over epochs, for training and validation patches.

    Parameters
    ----------
    path : Path
        A .png file.
    training_log : Path
        Of Keras' CSVLogger.

    Raises
    ------
    EvaluationError
        The log holds no epoch.
    MissingExtraError
        matplotlib is not installed.
    """
    with training_log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise EvaluationError(f"{training_log}: holds no epoch; train for at least one")
    dice = [column for column in rows[0] if column == "dice" or column.startswith("dice_")]
    figure = _figure(11.0, 4.2)
    axes_of_loss, axes_of_dice = figure.subplots(1, 2)
    _draw(axes_of_loss, rows, {"loss": "loss"})
    _draw(axes_of_dice, rows, {c: c.removeprefix("dice_").replace("_", " ") for c in dice})
    axes_of_loss.set_ylabel("loss")
    axes_of_dice.set_ylabel("Dice of patches")
    axes_of_dice.set_ylim(0, 1)
    figure.suptitle("training patches: thin lines; validation patches: thick lines", size="medium")
    _save(figure, path)


def _draw(axes: Any, rows: Sequence[Mapping[str, str]], names: Mapping[str, str]) -> None:
    """Draw columns of the log under their names: thin for training, thick for validation."""
    epochs = np.arange(1, len(rows) + 1)
    marker = "o" if len(rows) == 1 else None  # one epoch makes no line
    for number, (column, name) in enumerate(names.items()):
        colour = _LINE_COLOURS[number % len(_LINE_COLOURS)]
        for key, width in ((column, _TRAINING), (f"val_{column}", _VALIDATION)):
            if key in rows[0]:
                values = [float(row[key] or "nan") for row in rows]
                label = "mean" if name == "dice" else name
                axes.plot(
                    epochs,
                    values,
                    color=colour,
                    linewidth=width,
                    marker=marker,
                    label=label if key == column else None,
                )
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize="small")


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _upright(array: NDArray[Any], source: Geometry) -> NDArray[Any]:
    return resample(array, source, source.canonical())


def _fullest(labels: Sequence[NDArray[np.uint8]]) -> int:
    """Return the axial slice with most foreground in the first map that has any; the middle."""
    for label in labels:
        areas = np.count_nonzero(label, axis=(0, 1))
        if areas.any():
            return int(areas.argmax())
    return int(labels[0].shape[2] // 2)


def _radiological(plane: NDArray[Any]) -> NDArray[Any]:
    """Turn an (i, j) plane in RAS axes so that front is up and the subject's right is left."""
    return np.flip(plane.T, axis=(0, 1))


def _window(plane: NDArray[Any]) -> dict[str, float]:
    """Return where grey begins and ends; zeros around the body do not count."""
    inside = plane[plane != 0]
    low, high = np.percentile(inside, (0.5, 99.5)) if inside.size else (0.0, 1.0)
    return {"vmin": min(float(low), 0.0), "vmax": max(float(high), float(low) + 1e-6)}


def _painted(label: NDArray[np.uint8], classes: int) -> NDArray[np.float64]:
    """Return an RGBA picture of class indices; background is transparent."""
    from matplotlib.colors import to_rgba

    colours = [to_rgba(_colour(number), 0.7) for number in range(classes)]
    return np.array([(0.0, 0.0, 0.0, 0.0), *colours])[label]


def _name_classes(figure: Any, names: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=_colour(n), label=name) for n, name in enumerate(names)]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(names), 6), frameon=False
    )


def _figure(width: float, height: float) -> Any:
    """Return a matplotlib figure without pyplot, which would keep it alive and want a screen."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
