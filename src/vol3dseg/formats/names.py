"""The formats of image files, how their names end, which files belong together, and writing."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vol3dseg.errors import OutputError
from vol3dseg.formats.image_file import Format
from vol3dseg.formats.itk.metaimage import METAIMAGE
from vol3dseg.formats.itk.nrrd import NRRD
from vol3dseg.formats.nifti.nifti_file import NIFTI
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Segmentation

FORMATS = (NIFTI, NRRD, METAIMAGE)
EXPECTED = ".nii, .nii.gz, .hdr with .img, .nrrd, .nhdr, .mha or .mhd"
_SEG = ".dcm"


def format_by_name(path: Path) -> Format | None:
    """Return the format that the suffix of `path` stands for; None if it stands for none."""
    return next((f for f in FORMATS if path.name.lower().endswith(f.suffixes)), None)


def stem(path: Path) -> str | None:
    """Return the name of an image file without its suffix; None if it has no suffix of one."""
    known = format_by_name(path)
    return None if known is None else known.stem(path)


def label_stem(path: Path) -> str | None:
    """Return what `stem` does, for a label map, which may be a DICOM-SEG as well."""
    return path.name[: -len(_SEG)] if path.name.lower().endswith(_SEG) else stem(path)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that an image is kept in: two where its voxels stand beside its header.

    FileFormatError: one of the two is missing, or the header that names the other is damaged.
    """
    known = format_by_name(path)
    return (path,) if known is None else known.files(path)


def write_labels(segmentation: Segmentation, path: str | Path) -> None:
    """Write a label map, with the values that its classes are written as.

    Parameters
    ----------
    segmentation : Segmentation
    path : str or Path
        Its suffix says the format: .nii.gz, .nii, .nrrd or .mha. The file appears when it is whole,
        with a fresh header.

    Raises
    ------
    OutputError
        The suffix stands for no format that is written, or the file cannot be.
    """
    write(Path(path), segmentation.labels.decode(segmentation.array), segmentation.geometry)


def write(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write an (i, j, k) or (i, j, k, n) array in the format of its suffix, with its own type.

    Atomically, byte for byte the same for the same input, and with a fresh header. OutputError: the
    suffix stands for no format that is written, or the file cannot be.
    """
    for known in FORMATS:
        if path.name.lower().endswith((known.suffix, known.suffix.removesuffix(".gz"))):
            known.write(path, array, geometry)
            return
    wanted = "a name that ends in .nii.gz, .nii, .nrrd or .mha"
    raise OutputError("cannot be written", where=path, expected=wanted, remedy="choose one")
