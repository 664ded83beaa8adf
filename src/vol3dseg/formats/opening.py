"""Image files and DICOM series, opened as what they are, whatever their names say."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, IntensityError
from vol3dseg.formats.dicom.dicom_file import is_dicom
from vol3dseg.formats.dicom.dicom_volume import DicomVolume
from vol3dseg.formats.itk.itk_file import format_of, open_itk
from vol3dseg.formats.names import NIFTI, NRRD, format_by_name
from vol3dseg.formats.nifti.nifti_file import open_nifti
from vol3dseg.formats.streams import FileStart, read_start
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note


class VolumeFile(Protocol):
    """A file whose header is read and checked; its voxels are read when they are asked for.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        Voxels along the axes; without those of one voxel behind the third.
    """

    path: Path
    shape: tuple[int, ...]

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found and put right; more may come as more is read."""
        ...

    def geometry(self, channel: int | None = None) -> Geometry:
        """Return the grid of an image after checking all that headers say; no voxel is read."""
        ...

    def image(
        self, channel: int | None = None, out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], Geometry, int]:
        """Return one modality, its grid, and how many voxels are NaN or infinite."""
        ...

    def labels(self) -> tuple[NDArray[Any], Geometry]:
        """Return the values of a label map as stored, and its grid."""
        ...


def open_volume(
    path: Path,
    repair: bool = False,
    series: str | None = None,
) -> VolumeFile:
    """Open an image file, or a series of a DICOM folder, as what it is.

    Parameters
    ----------
    path : Path
        NIfTI, NRRD, MetaImage, or DICOM: a file of several frames, or a folder. All but the first
        need an extra.
    repair : bool
        Mend what has a repair (see `docs/bad-inputs.md`); otherwise it is refused.
    series : str or None
        Which series of a DICOM folder: UID, number or a pattern of its description; None where
        there is only one.

    Raises
    ------
    FileFormatError
        The file is missing, empty, damaged, or none of these; or no series fits, or several.
    GridError
        The slices of a series make no volume.
    MissingExtraError
        The package that reads it is not installed.
    """
    start = start_unless_dicom(path, series)
    if start is None:
        return DicomVolume(path, series, repair)
    return open_image(start, repair)


def start_unless_dicom(path: Path, series: str | None = None) -> FileStart | None:
    """Return the start of an image file; None if `path` is a folder or file of DICOM."""
    if series is not None or path.is_dir():
        return None
    start = read_start(path)
    return None if is_dicom(start.start) and not start.packed else start


def open_image(file: FileStart, repair: bool = False) -> VolumeFile:
    """Open an image file that is no DICOM; see `open_volume`."""
    kind = None if file.packed else format_of(file.start)
    if kind is not None:
        return open_itk(file.path, kind, repair)
    named = format_by_name(file.path)
    if named is not None and named is not NIFTI and not _is_nifti(file.start):
        raise FileFormatError(
            f"not {'an NRRD' if named is NRRD else 'a MetaImage'} file: it does not begin as one",
            where=file.path,
            expected="what its name says",
            remedy="copy or export it again",
        )
    return open_nifti(file, repair)


def _is_nifti(start: bytes) -> bool:
    return start[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c", b"\x1c\2\0\0", b"\0\0\2\x1c")


def finite_image(
    file: VolumeFile,
    channel: int | None = None,
    nan: float | None = None,
    out: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], Geometry, int]:
    """Return one modality, its grid, and how many voxels were NaN or infinite and are replaced.

    Parameters
    ----------
    file : VolumeFile
    channel : int or None
        Which volume of a 4-D file; None for a 3-D file.
    nan : float or None
        What replaces them; None refuses them.
    out : (i, j, k) array of float32, or None
        Where to put it, if its shape is that of the file.

    Raises
    ------
    FileFormatError, GridError
        See `read_image`.
    IntensityError
        A voxel is NaN or infinite, and nothing is to replace it.
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
    """Read one modality.

    Parameters
    ----------
    path : Path
        NIfTI, NRRD or MetaImage.
    channel : int or None
        Which volume of a 4-D file; None for a 3-D file.

    Returns
    -------
    array : (i, j, k) array of float32
    geometry : Geometry

    Raises
    ------
    FileFormatError
        The file is missing, empty, truncated, damaged, of another format, or has other axes than
        expected.
    GridError
        The header's geometry is not usable.
    IntensityError
        A voxel is NaN or infinite.
    MissingExtraError
        It is DICOM, and pydicom is not installed.
    """
    return finite_image(open_volume(path), channel)[:2]
