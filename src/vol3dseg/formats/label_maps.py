"""Label maps of a case, whatever they are kept in.

Most formats hold values on a grid of their own. A DICOM-SEG holds the masks of named segments and
leaves out frames without voxels: it comes onto the grid of the image that it was drawn on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, LabelError
from vol3dseg.formats.dicom.dicom_volume import DicomVolume
from vol3dseg.formats.dicom.seg_reading import read_seg
from vol3dseg.formats.dicom.series import Series, choose, find_series
from vol3dseg.formats.opening import VolumeFile, open_image, start_unless_dicom
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.labels import Label, LabelSet, Segmentation, distinct, whole_numbers

_MOST_CLASSES = 254  # besides the background


class LabelFile(Protocol):
    """A label map whose headers are read and checked; its voxels are read when asked for.

    Attributes
    ----------
    path : Path
    """

    path: Path

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found and put right; more may come as more is read."""
        ...

    def geometry(self) -> Geometry | None:
        """Return its own grid; None for a DICOM-SEG, which lies on that of its image."""
        ...

    def segmentation(self, labels: LabelSet | None, grid: Geometry | None = None) -> Segmentation:
        """Return the classes of all voxels; see `read_labels`."""
        ...


def open_labels(
    path: Path,
    repair: bool = False,
    series: str | None = None,
) -> LabelFile:
    """Open a label map as what it is.

    Parameters are those of `open_volume`.

    Raises
    ------
    FileFormatError
        The file cannot be read, or the folder holds another number of series.
    MissingExtraError
        The package that reads it is not installed.
    """
    start = start_unless_dicom(path, series)
    if start is not None:
        return _ValueFile(open_image(start, repair))
    chosen = choose(find_series(path), series)
    if chosen.modality == "SEG":
        return _SegFile(_only_file(chosen))
    return _ValueFile(DicomVolume(path, series, repair))


def read_labels(
    path: Path,
    labels: LabelSet | None = None,
    grid: Geometry | None = None,
    series: str | None = None,
    repair: bool = False,
) -> Segmentation:
    """Read a label map and give its values, or its segments, their classes.

    Parameters
    ----------
    path : Path
        An image file, a DICOM-SEG, or a folder with DICOM series.
    labels : LabelSet or None
        None makes a class "value n" of each value, or "segment n" of each segment.
    grid : Geometry or None
        Of the image. A DICOM-SEG comes onto it; what has a grid of its own stays there.
    series : str or None
        Which series of a DICOM folder: UID, number or a pattern of its description; None where
        there is only one.
    repair : bool
        Mend what has a repair; otherwise it is refused.

    Raises
    ------
    FileFormatError
        The file cannot be read, or the folder holds another number of series.
    LabelError
        It holds a value or a segment that is not in the label map of the config.
    GridError
        A DICOM-SEG does not lie on the grid, or none is given.
    MissingExtraError
        The package that reads it is not installed.
    """
    return open_labels(path, repair, series).segmentation(labels, grid)


@dataclass(slots=True)
class _SegFile:
    """A DICOM-SEG."""

    path: Path
    notes: tuple[Note, ...] = ()

    def geometry(self) -> None:
        return None

    def segmentation(self, labels: LabelSet | None, grid: Geometry | None = None) -> Segmentation:
        found = read_seg(self.path, labels, grid)
        self.notes = found.notes
        return found


class _ValueFile:
    """A label map that is kept as an image of whole numbers."""

    def __init__(self, file: VolumeFile) -> None:
        self._file = file
        self.path = file.path

    @property
    def notes(self) -> tuple[Note, ...]:
        return self._file.notes

    def geometry(self) -> Geometry:
        return self._file.geometry()

    def segmentation(self, labels: LabelSet | None, grid: Geometry | None = None) -> Segmentation:
        values, geometry = self._file.labels()
        labels = labels or _labels_of(values, self.path)
        return Segmentation(labels.encode(values, str(self.path)), geometry, labels, self.notes)


def _only_file(series: Series) -> Path:
    if len(series.files) > 1:
        raise FileFormatError(
            f"has {len(series.files)} DICOM-SEG files",
            where=series.where,
            expected="one with all segments",
            remedy="name the file that is meant",
        )
    return series.files[0]


def _labels_of(values: NDArray[Any], path: Path) -> LabelSet:
    """Return a class "value n" for each value but 0."""
    found = [value for value in distinct(whole_numbers(values, str(path))) if value != 0]
    if len(found) > _MOST_CLASSES:
        raise LabelError(
            f"holds {len(found)} values besides 0",
            where=path,
            expected=f"fewer than {_MOST_CLASSES + 1}",
            remedy="give a label map, if this is an image",
        )
    own = [
        Label(name=f"value {value}", read=(value,), write=index)
        for index, value in enumerate(found or [1], start=1)
    ]
    return LabelSet(classes=(Label(name="background", read=(0,), write=0), *own))
