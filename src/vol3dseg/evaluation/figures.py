"""Pictures: overlays, splits, learning curves. Needs the extra [report]."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import MissingExtraError
from vol3dseg.files import atomic_path
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.labels import Segmentation
from vol3dseg.volumes.resampling import resample

# Okabe and Ito, "Color Universal Design", 2008: told apart with any kind of colour vision.
COLOURS = ("#E69F00", "#56B4E9", "#D55E00", "#009E73", "#F0E442", "#0072B2", "#CC79A7")


def save_overlay(
    path: Path,
    image: NDArray[np.float32],
    reference: Segmentation | None,
    prediction: Segmentation,
    title: str,
) -> None:
    """Draw image, reference and prediction side by side, on the slice with most foreground.

    Axial, in radiological view: the subject's left is on the right of the picture, front is up.

    Parameters
    ----------
    path : Path
        A .png file.
    image : (i, j, k) array
        On the grid of the prediction.
    reference : Segmentation or None
    prediction : Segmentation
    title : str
    """
    source = prediction.geometry
    shown = reference or prediction
    upright = _upright(shown.array, source)
    level = int(np.count_nonzero(upright, axis=(0, 1)).argmax())
    panels: list[tuple[str, NDArray[np.uint8] | None]] = [("image", None)]
    if reference is not None:
        panels.append(("reference", _upright(reference.array, source)[..., level]))
    panels.append(("prediction", _upright(prediction.array, source)[..., level]))
    grey = _upright(image, source)[..., level]
    names = prediction.labels.foreground
    figure = _figure(4.2 * len(panels), 5.0)
    for axes, (name, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        low, high = np.percentile(grey, (1, 99.5))
        axes.imshow(_radiological(grey), cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        if label is not None:
            axes.imshow(_painted(_radiological(label), len(names)), interpolation="nearest")
        axes.set_title(name)
        axes.set_axis_off()
    _legend(figure, names)
    figure.suptitle(f"{title}, axial slice {level} (R on the left)")
    _save(figure, path)


def save_split(path: Path, parts: Mapping[str, Sequence[str]]) -> None:
    """Draw how many cases each part of a split has.

    Parameters
    ----------
    path : Path
        A .png file.
    parts : mapping from part to case ids
    """
    figure = _figure(7.0, 1.9)
    axes = figure.subplots()
    left, total = 0, sum(map(len, parts.values()))
    for colour, (name, ids) in zip(COLOURS, parts.items(), strict=False):
        if not ids:
            continue
        axes.barh(0, len(ids), left=left, color=colour, label=f"{name}: {len(ids)}")
        share = f"{len(ids) / total:.0%}"
        axes.text(left + len(ids) / 2, 0, share, ha="center", va="center")
        left += len(ids)
    axes.set_yticks([])
    axes.set_xlim(0, total)
    axes.set_xlabel("cases")
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
    """
    with training_log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0]) if rows else []
    dice = [c for c in columns if c.startswith("dice")]
    figure = _figure(11.0, 4.2)
    loss_axes, dice_axes = figure.subplots(1, 2)
    _draw(loss_axes, rows, ["loss"])
    _draw(dice_axes, rows, dice)
    loss_axes.set_ylabel("loss")
    dice_axes.set_ylabel("Dice of patches")
    dice_axes.set_ylim(0, 1)
    for axes in (loss_axes, dice_axes):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    _save(figure, path)


def _draw(axes: Any, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Draw columns of the log: a thin line for training, a thick one for validation."""
    epochs = np.arange(1, len(rows) + 1)
    for colour, column in zip(COLOURS, columns, strict=False):
        for name, width in ((column, 1.0), (f"val_{column}", 2.2)):
            if rows and name in rows[0]:
                values = [float(row[name] or "nan") for row in rows]
                axes.plot(epochs, values, color=colour, linewidth=width, label=name)


def _upright(array: NDArray[Any], source: Geometry) -> NDArray[Any]:
    return resample(array, source, source.canonical())


def _radiological(plane: NDArray[Any]) -> NDArray[Any]:
    """Turn an (i, j) plane in RAS axes so that front is up and the subject's right is left."""
    return np.flip(plane.T, axis=0)[:, ::-1]


def _painted(label: NDArray[np.uint8], classes: int) -> NDArray[np.float64]:
    """Return an RGBA picture of class indices; background is transparent."""
    from matplotlib.colors import to_rgba

    table = [(0.0, 0.0, 0.0, 0.0)]
    table += [to_rgba(COLOURS[n % len(COLOURS)], 0.65) for n in range(classes)]
    return np.array(table)[label]


def _legend(figure: Any, names: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=COLOURS[n % len(COLOURS)], label=name) for n, name in enumerate(names)]
    figure.legend(handles=handles, loc="lower center", ncols=len(names), frameon=False)


def _figure(width: float, height: float) -> Any:
    """Return a matplotlib figure without pyplot, which would keep it alive and want a screen."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
