"""A label map of a case, whatever it is kept in.

Most formats hold values on a grid of their own. A DICOM-SEG holds the masks of named segments and
leaves out frames without voxels: it comes onto the grid of the image that it was drawn on.
"""

from pathlib import Path

from vol3dseg.errors import FileFormatError
from vol3dseg.formats import names as formats
from vol3dseg.formats import opening
from vol3dseg.formats.dicom.seg_reading import read_seg
from vol3dseg.formats.dicom.series_folder import Search, choose, find_series, searching_once
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation

_SEG = ".dcm"


def read_label_map(
    path: Path,
    labels: LabelSet,
    grid: Geometry | None = None,
    series: str | None = None,
    repair: bool = False,
) -> Segmentation:
    """Read a label map and give its values, or its segments, their classes.

    Parameters
    ----------
    path : Path
        An image file, a DICOM-SEG, or a folder with DICOM series.
    labels : LabelSet
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
    search = searching_once()
    seg = find_seg(path, series, search)
    if seg is not None:
        return read_seg(seg, labels, grid)
    file = opening.open_volume(path, repair, series, search)
    values, geometry = file.labels()
    return Segmentation(labels.encode(values, str(path)), geometry, labels, file.notes)


def find_seg(path: Path, series: str | None = None, search: Search = find_series) -> Path | None:
    """Return the DICOM-SEG that a label map is; None if it is something else.

    Parameters
    ----------
    path : Path
    series : str or None
        See `read_label_map`.
    search : callable
        Finds the series of a DICOM folder; see `dicom_folder.searching_once`.

    Raises
    ------
    FileFormatError
        No series fits, or several; or the series has several files.
    MissingExtraError
        It is DICOM, and pydicom is not installed.
    """
    if not opening.holds_dicom(path, series):
        return None
    chosen = choose(search(path), series)
    if chosen.modality != "SEG":
        return None
    if len(chosen.files) > 1:
        raise FileFormatError(
            f"has {len(chosen.files)} DICOM-SEG files",
            where=chosen.where,
            expected="one with all segments",
            remedy="name the file that is meant",
        )
    return chosen.files[0]


def stem(path: Path) -> str | None:
    """Return the name of a label map without its suffix; None if it has no suffix of one."""
    return path.name[: -len(_SEG)] if path.name.lower().endswith(_SEG) else formats.stem(path)
