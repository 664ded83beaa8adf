"""Slices of a DICOM series that are there twice, the same in every byte that counts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vol3dseg.errors import GridError, some_of
from vol3dseg.formats.dicom.pixels import read_frames
from vol3dseg.formats.dicom.planes import Plane
from vol3dseg.space.intake import Intake


def without_copies(planes: Sequence[Plane], where: str, intake: Intake) -> list[Plane]:
    """Return the slices without those that are there a second time, where repairs are allowed.

    A copy has the SOP Instance UID of another slice, its place and its voxels. What has the UID
    alone stays, for `dicom_stack` to refuse.

    Parameters
    ----------
    planes : sequence of Plane
    where : str
        What they belong to, for messages.
    intake : Intake

    Raises
    ------
    FileFormatError
        The voxels of a copy cannot be decoded.
    GridError
        There are copies, and repairs are not allowed.
    """
    originals: dict[str, Plane] = {}
    copies: list[Plane] = []
    for plane in sorted(planes, key=lambda plane: plane.path):
        original = originals.setdefault(plane.uid, plane) if plane.uid else plane
        if original is not plane and _is_copy(plane, original):
            copies.append(plane)
    if not copies:
        return list(planes)
    names = some_of([f"{plane.name} of {originals[plane.uid].name}" for plane in copies])
    error = GridError(
        f"holds copies of slices: {names}",
        where=where,
        expected="each slice once",
        remedy="remove the copies",
    )
    intake.mend(error, "read without them")
    return [plane for plane in planes if not any(plane is copy for copy in copies)]


def _is_copy(plane: Plane, original: Plane) -> bool:
    if plane.frames > 1 or replace(plane, path=original.path) != original:
        return False
    mine, other = (next(read_frames(one.path, [0])) for one in (plane, original))
    return np.array_equal(mine, other)
