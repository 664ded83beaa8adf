"""Where the images and the label map of a case are kept: opened, and asked for grid and voxels."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg import formats
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.errors import DatasetError
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.oblique import bring_image


def source_key(source: ImageSource) -> tuple[Path, str | None]:
    """Return what images that are read with one open have in common."""
    return source.path, source.series


def by_file(images: Mapping[str, ImageSource]) -> list[list[str]]:
    """Return the names of images, those together that are read with one open of a file."""
    found: dict[tuple[Path, str | None], list[str]] = {}
    for name, source in images.items():
        found.setdefault(source_key(source), []).append(name)
    return list(found.values())


def open_source(source: ImageSource, repair: bool = False) -> formats.VolumeFile:
    """Open the file, or the series of a folder, that an image is kept in; no voxel is read."""
    return formats.open_volume(source.path, repair, source.series)


def grid_of(
    file: formats.VolumeFile,
    source: ImageSource,
    repair: bool = False,
) -> Geometry:
    """Return the grid that an image will lie on, from headers alone.

    Parameters
    ----------
    file : VolumeFile
        That of `source`.
    source : ImageSource
    repair : bool

    Raises
    ------
    FileFormatError, GridError, MissingExtraError
        See `read_volume`.
    """
    geometry = file.geometry(source.channel)
    if source.onto is None:
        geometry.require_right_angles(source.path)
        return geometry
    return open_source(source.onto, repair).geometry(source.onto.channel)


def image_of(
    file: formats.VolumeFile,
    source: ImageSource,
    repair: bool = False,
    place: Callable[[tuple[int, ...]], NDArray[np.float32]] | None = None,
) -> tuple[NDArray[np.float32], Geometry, int]:
    """Read one image as its source asks for.

    Parameters
    ----------
    file : VolumeFile
        That of `source`.
    source : ImageSource
    repair : bool
    place : callable or None
        Gives the array where an image of some shape goes.

    Returns
    -------
    array : (i, j, k) array of float32
    geometry : Geometry
    replaced : int
        Voxels that were NaN or infinite.

    Raises
    ------
    FileFormatError, GridError, IntensityError, MissingExtraError
        See `read_volume`.
    """
    target = grid_of(file, source, repair)
    out = place(file.shape[:3]) if place and source.onto is None else None
    array, geometry, replaced = formats.finite_image(file, source.channel, source.nan, out)
    if source.onto is None:
        return array, target, replaced
    array = bring_image(array, geometry, target)
    if place is not None:
        kept = place(array.shape)
        if kept.shape == array.shape:
            kept[...] = array
            array = kept
    return array, target, replaced


def open_label(case: Case) -> formats.LabelFile:
    """Open the label map of a case; no voxel is read.

    Parameters
    ----------
    case : Case

    Raises
    ------
    DatasetError
        There is none.
    FileFormatError, MissingExtraError
        See `read_volume`.
    """
    if case.label is None:
        raise DatasetError(
            "has no label map",
            where=f"case {case.id}",
            expected="one",
            remedy="add it, or leave the case out",
        )
    return formats.open_labels(case.label, case.repair, case.label_series)


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
    return grid_of(open_source(first, case.repair), first, case.repair)
