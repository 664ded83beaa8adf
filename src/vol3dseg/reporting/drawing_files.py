"""What `vol3dseg show` does: a label map drawn over its image, both from files."""

from collections.abc import Sequence
from math import inf
from pathlib import Path

from vol3dseg.config import load_config
from vol3dseg.datasets.case import ImageSource
from vol3dseg.datasets.layouts.label_names import named_labels
from vol3dseg.datasets.sources import SourceFile
from vol3dseg.errors import IntensityError, OutputError, in_memory
from vol3dseg.files import require_writable
from vol3dseg.formats import label_stem, read_labels
from vol3dseg.inference.record import RECORD_NAME, load_record
from vol3dseg.quality.background import Window
from vol3dseg.reporting.overlay import Look, save_overlay
from vol3dseg.reporting.slices import Plane
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, numbered_labels
from vol3dseg.space.volume import Volume


def draw_files(
    image: str | Path,
    prediction: str | Path,
    output: str | Path,
    reference: str | Path | None = None,
    config: str | Path | None = None,
    series: str | None = None,
    channel: int | None = None,
    plane: Plane = "axial",
    slices: Sequence[int] = (),
    window: Window | None = None,
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
    plane : "axial", "coronal" or "sagittal"
    slices : sequence of int
        Which slices, from 1; none stands for the one that shows most, and up to two more for
        classes that it lacks.
    window : (low, high) or None
        Which intensities are black and white; None takes the window of the config, that for soft
        tissue in CT, or percentiles.

    Raises
    ------
    OutputError
        The picture is to have another format, or cannot be written.
    IntensityError
        The window is none.
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
    if window is not None and not -inf < window[0] < window[1] < inf:
        raise IntensityError(
            f"the window {window[0]:g} to {window[1]:g}",
            expected="two finite numbers, the lower one first",
            remedy="choose another --window",
        )
    require_writable(output.parent, [output.name])
    chosen = load_config(config) if config else None
    if window is None and chosen is not None and len(set(chosen.recipe.windows.values())) == 1:
        (window,) = set(chosen.recipe.windows.values())
    with in_memory("image and label maps", where=image):
        source = ImageSource(image, channel, series=series)
        array, grid, _ = SourceFile(source).read(source)
        volume = Volume.stack({series or label_stem(image) or image.name: (array, grid)})
        maps = [prediction, *([Path(reference)] if reference else [])]
        labels = chosen.labels if chosen else _stated(maps, grid)
        made = labels and labels.of_predictions(_recorded(prediction) is not None)
        predicted = read_labels(prediction, made, grid)
        known = [read_labels(path, labels, grid) for path in maps[1:]]
    title, look = label_stem(prediction) or prediction.name, Look(plane, tuple(slices), window)
    save_overlay(output, volume, predicted, next(iter(known), None), title, look)


def _stated(maps: Sequence[Path], grid: Geometry) -> LabelSet | None:
    """Return the labels of label maps as what lies around states them, or as their values are."""
    folder = maps[0].parent
    if recorded := _recorded(maps[0]):
        return load_record(recorded).labels
    named = named_labels(folder, folder.parent)
    if named is not None or len(maps) == 1:
        return named
    classes = [c for path in maps for c in read_labels(path, None, grid).labels.classes[1:]]
    remedy = "give label maps, if these are images"
    return numbered_labels("value", {value for c in classes for value in c.read}, remedy, maps[0])


def _recorded(prediction: Path) -> Path | None:
    """Return the folder whose predictions.json is of a label map; in BIDS it is above its own."""
    folder = prediction.absolute().parent
    places = [folder, *(list(folder.parents)[:3] if folder.name == "anat" else [])]
    return next((place for place in places if (place / RECORD_NAME).exists()), None)
