"""Headers of NIfTI files, checked before anything is allocated."""

import logging
import math
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from vol3dseg.formats.foreign import not_an_image
from vol3dseg.formats.limits import MAX_RATIO, MOST_BESIDE, require_scan, too_much
from vol3dseg.formats.streams import FileStart, damaged, unfit_file
from vol3dseg.space.intake import Intake

_SINGLE, _PAIR = (b"n+1\0", b"n+2\0"), (b"ni1\0", b"ni2\0")
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_AXES = {348: ("h", 40), 540: ("q", 16)}  # how and where headers keep their number
LABEL, _SURFACES = 1002, range(3000, 3100)  # what `intent_code` may say
_UNREAD = {1: "single bits", 1536: "floats of 128 bits", 2048: "complex numbers of 256 bits"}
_EXTENSION = 4  # bytes behind the header that say whether extensions follow
_quiet = logging.getLogger(f"{__name__}.mended")  # what nibabel mends is told below, or harmless
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


def begins_as_nifti(file: FileStart) -> bool:
    """Tell whether a file begins with the size of a NIfTI header, in either order of bytes."""
    return any(struct.pack(f"{order}i", n) == file.start[:4] for order in "<>" for n in _HEADERS)


def read_header(file: FileStart, voxels: FileStart, intake: Intake) -> Any:
    """Read the header of a NIfTI file with nibabel, mended where that is harmless.

    Refuse what is damaged, promises more than the file of the voxels can hold, or says that they
    are in another file than they are.
    """
    start, path = file.start, file.path
    size, order = _header_size(start, path)
    if len(start) < size:
        raise damaged("ends within its header", path, f"{size} bytes")
    _check_axes(start, size, order, path)
    try:
        # Not with `check=True`: it writes to a log of nibabel's, which threads cannot silence.
        header = _HEADERS[size](start[:size], check=False)
        _check_type(header, path)
        _check_spacing(header, path, intake)
        # The sign of it mirrors the last axis; what is not quite 1 would become 1.
        header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
        header.check_fix(logger=_quiet)
        _check_scaling(header, path)
        header.get_slope_inter()
    except (HeaderDataError, OverflowError) as error:
        raise unfit_file(f"damaged NIfTI header ({error})", path, "one by the standard") from error
    _check_voxels(header, size, file, voxels, intake)
    return header


def _header_size(content: bytes, path: Path) -> tuple[int, str]:
    """Return the size of a header [bytes], and the order of its bytes."""
    for order in "<>":
        size = struct.unpack(f"{order}i", content[:4])[0] if len(content) >= 4 else 0
        magic = content[344:348] if size == 348 else content[4:8]
        if size in _HEADERS and magic in _SINGLE + _PAIR:
            return int(size), order
        if size == 348 and not any(magic):
            found = "not a NIfTI file but Analyze 7.5, which does not say which side is left"
            raise unfit_file(found, path, "NIfTI", "export it again from its source")
    raise not_an_image(content, path)


def _check_axes(content: bytes, size: int, order: str, path: Path) -> None:
    """Refuse a number of axes that cannot be; nibabel would take it for the other byte order."""
    kind, offset = _AXES[size]
    axes = struct.unpack_from(f"{order}{kind}", content, offset)[0]
    if not 1 <= axes <= 7:
        raise unfit_file(f"header says {axes} axes", path, "1 to 7")


def _check_type(header: Any, path: Path) -> None:
    """Refuse types of voxels that the standard knows and nobody reads, and what is no volume."""
    if int(header["intent_code"]) in _SURFACES:
        remedy = "export its volume, for one with wb_command -cifti-separate"
        raise unfit_file("holds values on surfaces (CIFTI)", path, "a volume", remedy)
    if what := _UNREAD.get(int(header["datatype"])):
        remedy = "convert it, to float32 for one"
        raise unfit_file(f"voxels are {what}", path, "numbers of 8 to 64 bits", remedy)


def _check_scaling(header: Any, path: Path) -> None:
    """Refuse a slope or an intercept that is no number; nibabel would read without them."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        found = f"header says slope {slope:g} and intercept {intercept:g}"
        raise unfit_file(found, path, "finite numbers")


def _check_spacing(header: Any, path: Path, intake: Intake) -> None:
    """Refuse distances that are none; nibabel would mend them, other readers mirror the axis."""
    shape = header.get_data_shape()[:3]
    found = header["pixdim"][1 : 1 + len(shape)].tolist()
    if not any(n > 1 and not 0 < mm < math.inf for n, mm in zip(shape, found, strict=True)):
        return
    words = f"header says that voxels are {found} mm apart"
    error = unfit_file(words, path, "positive numbers", "mend pixdim, or export it again")
    with np.errstate(over="ignore", invalid="ignore"):  # such a one is of no use below
        columns = np.linalg.norm(header.get_sform()[:3, :3], axis=0)
    if header["sform_code"] <= 0 or not (np.isfinite(columns).all() and columns.min() > 0):
        raise error
    intake.mend(error, "taken from the sform")
    header["pixdim"][1:4] = columns


def _check_voxels(
    header: Any, size: int, file: FileStart, voxels: FileStart, intake: Intake
) -> None:
    """Check where voxels begin and that there can be so many, before they are allocated."""
    path, alone = file.path, voxels.path == file.path
    paired = bytes(header["magic"]).ljust(4, b"\0") in _PAIR
    if paired and alone:
        wanted = "one piece, or a pair named .hdr and .img"
        raise unfit_file("header of a NIfTI pair in a file by itself", path, wanted, "name both so")
    if not paired and not alone:
        found = f"header of a NIfTI file in one piece, with {voxels.path.name} beside it"
        raise unfit_file(found, path, "a pair", "name it .nii, or export it again")
    _check_first(header, 0 if paired else size + _EXTENSION, path, intake)
    shape, offset = header.get_data_shape(), int(header["vox_offset"])
    if not shape or min(shape) < 1:
        raise unfit_file(f"header says {shape} voxels", path, "at least one per axis")
    claimed = int(np.prod(shape, dtype=object)) * header.get_data_dtype().itemsize + offset
    if claimed > (most := voxels.most):
        found = f"truncated: header promises {claimed} bytes, the file can hold at most {most}"
        raise damaged(found, path)
    if voxels.compressed:
        require_scan(claimed, voxels.most // MAX_RATIO, path)


def _check_first(header: Any, first: int, path: Path, intake: Intake) -> None:
    """Refuse voxels before byte `first`, which is behind the header of a file in one piece."""
    offset = float(header["vox_offset"])
    if first <= offset <= MOST_BESIDE:
        return
    if MOST_BESIDE < offset < math.inf:
        raise too_much(path, "what stands before its voxels")
    wanted = f"{first} or later{', behind the header' if first else ''}"
    error = unfit_file(f"header says that voxels begin at byte {offset:g}", path, wanted)
    if offset != 0:
        raise error
    intake.mend(error, f"read from byte {first}")
    header["vox_offset"] = first
