"""One case measured for a plan: some hundred numbers, and a sample of intensities."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import read_segmentation, read_volume
from vol3dseg.datasets.sources import read_grid
from vol3dseg.errors import MissingExtraError, Vol3dSegError
from vol3dseg.extras import load_extra
from vol3dseg.quality.background import in_hounsfield
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Segmentation, is_labelled
from vol3dseg.space.resampling import reoriented
from vol3dseg.space.volume import Volume

Spacing = tuple[float, float, float]
_MOST_SAMPLED = 10_000  # intensities inside the foreground of a case


@dataclass(frozen=True, slots=True)
class ClassMeasure:
    """The voxels of a label value in one case, and the sizes of its connected pieces.

    Pieces are None where images were not read either, to save time.
    """

    voxels: int
    pieces: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ImageMeasure:
    """Intensities of one modality in one case."""

    hounsfield: bool
    nonzero: float  # share of all voxels
    median: float  # of what is not 0, as the two that follow
    high: float  # percentile 99.5
    maximum: float
    foreground: NDArray[np.float32]  # a sample of the voxels that are labelled


@dataclass(frozen=True, slots=True)
class CaseMeasure:
    """One case, its axes in the order closest to right, front and up."""

    case_id: str
    subject: str
    shape: Shape = (1, 1, 1)
    spacing_mm: Spacing = (1.0, 1.0, 1.0)
    classes: Mapping[int, ClassMeasure] = field(default_factory=dict)  # by value in the file
    images: Mapping[str, ImageMeasure] = field(default_factory=dict)  # empty if not read
    box: Shape | None = None  # sides of what is not zero in all modalities together
    outside: int = 0  # labelled voxels outside of that
    problem: str = ""  # why it could not be read


def measure_case(case: Case, modalities: tuple[str, ...], imaged: frozenset[str]) -> CaseMeasure:
    """Measure a labelled case; its images too if it is one of `imaged`.

    What is wrong with its files is said in `problem`; MissingExtraError is raised.
    """
    try:
        if case.id in imaged:
            volume = read_volume(case, modalities)
            mask = read_segmentation(case.select(modalities), None, volume.geometry)
            return _measured(case, volume.geometry, mask, volume)
        grid = read_grid(case)
        return _measured(case, grid, read_segmentation(case, None, grid))
    except MissingExtraError:
        raise
    except Vol3dSegError as error:
        return CaseMeasure(case.id, case.subject, problem=error.recorded)


def _measured(
    case: Case, grid: Geometry, mask: Segmentation, volume: Volume | None = None
) -> CaseMeasure:
    canonical = grid.canonical()
    array = reoriented(mask.array, grid, canonical)
    views = {}
    if volume is not None:
        names = enumerate(volume.modalities)
        views = {name: reoriented(volume.array[..., n], grid, canonical) for n, name in names}
    labelled = is_labelled(array)
    box = _nonzero_box(list(views.values()), canonical.shape)
    outside = int(np.count_nonzero(labelled)) - int(np.count_nonzero(labelled[box.slices]))
    return CaseMeasure(
        case.id,
        case.subject,
        canonical.shape,
        canonical.spacing_mm,
        _classes(mask, array, with_pieces=bool(views)),
        {name: _image(name, view, labelled) for name, view in views.items()},
        box.shape if views else None,
        outside,
    )


def _nonzero_box(views: list[NDArray[np.float32]], shape: Shape) -> Box:
    boxes = [box for view in views if (box := Box.around(view != 0)) is not None]
    if not boxes:
        return Box.whole(shape)
    first, *others = boxes
    for other in others:
        first = first.union(other)
    return first


def _classes(
    mask: Segmentation, array: NDArray[np.uint8], with_pieces: bool
) -> dict[int, ClassMeasure]:
    found = {}
    counts = mask.counts()
    for index, label in enumerate(mask.labels.classes):
        if index and counts[index]:
            pieces = _pieces(array == index) if with_pieces else None
            found[label.values[0]] = ClassMeasure(counts[index], pieces)
    return found


def _pieces(inside: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return the voxels of each connected piece, voxels that touch in a corner being connected."""
    box = Box.around(inside)
    if box is None:
        return ()
    label = load_extra("scipy.ndimage", "train").label
    numbered, _ = label(inside[box.slices], structure=np.ones((3, 3, 3)))
    return tuple(np.bincount(numbered.ravel())[1:].tolist())


def _image(name: str, view: NDArray[np.float32], labelled: NDArray[np.bool_]) -> ImageMeasure:
    values = view[view != 0]
    share = values.size / view.size
    if not values.size:
        values = np.zeros(1, np.float32)
    median, high, maximum = np.percentile(values, (50, 99.5, 100)).tolist()
    inside = view[labelled]
    step = max(1, -(-inside.size // _MOST_SAMPLED))
    sample = np.ascontiguousarray(inside[::step])
    return ImageMeasure(in_hounsfield(view, name), share, median, high, maximum, sample)
