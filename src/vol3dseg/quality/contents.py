"""What can be read of one case, and what cannot, in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.sources import ImageReader, open_label
from vol3dseg.errors import GridError, Vol3dSegError
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.labels import LabelSet
from vol3dseg.space.oblique import resample_labels_onto

Image = NDArray[np.float32]
Classes = NDArray[np.uint8]

MASK = "the mask"  # its name in messages, and among the modalities it is compared with


@dataclass(frozen=True, slots=True)
class Contents:
    """What could be read of a case.

    Parameters
    ----------
    geometry : Geometry or None
        Of most images; of the label map where there is no image.
    images : mapping from modality to (i, j, k) array of float32
        All on `geometry`.
    classes : (i, j, k) array of uint8, or None
        0 is background, n the class `names[n - 1]`.
    names : tuple of str
    problems : tuple of str
        What cannot be read, and what was repaired to be read.
    """

    geometry: Geometry | None
    images: Mapping[str, Image]
    classes: Classes | None
    names: tuple[str, ...]
    problems: tuple[str, ...]


def read_contents(case: Case, modalities: tuple[str, ...], labels: LabelSet | None) -> Contents:
    """Read what can be read of a case; what cannot is said in words.

    Parameters
    ----------
    case : Case
    modalities : tuple of str
        Those that it should have.
    labels : LabelSet or None
        None names classes by their values, or the numbers of their segments.
    """
    found, problems = _read_images(case, modalities)
    geometry = _commonest_grid([grid for _, grid in found.values()])
    images = {}
    for name, (array, grid) in found.items():
        if geometry is None or geometry.fits(grid):
            images[name] = array
        else:
            place = f"{case.images[name].path}: {name}"
            problems.append(_elsewhere(place, grid, f"the others on {geometry.placed()}"))
    classes: Classes | None = None
    names: tuple[str, ...] = ()
    if case.label is not None:
        try:
            classes, names, geometry, repairs = _read_mask(case, case.label, labels, geometry)
            problems += repairs
        except Vol3dSegError as error:
            problems.append(error.recorded)
    return Contents(geometry, images, classes, names, tuple(problems))


def _read_images(
    case: Case, modalities: tuple[str, ...]
) -> tuple[dict[str, tuple[Image, Geometry]], list[str]]:
    if not case.images:
        there = case.label.name if case.label else "nothing"
        return {}, [f"case {case.id}: no image; found {there}; add the scans"]
    found: dict[str, tuple[Image, Geometry]] = {}
    problems: list[str] = []
    reader = ImageReader(case.repair)
    for name in modalities:
        source = case.images.get(name)
        if source is None:
            problems.append(
                f"case {case.id}: {name} is missing; found {', '.join(case.images)}; add the file, "
                "or choose other modalities"
            )
            continue
        try:
            found[name] = reader.read(source)
            problems += _repairs(reader.notes, source.path)
        except Vol3dSegError as error:
            problems.append(error.recorded)
    # A damaged file that should hold several modalities is one problem.
    return found, list(dict.fromkeys(problems))


def _read_mask(
    case: Case, path: Path, labels: LabelSet | None, geometry: Geometry | None
) -> tuple[Classes, tuple[str, ...], Geometry, list[str]]:
    """Return class indices, names of classes from 1 on, the grid (of the images), and repairs."""
    file = open_label(case)
    grid = file.geometry()
    elsewhere = grid is not None and geometry is not None and not geometry.fits(grid)
    if grid and geometry and elsewhere and not case.label_resampled:
        others = f"the images on {geometry.placed()}"
        raise GridError(_elsewhere(f"{path}: {MASK}", grid, others))
    found = file.segmentation(labels, geometry)
    named = labels is not None or found.array.any()  # an empty map has no values to name
    names, repairs = found.labels.foreground if named else (), _repairs(file.notes, path)
    if grid and geometry and elsewhere:
        return resample_labels_onto(found.array, grid, geometry), names, geometry, repairs
    return found.array, names, geometry or found.geometry, repairs


def _repairs(notes: Iterable[Note], path: Path) -> list[str]:
    return [f"{path}: {note} (repaired)" for note in notes if note.repaired]


def _elsewhere(what: str, grid: Geometry, others: str) -> str:
    return (
        f"{what} lies on another grid: {grid.placed()}; {others}; resample one onto the other, or "
        "mend the header"
    )


def _commonest_grid(grids: list[Geometry]) -> Geometry | None:
    """Return the grid that most others fit; the first of equals."""
    return max(grids, key=lambda g: sum(g.fits(other) for other in grids), default=None)
