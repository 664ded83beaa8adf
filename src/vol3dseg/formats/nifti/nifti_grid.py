"""The grid that the header of a NIfTI file places its voxels on."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from vol3dseg.errors import GridError
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Intake


def geometry_of(header: Any, shape: tuple[int, ...], path: Path, intake: Intake) -> Geometry:
    """Return the grid that a header places an array of `shape` on.

    Raises
    ------
    GridError
        The header's geometry is not usable, or says nothing of orientation.
    """
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            geometry = Geometry(shape, header.get_best_affine())
            sform, qform = (header.get_sform(coded=True), header.get_qform(coded=True))
            if sform[1] > 0 and qform[1] > 0:
                Geometry(shape, qform[0])  # or nothing could be said of how far they are apart
    except GridError as error:
        raise error.at(path) from error
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        raise GridError(
            f"sform or qform is not usable ({error})",
            where=path,
            expected="one that places the voxels",
            remedy="mend the header",
        ) from error
    if sform[1] == 0 and qform[1] == 0:
        unknown = GridError(
            "header says nothing of orientation: the codes of sform and qform are both 0",
            where=path,
            expected="a code of 1 or more",
            remedy="export it again with its orientation",
        )
        intake.mend(unknown, f"read as {geometry.axis_codes}, with the spacing of pixdim")
    if sform[1] > 0 and qform[1] > 0:
        _check_forms(sform[0], qform[0], geometry, path)
    return geometry


def _check_forms(
    sform: NDArray[np.float64], qform: NDArray[np.float64], geometry: Geometry, path: Path
) -> None:
    corners = np.array([[*c, 1] for c in product(*((0, n - 1) for n in geometry.shape))]).T
    apart_mm = np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max()
    if apart_mm > 0.5 * min(geometry.spacing_mm):
        raise GridError(
            f"sform and qform place the volume up to {apart_mm:.3g} mm apart",
            where=path,
            expected="one place",
            remedy="set the wrong one's code to 0",
        )
