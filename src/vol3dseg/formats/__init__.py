"""Image files in and out, whatever their format: the one door.

`open_volume` and `open_labels` find the format by a file's first bytes and check its headers; they
read voxels when these are asked for. `read_image` and `read_labels` do both at once.
"""

from vol3dseg.formats.label_maps import LabelFile, open_labels, read_labels
from vol3dseg.formats.names import (
    EXPECTED,
    FORMATS,
    NIFTI,
    NRRD,
    Format,
    FormatName,
    files_of,
    format_by_name,
    is_companion,
    label_stem,
    stem,
    write,
)
from vol3dseg.formats.opening import VolumeFile, finite_image, open_volume, read_image

__all__ = [
    "EXPECTED", "FORMATS", "NIFTI", "NRRD", "Format", "FormatName", "LabelFile", "VolumeFile",
    "files_of", "finite_image", "format_by_name", "is_companion", "label_stem", "open_labels",
    "open_volume", "read_image", "read_labels", "stem", "write",
]  # fmt: skip
