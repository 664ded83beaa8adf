"""A segmentation over its image: image, reference, prediction, each class. Needs [report]."""

import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import read_segmentation
from vol3dseg.errors import Vol3dSegError
from vol3dseg.evaluation.overlap import DICE, confusion, one_against_rest
from vol3dseg.evaluation.scoring import require_same_classes
from vol3dseg.quality.background import Scale, Window, grey_scale, inside_of
from vol3dseg.reporting.figures import class_colour, drawing, new_figure, save_figure
from vol3dseg.reporting.slices import LEFT_SIDE, Plane, Slices, SliceView, slices_of
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume, one_grid

_WIDTH, _HEIGHT = 3.4, 3.8  # of the largest view [inches]
_OPACITY = 0.7  # of classes over the image
_PER_ROW = 4  # views, at most
_LETTERS = 10  # per inch of a title


@dataclass(frozen=True, slots=True)
class Look:
    """What of a case is drawn; see `draw_files`."""

    plane: Plane = "axial"
    slices: tuple[int, ...] = ()
    window: Window | None = None


_DEFAULT = Look()


@drawing
def save_overlay(
    path: Path,
    volume: Volume,
    prediction: Segmentation,
    reference: Segmentation | None,
    title: str,
    look: Look = _DEFAULT,
) -> None:
    """Draw the image, the reference, the prediction with all classes, then each class by itself.

    Slices of the first modality, in radiological view: the subject's right is on the left of the
    picture, front is up. Which ones says `slices_of`; each has a row of its own where they are
    several, and a class is drawn where most of it is. A class by itself is filled where it was
    predicted and outlined where the reference has it; its title gives the Dice of the whole case.
    All lie on one grid (otherwise GridError) and have the same classes (otherwise EvaluationError).
    """
    grids = {"image": volume.geometry, "prediction": prediction.geometry}
    if reference is not None:
        grids["reference"] = reference.geometry
        require_same_classes(title, prediction.labels, reference.labels)
    one_grid(grids, f"case {title}", remedy="draw over the scan that was segmented")
    found = slices_of(volume, prediction, reference, look.plane, look.slices)
    several = len(found.views) > 1
    whole = 1 + (reference is not None)  # maps with all classes
    classes = range(1, len(prediction.labels.classes))
    count = len(found.views) * (1 + whole) + len(prediction.labels.foreground)
    figure, panels = _panels(found.views[0], count, 1 + whole if several else 0)
    scale, places = _grey(found, volume.modalities[0], look.window), iter(panels)
    name = volume.modalities[0] + (f", {scale}" if scale.fixed else "")
    for view in found.views:
        at = f"\nslice {view.number}" if several else ""
        _draw_image(axes := next(places), view, found.plane, scale, name + at)
        maps = {"reference": view.reference, "prediction": view.prediction}
        for which, label in maps.items():
            if label is not None:
                _draw_image(axes := next(places), view, found.plane, scale, which + at)
                _fill(axes, view, label, classes)
    for index, text in zip(classes, _class_titles(prediction, reference), strict=True):
        view, there = found.best(index)
        at = f"\nslice {view.number}" if several else ""
        missing = "\nin none of these slices" if several else "\nnot in this slice"
        _draw_image(
            axes := next(places), view, found.plane, scale, text + (at if there else missing)
        )
        _fill(axes, view, view.prediction, [index])
        if view.reference is not None:
            _outline(axes, view.reference == index)
    _explain(figure, prediction.labels.foreground, title, found)
    save_figure(figure, path)


def _grey(found: Slices, name: str, window: Window | None) -> Scale:
    """Return what is black and white in all slices alike."""
    grey = np.stack([view.grey for view in found.views])
    scale = grey_scale(grey, inside_of(grey, name), name, window)
    # Zeros around the body are black, whatever the body has.
    return scale if scale.fixed else scale._replace(low=min(scale.low, 0.0))


def save_case_overlay(
    path: Path,
    case: Case,
    volume: Volume,
    prediction: Segmentation,
    modality: str,
    window: Window | None = None,
) -> str:
    """Draw one modality of a case that was just segmented, its own label map as the reference.

    Returns why the reference is missing from the picture, where the case has one; otherwise "".
    """
    note, reference = "", None
    if case.label is not None:
        try:
            reference = read_segmentation(case, prediction.labels, prediction.geometry)
        except Vol3dSegError as error:
            note = f"drawn without reference: {error.recorded}"
    channel = volume.modalities.index(modality)
    one = Volume(volume.array[..., channel : channel + 1], volume.geometry, (modality,))
    save_overlay(path, one, prediction, reference, case.id, Look(window=window))
    return note


