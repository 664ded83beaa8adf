"""Image files in and out, whatever their format: the one door.

`open_volume` and `open_labels` find the format by a file's first bytes and check its headers; they
read voxels when these are asked for. `read_image` and `read_labels` do both at once.
"""

import vol3dseg.space  # noqa: F401 - it imports nibabel as that has to be
from vol3dseg.formats.image_file import Format, VolumeFile
from vol3dseg.formats.names import (
    EXPECTED,
    FORMATS,
    files_of,
    format_by_name,
    label_stem,
    stem,
    write,
    write_labels,
)
from vol3dseg.formats.nifti.nifti_file import NIFTI
from vol3dseg.formats.nifti.nifti_pair import is_companion
from vol3dseg.formats.opening import (
    LabelFile,
    finite_image,
    open_labels,
    open_volume,
    read_image,
    read_labels,
)

__all__ = [
    "EXPECTED", "FORMATS", "NIFTI", "Format", "LabelFile", "VolumeFile", "files_of",
    "finite_image", "format_by_name", "is_companion", "label_stem", "open_labels", "open_volume",
    "read_image", "read_labels", "stem", "write", "write_labels",
]  # fmt: skip
