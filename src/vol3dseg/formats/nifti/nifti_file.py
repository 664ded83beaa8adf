"""NIfTI files, through nibabel, with the checks that nibabel leaves to its caller."""

from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel as nib
from numpy.typing import NDArray

from vol3dseg.formats.image_file import Format, ImageFile, ImageHeader, stored_portions
from vol3dseg.formats.limits import bounded
from vol3dseg.formats.nifti.nifti_geometry import geometry_of
from vol3dseg.formats.nifti.nifti_header import LABEL, begins_as_nifti, read_header
from vol3dseg.formats.nifti.nifti_pair import header_and_voxels
from vol3dseg.formats.streams import FileStart, read_start, write_stream
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Intake


def open_nifti(file: FileStart, repair: bool = False) -> ImageFile:
    """Open a NIfTI-1 or NIfTI-2 file, in one piece or either of a pair; no voxel is read."""
    intake = Intake(repair)
    first, voxels = (
        file if path == file.path else read_start(path) for path in header_and_voxels(file.path)
    )
    header = read_header(first, voxels, intake)
    if first.compressed and first.path != voxels.path:
        # Nothing else would verify the checksum of a compressed header.
        deque(bounded(first.portions(), first.path, "its header"), maxlen=0)
    _note_name(first, intake)
    dtype = header.get_data_dtype()
    unusable = "colours" if dtype.fields else str(dtype) if dtype.kind == "c" else ""
    found = ImageHeader(
        header.get_data_shape(),
        dtype,
        lambda shape: geometry_of(header, shape, file.path, intake),
        partial(voxels.portions, int(header["vox_offset"])),
        header.get_slope_inter(),
        unusable=unusable,
        labels=int(header["intent_code"]) == LABEL,
    )
    return ImageFile(file.path, found, intake)


def _note_name(file: FileStart, intake: Intake) -> None:
    """Note a file whose name says something else of compression than its content."""
    named = file.path.name.lower().endswith(".gz")
    if named and not file.compressed:
        intake.note("is named .gz but not compressed", "read as it is")
    if file.compressed and not named:
        intake.note("is compressed with gzip but not named .gz", "decompressed")


def write(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write a .nii or .nii.gz file with nothing but the grid in its header; see `formats.write`."""
    write_stream(path, content(array, geometry))


def content(
    array: NDArray[Any], geometry: Geometry, window: tuple[float, float] | None = None
) -> Iterator[memoryview]:
    """Give a file in portions, its header first; `window` tells viewers what is black and white."""
    header = nib.Nifti1Header()
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_xyzt_units("mm")
    header.set_sform(geometry.affine, code=1)
    header.set_qform(geometry.affine, code=1)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = len(header.binaryblock) + 4  # four zeros: no extensions
    if window is not None:
        header["cal_min"], header["cal_max"] = window
    start = bytes(header.binaryblock) + bytes(4)
    return chain([memoryview(start)], stored_portions(array))


NIFTI = Format(
    "nifti", "a NIfTI", ".nii.gz", (".nii.gz", ".nii", ".img.gz", ".img", ".hdr.gz", ".hdr"),
    begins_as_nifti, open_nifti,
    lambda path: tuple(dict.fromkeys(header_and_voxels(path))),
    write,
)  # fmt: skip