def _panels(view: SliceView, count: int, columns: int = 0) -> tuple[Any, list[Any]]:
    """Return a figure with `count` panels for views, in rows as even as can be unless told."""
    columns = columns or math.ceil(count / math.ceil(count / _PER_ROW))
    rows = math.ceil(count / columns)
    width_mm, height_mm = view.size_mm
    scale = min(_WIDTH / width_mm, _HEIGHT / height_mm)
    width, height = max(width_mm * scale, 1.4), max(height_mm * scale, 0.4)
    figure = new_figure(max(columns * width, 5.0), rows * (height + 0.35) + 1.2)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    return figure, panels[:count]


def _draw_image(axes: Any, view: SliceView, plane: Plane, scale: Scale, title: str) -> None:
    from matplotlib.patheffects import withStroke

    ends = {"vmin": scale.low, "vmax": scale.high if scale.high > scale.low else scale.low + 1}
    axes.imshow(view.grey, cmap="gray", aspect=view.aspect, **ends)
    axes.set_title(_wrapped(title, int(_LETTERS * _WIDTH)), fontsize="medium", parse_math=False)
    legible = [withStroke(linewidth=3.0, foreground="black")]  # on white as well
    place = {"transform": axes.transAxes, "va": "center", "path_effects": legible}
    axes.text(0.02, 0.5, LEFT_SIDE[plane], color="white", **place)


def _fill(axes: Any, view: SliceView, label: NDArray[np.uint8], indices: Iterable[int]) -> None:
    """Paint classes of a label map over an image."""
    picture = np.zeros((*label.shape, 4))
    for index in indices:
        picture[label == index] = (*class_colour(index - 1), _OPACITY)
    axes.imshow(picture, interpolation="nearest", aspect=view.aspect)


def _outline(axes: Any, mask: NDArray[np.bool_]) -> None:
    """Draw the edges between voxels in and outside a mask: exactly, and none of an empty one."""
    from matplotlib.collections import LineCollection

    padded = np.pad(mask, 1)
    y, x = np.nonzero(np.diff(padded, axis=0))
    level = np.stack([[x - 1.5, y - 0.5], [x - 0.5, y - 0.5]])
    y, x = np.nonzero(np.diff(padded, axis=1))
    upright = np.stack([[x - 0.5, y - 1.5], [x - 0.5, y - 0.5]])
    edges = np.concatenate([level, upright], axis=2).transpose(2, 0, 1)
    for colour, width in (("black", 1.9), ("white", 0.9)):
        lines = LineCollection(list(edges), colors=colour, linewidths=width, capstyle="projecting")
        axes.add_collection(lines, autolim=False)


def _class_titles(prediction: Segmentation, reference: Segmentation | None) -> list[str]:
    """Return the name of each class, with its Dice of the whole case."""
    names = prediction.labels.foreground
    if reference is None:
        return list(names)
    matrix = confusion(reference.array, prediction.array, len(names) + 1)
    values = map(DICE, one_against_rest(matrix)[1:])
    scores = ["in neither" if math.isnan(dice) else f"Dice {dice:.3f}" for dice in values]
    return [f"{name}: {score}" for name, score in zip(names, scores, strict=True)]


def _explain(figure: Any, names: tuple[str, ...], title: str, found: Slices) -> None:
    """Write the title of the picture, how to read it, and which colour is which class."""
    from matplotlib.patches import Patch

    how = "then each class of the prediction by itself"
    if found.views[0].reference is not None:
        how = "then each class: prediction filled, reference outlined; Dice of the whole case"
    letters = int(figure.get_figwidth() * _LETTERS * 1.25)
    text = _wrapped(f"{title}: {found.caption}\n{how}", letters)
    figure.suptitle(text, fontsize="medium", parse_math=False)
    handles = [Patch(color=class_colour(n)) for n in range(len(names))]
    columns = max(1, min(len(names), letters // (max(map(len, names)) + 8)))
    legend = figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _wrapped(text: str, letters: int) -> str:
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, letters))
