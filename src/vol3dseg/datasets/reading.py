"""From the files of a case to arrays on one grid."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.sources import SourceFile, by_file, open_label
from vol3dseg.errors import GridError, Vol3dSegError, in_memory
from vol3dseg.machine import thread_pool, usable_cores
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.oblique import resample_labels_onto
from vol3dseg.space.volume import Volume, differing_grids, one_grid


class _Found(NamedTuple):
    """What is known of an image beside its voxels."""

    geometry: Geometry
    replaced: int  # voxels that were NaN or infinite
    notes: tuple[Note, ...]  # on the file, with the first image that is read from it


def read_case(
    case: Case | Mapping[str, str | Path],
    modalities: Iterable[str] | None = None,
    labels: LabelSet | None = None,
) -> tuple[Volume, Segmentation | None]:
    """Read the images of a case and its label map, all on one grid.

    Parameters
    ----------
    case : Case or mapping from modality to str or Path
        As `find_cases` gives it; or the files of one, each a folder where that is DICOM.
    modalities : iterable of str or None
        What is read, in this order; None reads all images of the case in its own order.
    labels : LabelSet or None
        What the values of the label map mean; None names classes by their values: "value 1".

    Returns
    -------
    volume : Volume
        Its array is (i, j, k, c) float32, values as they are in the files.
    segmentation : Segmentation or None
        Class indices, an (i, j, k) array; None where the case has no label map.

    Raises
    ------
    DatasetError
        The case lacks a modality.
    FileFormatError, IntensityError
        A file cannot be read, or holds NaN or infinity and nothing is to replace them.
    GridError
        Images and label map lie on different grids.
    MemoryLimitError
        The images do not fit into memory.
    MissingExtraError
        A file needs a package that is not installed, or something is to be resampled onto a grid
        that is oblique to its own, and SimpleITK is not installed.
    LabelError
        The label map holds what is not in `labels`, or no whole numbers.
    """
    if not isinstance(case, Case):
        images = {name: ImageSource(Path(file)) for name, file in case.items()}
        case = Case("case", "case", images)
    chosen = case.select(case.images if modalities is None else modalities)
    volume = read_volume(chosen, chosen.images)
    return volume, read_segmentation(chosen, labels, volume.geometry) if chosen.label else None


def read_volume(case: Case, modalities: Iterable[str], optional: Collection[str] = ()) -> Volume:
    """Read modalities of a case, in the order asked for; raises the errors of `read_case`.

    Of `optional` ones those are read that the case has.
    """
    chosen = case.select(modalities, optional)
    channels = _Channels(len(chosen.images))
    found = _read_images(chosen, channels)
    grids = {name: of.geometry for name, of in found.items()}
    geometry = one_grid(grids, f"case {case.id}", chosen.files)
    replaced = {name: of.replaced for name, of in found.items() if of.replaced}
    notes = {name: of.notes for name, of in found.items() if of.notes}
    return Volume(channels.array, geometry, tuple(found), replaced, notes)


class _Channels:
    """The array of all modalities, made when the shape of the first file is known.

    Channels lie one after the other in memory, each with its first axis the fastest, as in files.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = Lock()
        self.array: NDArray[np.float32] = np.empty((0, 0, 0, count), dtype=np.float32)

    def place(self, number: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return where a channel goes; of another shape if that is not what the others have."""
        with self._lock:
            if self.array.size == 0 and len(shape) == 3:
                with in_memory(f"{self._count} images of {shape} voxels"):
                    self.array = np.empty((self._count, *shape[::-1]), dtype=np.float32).T
        return self.array[..., number]


def read_segmentation(case: Case, labels: LabelSet | None, grid: Geometry) -> Segmentation:
    """Read the label map of a case, and bring it onto the grid of its images or check that it is.

    `grid` is that of the images; without `labels`, classes are named by their values. Raises the
    errors of `read_case`, and DatasetError where the case has no label map.
    """
    file = open_label(case)
    own = file.geometry()
    for error in differing_label_grid(case, own, grid):
        raise error
    found = file.segmentation(labels, grid)
    if own is not None and case.label_resampled:
        return replace(found, array=resample_labels_onto(found.array, own, grid), geometry=grid)
    return replace(found, geometry=grid)


def differing_label_grid(
    case: Case, geometry: Geometry | None, grid: Geometry
) -> Iterator[GridError]:
    """Give the error of a label map on another grid than the images, unless it is resampled.

    `geometry` is that of the label map, where it has one of its own; `grid` that of the images.
    """
    if geometry is not None and not case.label_resampled:
        grids = {next(iter(case.images), "image"): grid, "label": geometry}
        yield from differing_grids(grids, f"case {case.id}", case.files)


def _read_images(case: Case, channels: _Channels) -> dict[str, _Found]:
    """Read files side by side: what takes time is unpacking, which lets other threads run."""
    names = list(case.images)
    found: dict[str, _Found] = {}
    errors: dict[str, Vol3dSegError] = {}

    def read(wanted: list[str]) -> None:
        name = wanted[0]
        try:
            file = SourceFile(case.images[name], case.repair)
            for name in wanted:
                place = partial(channels.place, names.index(name))
                _, grid, replaced = file.read(case.images[name], place)
                found[name] = _Found(grid, replaced, file.notes if name == wanted[0] else ())
        except Vol3dSegError as error:
            errors[name] = error

    files = by_file(case.images)
    with thread_pool(min(len(files), usable_cores())) as pool:
        list(pool.map(read, files))
    for name in names:  # whichever thread was first, the first error in this order is raised
        if name in errors:
            raise errors[name]
    return {name: found[name] for name in names}
