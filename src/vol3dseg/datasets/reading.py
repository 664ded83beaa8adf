"""From the files of a case to arrays on one grid."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.errors import DatasetError, GridError
from vol3dseg.volumes import nifti
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.labels import LabelSet, Segmentation
from vol3dseg.volumes.volume import Volume


class ImageReader:
    """Reads images one after the other; those that lie in one file, one open of it.

    Remembers the last file, so that a 4-D file is unpacked once and not for each of its modalities.
    Let go of it before you need the memory.
    """

    def __init__(self) -> None:
        self._file: nifti.NiftiFile | None = None

    def read(self, source: ImageSource) -> tuple[NDArray[np.float32], Geometry]:
        """Read one image; raises the errors of `nifti.read_image`."""
        if self._file is None or self._file.path != source.path:
            self._file = None  # let go of it before the next is unpacked
            self._file = nifti.NiftiFile(source.path)
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
    """
    images = _read_images(case.select(modalities))
    try:
        return Volume.stack(images)
    except GridError as error:
        raise GridError(f"case {case.id}: {error}") from error


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
    values, geometry = nifti.read_labels(case.label)
    if not geometry.fits(grid):
        raise GridError(
            f"case {case.id}: label and image lie on different grids: {case.label} has "
            f"{geometry.placed()}, the image {grid.placed()}; resample one onto the other, or mend "
            "the header"
        )
    return Segmentation(labels.encode(values, str(case.label)), grid, labels)


def _read_images(case: Case) -> dict[str, tuple[NDArray[np.float32], Geometry]]:
    """Read files side by side: what takes time is unpacking, which lets other threads run."""
    by_file: dict[Path, list[str]] = {}
    for name, source in case.images.items():
        by_file.setdefault(source.path, []).append(name)

    def read(names: list[str]) -> dict[str, tuple[NDArray[np.float32], Geometry]]:
        reader = ImageReader()
        return {name: reader.read(case.images[name]) for name in names}

    with ThreadPoolExecutor(min(len(by_file), os.cpu_count() or 1)) as pool:
        parts = pool.map(read, by_file.values())  # the first error, in their order, is raised
        found = {name: image for part in parts for name, image in part.items()}
    return {name: found[name] for name in case.images}
