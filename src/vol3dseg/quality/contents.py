"""What can be read of one case, and what cannot, in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import ImageReader
from vol3dseg.errors import GridError, LabelError, Vol3dSegError
from vol3dseg.formats import opening
from vol3dseg.formats.dicom.seg_reading import read_seg
from vol3dseg.formats.dicom.series_folder import searching_once
from vol3dseg.formats.label_maps import find_seg
from vol3dseg.quality.facts import MASK
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.label_values import whole_numbers
from vol3dseg.space.labels import LabelSet
from vol3dseg.space.oblique import bring_classes

Image = NDArray[np.float32]
Classes = NDArray[np.uint8]

_MOST_CLASSES = 254


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
    search = searching_once()
    seg = find_seg(path, case.label_series, search)
    if seg is not None:
        found = read_seg(seg, labels, geometry)
        return found.array, found.labels.foreground, found.geometry, []
    file = opening.open_volume(path, case.repair, case.label_series, search)
    values, grid = file.labels()
    repairs = _repairs(file.notes, path)
    if geometry is None or geometry.fits(grid):
        return *_encode(values, labels, str(path)), geometry or grid, repairs
    if not case.label_resampled:
        others = f"the images on {geometry.placed()}"
        raise GridError(_elsewhere(f"{path}: {MASK}", grid, others))
    classes, names = _encode(values, labels, str(path))
    return bring_classes(classes, grid, geometry), names, geometry, repairs


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


def _encode(
    values: NDArray[Any], labels: LabelSet | None, source: str
) -> tuple[Classes, tuple[str, ...]]:
    """Return class indices and names of the classes from 1 on."""
    if labels is not None:
        return labels.encode(values, source), labels.foreground
    whole = whole_numbers(values, source)
    found = [int(value) for value in np.unique(whole) if value != 0]
    if len(found) > _MOST_CLASSES:
        raise LabelError(
            f"{source}: holds {len(found)} values besides 0, expected fewer than "
            f"{_MOST_CLASSES + 1}; is it an image? Put the label map there"
        )
    classes = np.zeros(whole.shape, dtype=np.uint8)
    for index, value in enumerate(found, start=1):
        classes[whole == value] = index
    return classes, tuple(f"value {value}" for value in found)
