"""From the files of a case to arrays on one grid."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from vol3dseg.cores import usable_cores
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.errors import DatasetError, GridError, MemoryLimitError, Vol3dSegError
from vol3dseg.volumes import formats
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.labels import LabelSet, Segmentation
from vol3dseg.volumes.volume import Volume, one_grid


class ImageReader:
    """Reads images one after the other; those that lie in one file, one open of it.

    Remembers the last file, so that a 4-D file is unpacked once and not for each of its modalities.
    Let go of it before you need the memory.
    """

    def __init__(self) -> None:
        self._file: formats.VolumeFile | None = None

    def read(self, source: ImageSource) -> tuple[NDArray[np.float32], Geometry]:
        """Read one image; raises the errors of `formats.read_image`."""
        if self._file is None or self._file.path != source.path:
            self._file = None  # let go of it before the next is unpacked
            self._file = formats.open_volume(source.path)
        return self._file.image(source.channel)


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
        A file cannot be read, or holds NaN or infinity.
    GridError
        The modalities lie on different grids.
    MemoryLimitError
        The images do not fit into memory.
    MissingExtraError
        A file needs SimpleITK, which is not installed.
    """
    chosen = case.select(modalities)
    channels = _Channels(len(chosen.images))
    grids = _read_images(chosen, channels)
    try:
        geometry = one_grid(grids)
    except GridError as error:
        raise GridError(f"case {case.id}: {error}") from error
    return Volume(channels.array, geometry, tuple(grids))


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
    """Read the label map of a case and check that it lies on the grid of its images.

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
        A value is not in the label map of the config.
    GridError
        Labels and images lie on different grids.
    """
    if case.label is None:
        raise DatasetError(f"case {case.id}: has no label map; add it, or leave the case out")
    values, geometry = formats.read_labels(case.label)
    if not geometry.fits(grid):
        raise GridError(
            f"case {case.id}: label and image lie on different grids: {case.label} has "
            f"{geometry.placed()}, the image {grid.placed()}; resample one onto the other, or mend "
            "the header"
        )
    return Segmentation(labels.encode(values, str(case.label)), grid, labels)


def _read_images(case: Case, channels: _Channels) -> dict[str, Geometry]:
    """Read files side by side: what takes time is unpacking, which lets other threads run."""
    names = list(case.images)
    by_file: dict[Path, list[str]] = {}
    for name, source in case.images.items():
        by_file.setdefault(source.path, []).append(name)

    def read(path: Path, wanted: list[str]) -> dict[str, Geometry | Vol3dSegError]:
        found: dict[str, Geometry | Vol3dSegError] = {}
        try:
            file = formats.open_volume(path)
            for name in wanted:
                place = channels.place(names.index(name), file.shape[:3])
                found[name] = file.image(case.images[name].channel, place)[1]
        except Vol3dSegError as error:
            found[wanted[len(found)]] = error
        return found

    with ThreadPoolExecutor(min(len(by_file), usable_cores())) as pool:
        parts = list(pool.map(read, by_file.keys(), by_file.values()))
    outcomes = {name: outcome for part in parts for name, outcome in part.items()}
    grids = {}
    for name in names:  # whichever thread was first, the first error in this order is raised
        outcome = outcomes[name]
        if isinstance(outcome, Vol3dSegError):
            raise outcome
        grids[name] = outcome
    return grids
