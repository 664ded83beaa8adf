"""The formats of image files: which a file has, whatever its name says, and how names end.

What reads or writes a volume asks here; the modules of the formats are behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, IntensityError, OutputError
from vol3dseg.volumes import nifti
from vol3dseg.volumes.dicom_files import is_dicom
from vol3dseg.volumes.dicom_folder import Search, find_series
from vol3dseg.volumes.dicom_volume import DicomVolume
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.gzipped import Stream
from vol3dseg.volumes.intake import Note
from vol3dseg.volumes.itk_formats import ItkFile, format_of
from vol3dseg.volumes.itk_writing import write_metaimage, write_nrrd
from vol3dseg.volumes.metaimage_header import read_metaimage_header
from vol3dseg.volumes.nifti import NiftiFile
from vol3dseg.volumes.nifti_pair import header_and_voxels
from vol3dseg.volumes.nrrd_header import read_nrrd_header

FormatName = Literal["nifti", "nrrd", "mha"]
_SNIFFED = 256  # bytes that tell a text header from voxels


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
        """Return the label map as stored; see `read_labels`."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is read and written.

    Parameters
    ----------
    name : "nifti", "nrrd" or "mha"
    suffix : str
        Of files that are written.
    suffixes : tuple of str
        Of files that are read; of two, of which one ends in the other, the longer first.
    companions : tuple of str
        Those of `suffixes` that belong to another file of the same name, if that is there.
    write : callable
        Takes path, (i, j, k[, n]) array and Geometry.
    """

    name: FormatName
    suffix: str
    suffixes: tuple[str, ...]
    companions: tuple[str, ...]
    write: Callable[[Path, NDArray[Any], Geometry], None]


_PAIRS = (".img.gz", ".img", ".hdr.gz", ".hdr")
NIFTI = Format("nifti", ".nii.gz", (*nifti.SUFFIXES, *_PAIRS), (".hdr.gz", ".hdr"), nifti.write)
NRRD = Format("nrrd", ".nrrd", (".nrrd", ".nhdr"), (), write_nrrd)
MHA = Format("mha", ".mha", (".mha", ".mhd"), (), write_metaimage)
FORMATS = (NIFTI, NRRD, MHA)
EXPECTED = ".nii, .nii.gz, .hdr with .img, .nrrd, .nhdr, .mha or .mhd"


def format_by_name(path: Path) -> Format | None:
    """Return the format that the suffix of `path` stands for; None if it stands for none."""
    name = path.name.lower()
    return next((f for f in FORMATS if name.endswith(f.suffixes)), None)


def stem(path: Path) -> str | None:
    """Return the name of an image file without its suffix; None if it has no suffix of one."""
    name = path.name.lower()
    found = (s for f in FORMATS for s in f.suffixes if name.endswith(s))
    suffix = next(found, None)
    return None if suffix is None else path.name[: -len(suffix)]


def is_companion(path: Path) -> bool:
    """Tell whether `path` is a header whose voxels, beside it, stand for both."""
    name = path.name.lower()
    mine = next((s for f in FORMATS for s in f.companions if name.endswith(s)), None)
    if mine is None:
        return False
    start = path.name[: -len(mine)]
    images = {f"{start}.img", f"{start}.img.gz"}
    return any((path.parent / image).is_file() for image in images)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that an image is kept in: two where its voxels stand beside its header.

    Raises
    ------
    FileFormatError
        One of the two is missing, or the header that names the other is damaged.
    """
    name = path.name.lower()
    if name.endswith(".mhd"):
        return path, read_metaimage_header(path).data
    if name.endswith(".nhdr"):
        return path, read_nrrd_header(path).data
    return tuple(dict.fromkeys(header_and_voxels(path)))


def open_volume(
    path: Path,
    repair: bool = False,
    series: str | None = None,
    search: Search = find_series,
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
    search : callable
        Finds the series of a DICOM folder; see `dicom_folder.searching_once`.

    Raises
    ------
    FileFormatError
        The file is missing, empty, damaged, or none of these; or no series fits, or several.
    GridError
        The slices of a series make no volume.
    MissingExtraError
        The package that reads it is not installed.
    """
    if holds_dicom(path, series):
        return DicomVolume(path, series, repair, search)
    with Stream(path) as stream:
        start = stream.read(_SNIFFED)
    kind = format_of(start)
    named = format_by_name(path)
    if kind is None and named is not None and named is not NIFTI and not _is_nifti(start):
        raise FileFormatError(
            f"not {'an NRRD' if named is NRRD else 'a MetaImage'} file: it does not begin as one",
            where=path,
            expected="what its name says",
            remedy="copy or export it again",
        )
    return NiftiFile(path, repair) if kind is None else ItkFile(path, kind, repair)


def holds_dicom(path: Path, series: str | None = None) -> bool:
    """Tell whether `path` is to be read as DICOM: a folder, a file of it, or one of its series."""
    return series is not None or path.is_dir() or is_dicom(path)


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
            "table, or replace them in the file",
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
        It needs SimpleITK, which is not installed.
    """
    return finite_image(open_volume(path), channel)[:2]


def read_labels(path: Path) -> tuple[NDArray[Any], Geometry]:
    """Read a label map as stored; `LabelSet.encode` gives its values a meaning.

    Raises the errors of `read_image`, but for those on voxel values.
    """
    return open_volume(path).labels()


def write(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write a volume in the format of its suffix, with a fresh header.

    Parameters
    ----------
    path : Path
        Written atomically, and byte for byte the same for the same input.
    array : (i, j, k) or (i, j, k, n) array
        Stored with its own type.
    geometry : Geometry

    Raises
    ------
    OutputError
        The suffix stands for no format that is written, or the file cannot be.
    """
    for known in FORMATS:
        if path.name.lower().endswith((known.suffix, known.suffix.removesuffix(".gz"))):
            known.write(path, array, geometry)
            return
    raise OutputError(
        "cannot be written",
        where=path,
        expected="a name that ends in .nii.gz, .nii, .nrrd or .mha",
        remedy="choose one",
    )
