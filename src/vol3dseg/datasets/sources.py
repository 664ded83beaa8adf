"""The files of a case, opened one by one: the grid and the voxels of an image in them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg import formats
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.label_classes import meant_by, own_labels
from vol3dseg.errors import DatasetError, LabelError
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.oblique import resample_image_onto


class SourceFile:
    """The file, or the series of a folder, that an image is kept in, and perhaps others as well.

    Opening it reads no voxel, and all of its images are unpacked once. With `repair` a file that is
    wrong is read where there is a repair. Raises the errors of `read_case`.
    """

    def __init__(self, source: ImageSource, repair: bool = False) -> None:
        self._repair = repair
        self._file = formats.open_volume(source.path, repair, source.series)
        self.opened, self.path = source.opened, self._file.path

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was corrected in the file so far."""
        return self._file.notes

    def grid(self, source: ImageSource) -> Geometry:
        """Return the grid that an image of the file will lie on, from headers alone."""
        if source.onto is not None:
            return SourceFile(source.onto, self._repair)._file.geometry(source.onto.channel)
        geometry = self._file.geometry(source.channel)
        geometry.require_right_angles(source.path)
        return geometry

    def read(
        self,
        source: ImageSource,
        place: Callable[[tuple[int, ...]], NDArray[np.float32]] | None = None,
    ) -> tuple[NDArray[np.float32], Geometry, int]:
        """Return the voxels of an image, its grid, and how many voxels were NaN or infinite.

        `place` gives the (i, j, k) array that an image of some shape goes into.
        """
        target = self.grid(source)
        out = place(self._file.shape[:3]) if place and source.onto is None else None
        array, own, replaced = formats.finite_image(self._file, source.channel, source.nan, out)
        if source.onto is None:
            return array, target, replaced
        array = resample_image_onto(array, own, target)
        if place is not None and (kept := place(array.shape)).shape == array.shape:
            kept[...] = array
            return kept, target, replaced
        return array, target, replaced


def by_file(images: Mapping[str, ImageSource]) -> list[list[str]]:
    """Return the names of images, those together that are kept in one file."""
    found: dict[tuple[Path, str | None], list[str]] = {}
    for name, source in images.items():
        found.setdefault(source.opened, []).append(name)
    return list(found.values())


class LabelMap:
    """The label map of a case: a file, and what its values mean in it."""

    def __init__(self, case: Case, path: Path) -> None:
        self._case = case
        self._file = formats.open_labels(path, case.repair, case.label_series)

    @property
    def path(self) -> Path:
        """Of the file, or the folder."""
        return self._file.path

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was corrected in the file so far."""
        return self._file.notes

    def geometry(self) -> Geometry | None:
        """Return its own grid; None for a DICOM-SEG, which lies on that of its image."""
        return self._file.geometry()

    def segmentation(self, labels: LabelSet | None, grid: Geometry | None) -> Segmentation:
        """Return the classes of all voxels, and which of them nobody has looked for.

        `grid` is that of the images; without `labels`, classes are named by their values. Raises
        the errors of `read_case`.
        """
        if labels is None:
            return self._file.segmentation(None, grid)
        own, unannotated = own_labels(self._case, labels)
        try:
            found = self._file.segmentation(own, grid)
        except LabelError as error:
            raise meant_by(self._case, error) from error
        return replace(found, labels=labels, unannotated=unannotated)


def open_label(case: Case) -> LabelMap:
    """Open the label map of a case, without a voxel; raises DatasetError where there is none."""
    if case.label is None:
        raise DatasetError(
            "has no label map",
            where=f"case {case.id}",
            expected="one",
            remedy="add it, or leave the case out",
        )
    return LabelMap(case, case.label)


def read_grid(case: Case) -> Geometry:
    """Return the grid of a case's images, from the headers of the first.

    Raises DatasetError where there is none, and the errors of `read_case`.
    """
    for source in case.images.values():
        return SourceFile(source, case.repair).grid(source)
    raise DatasetError(
        "has no image",
        where=f"case {case.id}",
        expected="one, whose grid is that of the case",
        remedy="name it in a dataset table",
    )
