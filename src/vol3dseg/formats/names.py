"""The formats of image files: how names end, which files belong together, and writing.

`vol3dseg.formats.opening` reads images, `vol3dseg.formats.label_maps` label maps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from vol3dseg.errors import OutputError
from vol3dseg.formats.itk.metaimage import read_metaimage_header, write_metaimage
from vol3dseg.formats.itk.nrrd import read_nrrd_header, write_nrrd
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.formats.nifti.nifti_pair import header_and_voxels, is_header_of_pair
from vol3dseg.space.geometry import Geometry

FormatName = Literal["nifti", "nrrd", "mha"]


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
    write : callable
        Takes path, (i, j, k[, n]) array and Geometry.
    """

    name: FormatName
    suffix: str
    suffixes: tuple[str, ...]
    write: Callable[[Path, NDArray[Any], Geometry], None]


_PAIRS = (".img.gz", ".img", ".hdr.gz", ".hdr")
NIFTI = Format("nifti", ".nii.gz", (*nifti.SUFFIXES, *_PAIRS), nifti.write)
NRRD = Format("nrrd", ".nrrd", (".nrrd", ".nhdr"), write_nrrd)
MHA = Format("mha", ".mha", (".mha", ".mhd"), write_metaimage)
FORMATS = (NIFTI, NRRD, MHA)
_SEG = ".dcm"
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


def label_stem(path: Path) -> str | None:
    """Return what `stem` does, for a label map, which may be a DICOM-SEG as well."""
    return path.name[: -len(_SEG)] if path.name.lower().endswith(_SEG) else stem(path)


def is_companion(path: Path) -> bool:
    """Tell whether `path` is a header whose voxels, beside it, stand for both."""
    return is_header_of_pair(path)


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
