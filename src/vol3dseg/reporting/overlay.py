"""A segmentation over its image: image, reference, prediction, each class. Needs [report]."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.config import load_config
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts.label_names import named_labels
from vol3dseg.datasets.reading import read_segmentation
from vol3dseg.datasets.sources import SourceFile
from vol3dseg.errors import OutputError, Vol3dSegError, in_memory
from vol3dseg.evaluation.overlap import DICE, confusion, one_against_rest
from vol3dseg.evaluation.scoring import require_same_classes
from vol3dseg.formats import label_stem, read_labels
from vol3dseg.inference.record import RECORD_NAME, load_record
from vol3dseg.reporting.axial import AxialView, axial_view
from vol3dseg.reporting.figures import class_colour, drawing, new_figure, save_figure
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation, numbered_labels
from vol3dseg.space.volume import Volume, one_grid

_WIDTH, _HEIGHT = 3.4, 3.8  # of the largest view [inches]
_OPACITY = 0.7  # of classes over the image
_PER_ROW = 4  # views, at most
_LETTERS = 10  # per inch of a title


def draw_files(
    image: str | Path,
    prediction: str | Path,
    output: str | Path,
    reference: str | Path | None = None,
    config: str | Path | None = None,
    series: str | None = None,
    channel: int | None = None,
) -> None:
    """Draw a label map over its image, both from files, beside a reference if there is one.

    Parameters
    ----------
    image : str or Path
        A file, or a folder with DICOM series.
    prediction : str or Path
    output : str or Path
        A .png file.
    reference : str, Path or None
    config : str, Path or None
        A preset or a YAML file that names the labels; None takes them from the predictions.json
        beside the prediction, or the dataset.json of its data set, or names them by their values.
    series : str or None
        Which DICOM series of the folder: UID, number or a pattern of its description.
    channel : int or None
        Which volume of a 4-D file.

    Raises
    ------
    OutputError
        The picture is to have another format, or cannot be written.
    EvaluationError
        The predictions.json beside the prediction is damaged.
    FileFormatError, GridError, LabelError
        A file cannot be read, or does not fit the others.
    MemoryLimitError
        Image and label maps do not fit into memory.
    MissingExtraError
        matplotlib, or what reads a file, is not installed.
    """
    image, prediction, output = Path(image), Path(prediction), Path(output)
    if output.suffix.lower() != ".png":
        raise OutputError(
            "pictures are written as PNG", where=output, remedy="choose a name that ends in .png"
        )
    with in_memory("image and label maps", where=image):
        source = ImageSource(image, channel, series=series)
        array, grid, _ = SourceFile(source).read(source)
        volume = Volume.stack({series or label_stem(image) or image.name: (array, grid)})
        maps = [prediction, *([Path(reference)] if reference else [])]
        labels = load_config(config).labels if config else _stated(maps, volume.geometry)
        predicted, *known = [read_labels(path, labels, volume.geometry) for path in maps]
    save_overlay(
        output,
        volume,
        predicted,
        next(iter(known), None),
        label_stem(prediction) or prediction.name,
    )


def _stated(maps: Sequence[Path], grid: Geometry) -> LabelSet | None:
    """Return the labels of label maps as what lies around states them, or as their values are."""
    folder = maps[0].parent
    if (folder / RECORD_NAME).exists():
        return load_record(folder).labels
    named = named_labels(folder, folder.parent)
    if named is not None or len(maps) == 1:
        return named
    classes = [c for path in maps for c in read_labels(path, None, grid).labels.classes[1:]]
    remedy = "give label maps, if these are images"
    return numbered_labels("value", {value for c in classes for value in c.read}, remedy, maps[0])


@drawing
def save_overlay(
    path: Path,
    volume: Volume,
    prediction: Segmentation,
    reference: Segmentation | None,
    title: str,
) -> None:
    """Draw the image, the reference, the prediction with all classes, then each class by itself.

    One axial slice of the first modality, in radiological view: the subject's right is on the left
    of the picture, front is up. It is the slice with most foreground in the reference; in the
    prediction where there is no reference or it is empty. A class by itself is filled where it was
    predicted and outlined where the reference has it; its title gives the Dice of the whole case.
    All lie on one grid (otherwise GridError) and have the same classes (otherwise EvaluationError).
    """
    grids = {"image": volume.geometry, "prediction": prediction.geometry}
    if reference is not None:
        grids["reference"] = reference.geometry
        require_same_classes(title, prediction.labels, reference.labels)
    one_grid(grids, f"case {title}", remedy="draw over the scan that was segmented")
    view = axial_view(volume, prediction, reference)
    maps = {"reference": view.reference, "prediction": view.prediction}
    whole = {name: label for name, label in maps.items() if label is not None}
    classes = range(1, len(prediction.labels.classes))
    figure, panels = _panels(view, 1 + len(whole) + len(classes))
    titles = [volume.modalities[0], *whole, *_class_titles(view, prediction, reference)]
    for axes, text in zip(panels, titles, strict=True):
        _draw_image(axes, view, text)
    for axes, label in zip(panels[1:], whole.values(), strict=False):
        _fill(axes, view, label, classes)
    for axes, index in zip(panels[1 + len(whole) :], classes, strict=True):
        _fill(axes, view, view.prediction, [index])
        if view.reference is not None:
            _outline(axes, view.reference == index)
    _explain(figure, prediction.labels.foreground, title, view)
    save_figure(figure, path)


def save_case_overlay(
    path: Path, case: Case, volume: Volume, prediction: Segmentation, modality: str
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
    save_overlay(path, one, prediction, reference, case.id)
    return note


def _panels(view: AxialView, count: int) -> tuple[Any, list[Any]]:
    """Return a figure with `count` panels for views, in rows as even as can be."""
    rows = math.ceil(count / _PER_ROW)
    columns = math.ceil(count / rows)
    width_mm, height_mm = view.size_mm
    scale = min(_WIDTH / width_mm, _HEIGHT / height_mm)
    width, height = max(width_mm * scale, 1.4), max(height_mm * scale, 0.4)
    figure = new_figure(max(columns * width, 5.0), rows * (height + 0.35) + 1.2)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    return figure, panels[:count]


def _draw_image(axes: Any, view: AxialView, title: str) -> None:
    from matplotlib.patheffects import withStroke

    inside = view.grey[view.grey != 0]  # zeros around the body do not count
    low, high = np.percentile(inside, (0.5, 99.5)).tolist() if inside.size else (0.0, 1.0)
    darkest = min(low, 0.0)
    window = {"vmin": darkest, "vmax": high if high > darkest else darkest + 1}
    axes.imshow(view.grey, cmap="gray", aspect=view.aspect, **window)
    axes.set_title(_wrapped(title, int(_LETTERS * _WIDTH)), fontsize="medium", parse_math=False)
    legible = [withStroke(linewidth=3.0, foreground="black")]  # on white as well
    place = {"transform": axes.transAxes, "va": "center", "path_effects": legible}
    axes.text(0.02, 0.5, "R", color="white", **place)


def _fill(axes: Any, view: AxialView, label: NDArray[np.uint8], indices: Iterable[int]) -> None:
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


def _class_titles(
    view: AxialView, prediction: Segmentation, reference: Segmentation | None
) -> list[str]:
    """Return the name of each class with its Dice, and whether the slice has nothing of it."""
    names = prediction.labels.foreground
    scores = [""] * len(names)
    if reference is not None:
        matrix = confusion(reference.array, prediction.array, len(names) + 1)
        values = map(DICE, one_against_rest(matrix)[1:])
        scores = [": in neither" if math.isnan(dice) else f": Dice {dice:.3f}" for dice in values]
    return [
        f"{name}{score}" + ("" if index in view.classes else "\nnot in this slice")
        for index, (name, score) in enumerate(zip(names, scores, strict=True), start=1)
    ]


def _explain(figure: Any, names: tuple[str, ...], title: str, view: AxialView) -> None:
    """Write the title of the picture, how to read it, and which colour is which class."""
    from matplotlib.patches import Patch

    how = "then each class of the prediction by itself"
    if view.reference is not None:
        how = "then each class: prediction filled, reference outlined; Dice of the whole case"
    letters = int(figure.get_figwidth() * _LETTERS * 1.25)
    text = _wrapped(f"{title}: {view.caption}\n{how}", letters)
    figure.suptitle(text, fontsize="medium", parse_math=False)
    handles = [Patch(color=class_colour(n)) for n in range(len(names))]
    columns = max(1, min(len(names), letters // (max(map(len, names)) + 8)))
    legend = figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _wrapped(text: str, letters: int) -> str:
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, letters))
