"""What a file is that is none of the formats, by its first bytes, and what to do with it."""

import re
from pathlib import Path

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.streams import unfit_file

_IMAGE = "NIfTI (.nii, .nii.gz, or .hdr with .img), NRRD or MetaImage"
_EXPORT = "export the scan as one of them"
_UNPACK = "unpack it"
_AGAIN = "download it again: instead of it came an answer of the server"
_SLICES = "export the scan it shows as one of them"
_KINDS = (
    (rb"\x00\x00\x00\x01(\x00\x00..){3}", "is MGH or MGZ", "convert it, as mri_convert does"),
    (rb"\x89HDF", "is HDF5, as MINC 2 is", "convert it, as mnc2nii does"),
    (rb"CDF[\x01\x02]", "is NetCDF, as MINC 1 is", "convert it, as mnc2nii does"),
    (rb"\x93NUMPY", "is a NumPy array, which has no grid", _EXPORT),
    (rb"\x89PNG", "is a picture (PNG)", _SLICES),
    (rb"\xff\xd8\xff", "is a picture (JPEG)", _SLICES),
    (rb"II\*\x00|MM\x00\*", "is a picture, or several (TIFF)", _SLICES),
    (rb"%PDF", "is a PDF", _SLICES),
    (rb"PK\x03\x04|7z\xbc\xaf|Rar!", "is an archive (ZIP, 7z or RAR)", _UNPACK),
    (rb"BZh\d", "is compressed with bzip2", _UNPACK),
    (rb"\xfd7zXZ", "is compressed with xz", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "is compressed with zstd", _UNPACK),
    (rb"\s*(?i:<!doctype html|<html)", "is a page of the web", _AGAIN),
    (rb"# vtk|ply\r?\n|solid ", "is a surface or a mesh", "convert it to a label map"),
)  # fmt: skip


def not_an_image(start: bytes, path: Path) -> FileFormatError:
    """Return the error of a file that begins like none that is read."""
    for begins, kind, remedy in _KINDS:
        if re.match(begins, start, re.DOTALL):
            return unfit_file(kind, path, _IMAGE, remedy)
    return unfit_file("not a NIfTI file", path, _IMAGE, _EXPORT)
