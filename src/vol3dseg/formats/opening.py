"""Images and label maps, opened as what they are, whatever their names say.

Most formats hold a label map as values on a grid of their own. A DICOM-SEG holds the masks of named
segments and leaves out frames without voxels: it comes onto the grid of the image that it was drawn
on.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, IntensityError
from vol3dseg.formats.dicom.beginning import is_dicom
from vol3dseg.formats.dicom.dicom_volume import DicomVolume
from vol3dseg.formats.dicom.seg_reading import read_seg
from vol3dseg.formats.dicom.series import choose, find_series
from vol3dseg.formats.image_file import VolumeFile
from vol3dseg.formats.names import FORMATS, format_by_name
from vol3dseg.formats.nifti.nifti_file import NIFTI
from vol3dseg.formats.streams import FileStart, damaged, read_start
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.label_values import distinct, whole_numbers
from vol3dseg.space.labels import LabelSet, Segmentation, numbered_labels
from vol3dseg.written import usable_path


def open_volume(path: Path, repair: bool = False, series: str | None = None) -> VolumeFile:
    """Open an image file, or a series of a DICOM folder; no voxel is read.

    `repair` mends what has a repair (see `docs/bad-inputs.md`). `series` is a UID, a number or a
    pattern of a description; None where there is only one. GridError: the slices of a series make
    no volume. MissingExtraError: pydicom, which DICOM needs, is not installed.
    """
    start = _start_unless_dicom(path, series)
    return DicomVolume(path, series, repair) if start is None else _opened(start, repair)


def _start_unless_dicom(path: Path, series: str | None) -> FileStart | None:
    usable_path(path, FileFormatError)
    if series is not None or path.is_dir():
        return None
    start = read_start(path)
    return None if is_dicom(start.start) else start


def _opened(file: FileStart, repair: bool) -> VolumeFile:
    """Open an image file that is no DICOM."""
    found = next((f for f in FORMATS if f.matches(file)), None)
    named = format_by_name(file.path)
    if found is None and named is not None and named is not NIFTI:
        words = f"not {named.title} file: it does not begin as one"
        raise damaged(words, file.path, "what its name says")
    return (found or NIFTI).open(file, repair)  # NIfTI's reader says what it is not


def finite_image(
    file: VolumeFile,
    channel: int | None = None,
    nan: float | None = None,
    out: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], Geometry, int]:
    """Return one modality, its grid, and how many voxels were NaN or infinite and are replaced.

    `nan` replaces them; IntensityError where that is None. The rest is as in `VolumeFile.image`.
    """
    array, geometry, bad = file.image(channel, out)
    if bad and nan is None:
        raise IntensityError(
            f"{bad} voxels are NaN or infinite",
            where=file.path,
            expected="finite intensities",
            remedy="give the number that replaces them in the column <modality>_nan of a dataset "
            "table, or replace them in a copy of it",
        )
    if bad and nan is not None:
        np.nan_to_num(array, copy=False, nan=nan, posinf=nan, neginf=nan)
    return array, geometry, bad


def read_image(path: Path, channel: int | None = None) -> tuple[NDArray[np.float32], Geometry]:
    """Return one (i, j, k) modality and its grid; IntensityError: a voxel is NaN or infinite."""
    return finite_image(open_volume(path), channel)[:2]


@dataclass(slots=True)
class LabelFile:
    """A label map whose headers are read and checked; its voxels are read when asked for.

    `_values` is a file with a grid of its own; None for a DICOM-SEG.
    """

    path: Path
    _values: VolumeFile | None
    _notes: tuple[Note, ...] = ()

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found and put right; more may come as more is read."""
        return self._notes if self._values is None else self._values.notes

    def geometry(self) -> Geometry | None:
        """Return its own grid; None for a DICOM-SEG, which lies on that of its image."""
        return None if self._values is None else self._values.geometry()

    def segmentation(self, labels: LabelSet | None, grid: Geometry | None = None) -> Segmentation:
        """Return the classes of all voxels; see `read_labels`."""
        if self._values is None:
            read = read_seg(self.path, labels, grid)
            self._notes = read.notes
            return read
        values, geometry = self._values.labels()
        if labels is None:
            found = [value for value in distinct(whole_numbers(values, str(self.path))) if value]
            remedy = "give a label map, if this is an image"
            labels = numbered_labels("value", found or [1], remedy, self.path)
        return Segmentation(labels.encode(values, str(self.path)), geometry, labels, self.notes)


def open_labels(path: Path, repair: bool = False, series: str | None = None) -> LabelFile:
    """Open a label map as `open_volume` does an image; no voxel is read."""
    start = _start_unless_dicom(path, series)
    if start is not None:
        values = _opened(start, repair)
        if len(values.shape) > 3:
            found, wanted = f"has shape {values.shape}", "a label map of three axes"
            remedy = "join its volumes into one, with a value for each class"
            raise FileFormatError(found, where=path, expected=wanted, remedy=remedy)
        return LabelFile(path, values)
    chosen = choose(find_series(path), series)
    if chosen.modality != "SEG":
        return LabelFile(path, DicomVolume(path, series, repair))
    if len(chosen.files) > 1:
        found, wanted = f"has {len(chosen.files)} DICOM-SEG files", "one with all segments"
        remedy = "name the file that is meant"
        raise FileFormatError(found, where=chosen.where, expected=wanted, remedy=remedy)
    return LabelFile(chosen.files[0], None)


def read_labels(
    path: str | Path,
    labels: LabelSet | None = None,
    grid: Geometry | None = None,
    series: str | None = None,
    repair: bool = False,
) -> Segmentation:
    """Read a label map from a file.

    Parameters
    ----------
    path : str or Path
        A file, or a folder with a DICOM series.
    labels : LabelSet or None
        What values or segments mean; None makes a class of each: "value 1", "segment 1".
    grid : Geometry or None
        That of the image; a DICOM-SEG, which does not tell its own, comes onto it.
    series : str or None
        Which DICOM series of the folder: UID, number or a pattern of its description.
    repair : bool
        Read what is wrong where there is a repair.

    Raises
    ------
    FileFormatError
        It cannot be read.
    LabelError
        A value or a segment is not among the classes.
    GridError
        A DICOM-SEG does not lie on the grid.
    MissingExtraError
        DICOM needs pydicom.
    """
    return open_labels(Path(path), repair, series).segmentation(labels, grid)
