"""A DICOM series as one volume."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, IntensityError, MemoryLimitError
from vol3dseg.formats.dicom.copies import without_copies
from vol3dseg.formats.dicom.pixels import read_frames
from vol3dseg.formats.dicom.planes import read_planes
from vol3dseg.formats.dicom.series_folder import Series
from vol3dseg.formats.dicom.stack import Stack, stack
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Intake


def place_series(series: Series, intake: Intake | None = None) -> Stack:
    """Return the slices of a series in the order of k, and their grid.

    No voxel is decoded, but for those of a slice that may be the copy of another.

    Parameters
    ----------
    series : Series
    intake : Intake or None
        Gets the notes; None allows no repair.

    Raises
    ------
    FileFormatError, GridError, IntensityError, MissingExtraError
        A file is damaged, or the slices make no volume, or more than one.
    """
    if series.modality == "SEG":
        raise FileFormatError(
            "is a segmentation (DICOM-SEG)",
            where=series.where,
            expected="an image",
            remedy="choose another series, or give it as the label",
        )
    intake = intake or Intake()
    planes = [plane for path in series.files for plane in read_planes(path)]
    return stack(without_copies(planes, series.where, intake), series.where, intake)


def read_stack(placed: Stack, where: str) -> NDArray[np.float32]:
    """Read the voxels of slices that are placed.

    Parameters
    ----------
    placed : Stack
    where : str
        What they belong to, for messages.

    Returns
    -------
    (i, j, k) array of float32
        Slope and intercept of each slice applied. i counts columns, j rows, and k slices along the
        normal of their plane (see `vol3dseg.formats.dicom.stack`).

    Raises
    ------
    FileFormatError
        A file is truncated, damaged, in colours, or compressed in a way that cannot be decoded.
    IntensityError
        A voxel is NaN or infinite.
    MemoryLimitError
        The volume does not fit into memory.
    """
    by_file: dict[Path, list[tuple[int, int]]] = {}
    for k, plane in enumerate(placed.planes):
        by_file.setdefault(plane.path, []).append((plane.frame, k))
    array = np.empty((0, 0, 0), np.float32)
    for path, frames in by_file.items():
        frames.sort()
        stored = read_frames(path, [frame for frame, _ in frames])
        for (_, k), values in zip(frames, stored, strict=True):
            if not array.size:  # not before a first slice has been decoded: headers may lie
                array = _empty(placed.geometry, where)
            plane = placed.planes[k]
            with np.errstate(over="ignore", invalid="ignore"):  # counted below
                array[..., k] = (values.astype(np.float64) * plane.slope + plane.intercept).T
            _check_finite(array[..., k], path)
    return array


def _empty(geometry: Geometry, where: str) -> NDArray[np.float32]:
    try:
        return np.empty(math.prod(geometry.shape), np.float32).reshape(geometry.shape, order="F")
    except MemoryError as error:
        raise MemoryLimitError(
            f"its {geometry.shape} voxels do not fit into memory",
            where=where,
            remedy="crop it, or use a machine with more",
        ) from error


def _check_finite(values: NDArray[np.float32], path: Path) -> None:
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise IntensityError(
            f"{bad} voxels are NaN or infinite",
            where=path,
            expected="finite intensities",
            remedy="replace them in the file",
        )
