"""What of a case explains its score: three slices through where the two maps differ most."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import read_volume
from vol3dseg.errors import GridError, Vol3dSegError
from vol3dseg.quality.background import Scale, grey_scale, inside_of
from vol3dseg.reporting.certainty import ENTROPY, file_beside, read_beside
from vol3dseg.reporting.slices import plane_of
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import IGNORED, Segmentation, is_labelled
from vol3dseg.space.resampling import reoriented

Pixels = NDArray[np.uint8]
MISSED, FALSE, OTHER = 1, 2, 3  # how two maps differ: the reference alone, the prediction, in class
_MARGIN_MM = 15.0  # around both maps at least; half of what they extend over where that is more
_MOST = 384  # pixels along a side of a picture; of finer slices every second is left out, or more


@dataclass(frozen=True, slots=True)
class Exhibit:
    """The files of a case, and what reads its reference and its prediction."""

    case: Case
    prediction: Path
    read: Callable[[], tuple[Segmentation, Segmentation]]


@dataclass(frozen=True, slots=True)
class TellingSlice:
    """One slice, front or above up; `entropy` from 0 to 1, a share of the highest that there is."""

    number: int  # from 1
    grey: Pixels | None
    reference: Pixels
    prediction: Pixels
    difference: Pixels
    entropy: NDArray[np.float32] | None
    size_mm: tuple[float, float]  # width and height


@dataclass(frozen=True, slots=True)
class Telling:
    """The slices of a case by their planes, as `slices.PLANES`."""

    slices: tuple[TellingSlice, ...]
    at_mm: tuple[float, float, float]  # where they meet, in the world (RAS+)
    shown: str  # which image it is, and its window; empty without one
    notes: tuple[str, ...]

    @property
    def side_mm(self) -> float:
        """The longest side of all slices."""
        return max(length for each in self.slices for length in each.size_mm)


def telling_slices(exhibit: Exhibit) -> Telling:
    """Read a case, and return the slice across each axis in which the two maps differ most.

    Where they do not differ, the one with most foreground; else the middle. What cannot be read
    beside the two maps is left out, with a note.
    """
    reference, prediction = exhibit.read()
    source, notes = prediction.geometry, list[str]()
    grid = source.canonical()
    true, found = (reoriented(each.array, source, grid) for each in (reference, prediction))
    difference = differences(true, found, reference.labels.indices(reference.unannotated))
    labelled = is_labelled(true) | is_labelled(found)
    at = _fullest(difference > 0 if difference.any() else labelled)
    box = _around(labelled, grid)
    image, scale = _image(exhibit.case, source, notes)
    entropy = _entropy(exhibit.prediction, source, notes)
    highest = log(len(reference.labels.classes))
    slices = []
    for axis in range(3):
        step = ceil(max(np.delete(box.shape, axis)) / _MOST)
        part = partial(_part, axis=axis, at=at[axis], box=box, step=step)
        grey = sure = None
        if image is not None and scale is not None:
            grey = _brightness(part(reoriented(image, source, grid)), scale)
        if entropy is not None:
            share = part(reoriented(entropy, source, grid)) / np.float32(highest)
            sure = np.asarray(np.clip(share, 0, 1), dtype=np.float32)
        width, height = (np.delete(box.shape, axis) * np.delete(grid.spacing_mm, axis)).tolist()
        planes = part(true), part(found), part(difference)
        slices.append(TellingSlice(at[axis] + 1, grey, *planes, sure, (width, height)))
    name = next(iter(exhibit.case.images), "")
    shown = f"{name}, {scale}" if scale and scale.fixed else name * (scale is not None)
    x, y, z = (grid.affine @ [*at, 1])[:3].tolist()
    return Telling(tuple(slices), (x, y, z), shown, tuple(notes))


def differences(reference: Pixels, prediction: Pixels, unseen: tuple[int, ...] = ()) -> Pixels:
    """Return how two maps differ in each voxel; 0 where they do not, or where nobody judges."""
    found = np.zeros(reference.shape, np.uint8)
    differ = (reference != prediction) & (reference != IGNORED)
    if unseen:
        differ &= (reference > 0) | ~np.isin(prediction, unseen)
    found[differ] = OTHER
    found[differ & (prediction == 0)] = MISSED
    found[differ & (reference == 0)] = FALSE
    return found


def _fullest(mask: NDArray[np.bool_]) -> list[int]:
    """Return the slice with most of a mask across each axis; the middle where there is none."""
    if not mask.any():
        return [n // 2 for n in mask.shape]
    return [int(np.count_nonzero(mask, axis=a).argmax()) for a in ((1, 2), (0, 2), (0, 1))]


def _around(mask: NDArray[np.bool_], grid: Geometry) -> Box:
    """Return what is shown: a mask and what lies around it; everything where it is empty."""
    found, whole = Box.around(mask), Box.whole(grid.shape)
    if found is None:
        return whole
    lengths_mm = np.multiply(found.shape, grid.spacing_mm)
    margin_mm = max(_MARGIN_MM, float(lengths_mm.max()) / 2)
    # What is flat is shown with as much around it as what is not.
    most_mm = float(lengths_mm.max()) + 2 * margin_mm
    voxels = np.ceil((most_mm - lengths_mm) / 2 / grid.spacing_mm).astype(int)
    start = np.maximum(np.array(found.start) - voxels, 0).tolist()
    stop = np.minimum(np.array(found.start) + found.shape + voxels, grid.shape)
    i, j, k = (stop - start).tolist()
    return Box.at((start[0], start[1], start[2]), (i, j, k))


def _part(array: NDArray[Any], axis: int, at: int, box: Box, step: int) -> NDArray[Any]:
    cut = list(box.slices)
    cut[axis] = slice(at, at + 1)
    plane = plane_of(array[tuple(cut)], axis, 0)
    return np.ascontiguousarray(plane[::step, ::step])


def _image(
    case: Case, grid: Geometry, notes: list[str]
) -> tuple[NDArray[np.float32] | None, Scale | None]:
    """Return the first image of a case, and between which values it is looked at."""
    if not case.images:
        return None, None
    name = next(iter(case.images))
    try:
        volume = read_volume(case, [name])
        if not volume.geometry.fits(grid):
            raise GridError(f"lies on another grid than the label maps: {volume.geometry}")
    except Vol3dSegError as error:
        notes.append(f"without the image {name}: {error.recorded}")
        return None, None
    array = volume.array[..., 0]
    return array, grey_scale(array, inside_of(array, name), name)


def _brightness(plane: NDArray[np.float32], scale: Scale) -> Pixels:
    bright = (plane - scale.low) * (255 / ((scale.high - scale.low) or 1.0))
    return np.asarray(np.clip(bright, 0, 255), dtype=np.uint8)


def _entropy(file: Path, grid: Geometry, notes: list[str]) -> NDArray[np.float32] | None:
    """Return the entropy beside a label map [nat]."""
    path = file_beside(file, ENTROPY)
    try:
        return None if path is None else read_beside(path, 1, grid)
    except Vol3dSegError as error:
        notes.append(f"without the entropy: {error.recorded}")
        return None
