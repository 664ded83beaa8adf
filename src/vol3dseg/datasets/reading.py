"""From the files of a case to arrays on one grid."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from vol3dseg.cores import usable_cores
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.errors import DatasetError, GridError, MemoryLimitError, Vol3dSegError
from vol3dseg.volumes import formats
from vol3dseg.volumes.dicom_files import is_dicom
from vol3dseg.volumes.dicom_volume import DicomVolume
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.label_maps import read_label_map
from vol3dseg.volumes.labels import LabelSet, Segmentation
from vol3dseg.volumes.oblique import bring_classes, bring_image
from vol3dseg.volumes.volume import Volume, one_grid

_Found = tuple[Geometry, int]  # the grid of an image, and how many of its voxels were replaced


class ImageReader:
    """Reads images one after the other; those that lie in one file, one open of it.

    Remembers the last file, so that a 4-D file is unpacked once and not for each of its modalities.
    Let go of it before you need the memory.
    """

    def __init__(self) -> None:
        self._file: formats.VolumeFile | None = None
        self._key: tuple[Path, str | None] | None = None

    def read(self, source: ImageSource) -> tuple[NDArray[np.float32], Geometry]:
        """Read one image; raises the errors of `read_volume`."""
        if self._file is None or self._key != _key(source):
            self._file = None  # let go of it before the next is unpacked
            self._file, self._key = _opened(source), _key(source)
        return _image(self._file, source)[:2]


def _key(source: ImageSource) -> tuple[Path, str | None]:
    """Return what images that are read with one open have in common."""
    return source.path, source.series


def _opened(source: ImageSource) -> formats.VolumeFile:
    if source.series is not None or source.path.is_dir() or is_dicom(source.path):
        return DicomVolume(source.path, source.series)
    return formats.open_volume(source.path)


def _image(
    file: formats.VolumeFile,
    source: ImageSource,
    place: Callable[[tuple[int, ...]], NDArray[np.float32]] | None = None,
) -> tuple[NDArray[np.float32], Geometry, int]:
    """Read one image as its source asks for; `place` gives where an image of some shape goes.

    Returns
    -------
    array : (i, j, k) array of float32
    geometry : Geometry
    replaced : int
        Voxels that were NaN or infinite.
    """
    if source.onto is None:
        array, geometry, replaced = _stored(file, source, place(file.shape[:3]) if place else None)
        geometry.require_right_angles(source.path)
        return array, geometry, replaced
    target = _opened(source.onto).geometry()
    stored, geometry, replaced = _stored(file, source)
    array = bring_image(stored, geometry, target)
    if place is not None:
        kept = place(array.shape)
        if kept.shape == array.shape:
            kept[...] = array
            array = kept
    return array, target, replaced


def _stored(
    file: formats.VolumeFile, source: ImageSource, out: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], Geometry, int]:
    if source.nan is None:
        return *file.image(source.channel, out), 0
    return file.mended(source.nan, source.channel, out)


def read_volume(case: Case, modalities: Iterable[str]) -> Volume:
    """Read modalities of a case, in the order asked for.

    Parameters
    ----------
    case : Case
    modalities : iterable of str

    Raises
    ------
    DatasetError
        The case lacks a modality.
    FileFormatError, IntensityError
        A file cannot be read, or holds NaN or infinity and nothing is to replace them.
    GridError
        The modalities lie on different grids.
    MemoryLimitError
        The images do not fit into memory.
    MissingExtraError
        A file needs SimpleITK, or an image is to be resampled onto a grid that is oblique to its
        own, and SimpleITK is not installed.
    """
    chosen = case.select(modalities)
    channels = _Channels(len(chosen.images))
    found = _read_images(chosen, channels)
    grids = {name: grid for name, (grid, _) in found.items()}
    try:
        geometry = one_grid(grids)
    except GridError as error:
        raise GridError(f"case {case.id}: {error}") from error
    replaced = {name: count for name, (_, count) in found.items() if count}
    return Volume(channels.array, geometry, tuple(grids), replaced)


class _Channels:
    """The array of all modalities, made when the first file has told its shape.

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
                self.array = self._empty((self._count, *shape[::-1]))
        return self.array[..., number]

    def _empty(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        try:
            return np.empty(shape, dtype=np.float32).T
        except MemoryError as error:
            raise MemoryLimitError(
                f"{self._count} images of {shape[:0:-1]} voxels do not fit into memory; crop them, "
                "or use a machine with more"
            ) from error


def read_labels(case: Case, labels: LabelSet, grid: Geometry) -> Segmentation:
    """Read the label map of a case, and bring it onto the grid of its images or check that it is.

    Parameters
    ----------
    case : Case
    labels : LabelSet
    grid : Geometry
        Of the case's images.

    Raises
    ------
    DatasetError
        The case has no label map.
    LabelError
        A value or a segment is not in the label map of the config.
    GridError
        Labels and images lie on different grids.
    MissingExtraError
        The labels are to be resampled onto a grid that is oblique to their own, and SimpleITK is
        not installed.
    """
    if case.label is None:
        raise DatasetError(f"case {case.id}: has no label map; add it, or leave the case out")
    found = read_label_map(case.label, labels, grid, case.label_series)
    if case.label_resampled:
        return Segmentation(bring_classes(found.array, found.geometry, grid), grid, labels)
    if not found.geometry.fits(grid):
        raise GridError(
            f"case {case.id}: label and image lie on different grids: {case.label} has "
            f"{found.geometry.placed()}, the image {grid.placed()}; resample one onto the other, "
            "or mend the header"
        )
    return Segmentation(found.array, grid, labels)


def read_grid(case: Case) -> Geometry:
    """Return the grid of a case's images, from the headers of the first.

    Raises
    ------
    DatasetError
        The case has no image.
    FileFormatError, GridError, MissingExtraError
        See `read_volume`.
    """
    first = next(iter(case.images.values()), None)
    if first is None:
        raise DatasetError(
            "has no image",
            where=f"case {case.id}",
            expected="one, whose grid is that of the case",
            remedy="name it in a dataset table",
        )
    return _opened(first.onto or first).geometry()


def _read_images(case: Case, channels: _Channels) -> dict[str, _Found]:
    """Read files side by side: what takes time is unpacking, which lets other threads run."""
    names = list(case.images)
    by_file: dict[tuple[Path, str | None], list[str]] = {}
    for name, source in case.images.items():
        by_file.setdefault(_key(source), []).append(name)

    def read(wanted: list[str]) -> dict[str, _Found | Vol3dSegError]:
        found: dict[str, _Found | Vol3dSegError] = {}
        try:
            file = _opened(case.images[wanted[0]])
            for name in wanted:
                place = partial(channels.place, names.index(name))
                _, grid, replaced = _image(file, case.images[name], place)
                found[name] = grid, replaced
        except Vol3dSegError as error:
            found[wanted[len(found)]] = error
        return found

    with ThreadPoolExecutor(min(len(by_file), usable_cores())) as pool:
        parts = list(pool.map(read, by_file.values()))
    outcomes = {name: outcome for part in parts for name, outcome in part.items()}
    found = {}
    for name in names:  # whichever thread was first, the first error in this order is raised
        outcome = outcomes[name]
        if isinstance(outcome, Vol3dSegError):
            raise outcome
        found[name] = outcome
    return found
