"""The grid that a NIfTI header places its voxels on, in millimetres."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from vol3dseg.errors import GridError
from vol3dseg.formats.streams import unfit_file
from vol3dseg.space.geometry import Geometry, Spacing, corners, unusable
from vol3dseg.space.intake import Intake

_UNITS = {1: ("metres", 1e3), 2: ("millimetres", 1.0), 3: ("micrometres", 1e-3)}  # `xyzt_units`
_LENGTH = 7  # its bits that are about length, not time
_LIKELY_MM = (0.01, 50.0)  # between voxels of a scan: from microscopy to the thickest slices
_ROUNDED = 1e-3  # of a quaternion's squared length: programs store few digits, and it is scaled
_APART = 0.5  # voxels that sform and qform may differ by: programs round either


def geometry_of(header: Any, shape: tuple[int, ...], path: Path, intake: Intake) -> Geometry:
    """Return the grid that a header places an array of `shape` on; refuse one of no use."""
    with np.errstate(invalid="ignore", over="ignore"):
        mm = _mm(header, shape, path, intake)
        i, j, k = np.abs(header["pixdim"][1:4].astype(float) * mm).tolist()
        grid = partial(_grid, shape, mm, (i, j, k), path)
        sform = grid(header.get_sform()) if header["sform_code"] > 0 else None
        try:
            qform = grid(_qform(header, path)) if header["qform_code"] > 0 else None
        except GridError as error:
            if sform is None:
                raise
            intake.mend(error, "placed by the sform alone")
            qform = None
        if sform and qform:
            _require_one_place(sform, qform, path)
        if placed := sform or qform:
            return placed
        placed = grid(header.get_base_affine())
    found = "header says nothing of orientation: the codes of sform and qform are both 0"
    remedy = "export it again with its orientation"
    unknown = unusable(found, "a code of 1 or more", path, remedy)
    intake.mend(unknown, f"read as {placed.axis_codes}, with the spacing of pixdim")
    return placed


def _mm(header: Any, shape: tuple[int, ...], path: Path, intake: Intake) -> float:
    """Return the header's unit of length in millimetres, and say so if it is another."""
    name, mm = _UNITS.get(int(header["xyzt_units"]) & _LENGTH, ("", 1.0))
    if name == "millimetres":
        return mm
    matrix = header.get_sform() if header["sform_code"] > 0 else np.diag(header["pixdim"][1:4])
    apart = np.linalg.norm(matrix[:3, :3].astype(float), axis=0).tolist()
    lengths = [length for length, count in zip(apart, shape, strict=True) if count > 1] or [1.0]
    least, most = min(lengths), max(lengths)
    said = f"{least:g} to {most:g}"
    if not name:
        if not _LIKELY_MM[0] <= least <= most <= _LIKELY_MM[1]:
            intake.note(f"header names no unit of length; voxels are {said} apart", "read as mm")
    elif most * mm <= _LIKELY_MM[1]:
        done = f"voxels are read as {least * mm:g} to {most * mm:g} mm apart"
        intake.note(f"header gives lengths in {name}", done)
    else:
        found = f"header says that voxels are {said} {name} apart"
        error = unfit_file(found, path, "distances of a scan", "mend xyzt_units, or the lengths")
        intake.mend(error, "read as millimetres")
        mm = 1.0
    return mm


def _qform(header: Any, path: Path) -> NDArray[np.float64]:
    """Return the affine of the qform."""
    names = ("quatern_b", "quatern_c", "quatern_d")
    quaternion = np.array([float(header[name]) for name in names])
    length = float(np.linalg.norm(quaternion))
    # Three of four numbers whose squares sum to 1: of half a turn the fourth is 0, and the three
    # are rounded to a little more than 1, which nibabel takes for damage.
    if 1 < length**2 <= 1 + _ROUNDED:
        for name, value in zip(names, quaternion / length, strict=True):
            header[name] = value
    try:
        return np.asarray(header.get_qform())
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        found = f"qform is not usable (its quaternion has the length {length:g})"
        raise unusable(found, "a length of at most 1", path, "export it again") from error


def _grid(
    shape: tuple[int, ...], mm: float, stated_mm: Spacing, path: Path, affine: NDArray[Any]
) -> Geometry:
    try:
        return Geometry(shape, affine * np.array([mm, mm, mm, 1])[:, None], stated_mm)
    except GridError as error:
        raise error.at(path) from error


def _require_one_place(sform: Geometry, qform: Geometry, path: Path) -> None:
    apart = (sform.affine - qform.affine) @ corners(sform.shape)
    apart_mm = np.linalg.norm(apart[:3], axis=0).max()
    if apart_mm > _APART * min(sform.spacing_mm):
        found = f"sform and qform place the volume up to {apart_mm:.3g} mm apart"
        raise unusable(found, "one place", path, "set the wrong one's code to 0")
