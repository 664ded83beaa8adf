"""DICOM-SEG onto the grid of an image: segments are classes by their labels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, GridError, LabelError, some_of
from vol3dseg.volumes.dicom_files import long_string, parsing, printable, read_dataset
from vol3dseg.volumes.dicom_pixels import read_frames
from vol3dseg.volumes.dicom_planes import Plane, read_planes
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.labels import LabelSet, Segmentation


def read_seg(path: Path, labels: LabelSet, grid: Geometry) -> Segmentation:
    """Read a DICOM-SEG onto a grid; segments are classes by their labels.

    Parameters
    ----------
    path : Path
    labels : LabelSet
        Has a class of the name of every segment.
    grid : Geometry
        Of the image; the file alone does not tell, since frames without voxels are left out of it.

    Raises
    ------
    FileFormatError
        The file is damaged, or no DICOM-SEG of binary segments.
    LabelError
        A segment has an unknown label, or two segments share a voxel.
    GridError
        A frame does not lie on the grid.
    MissingExtraError
        pydicom is not installed.
    """
    planes = read_planes(path)
    classes = _classes(path, labels, len(planes))
    array = np.zeros(grid.shape, np.uint8, order="F")
    numbered = range(len(planes))
    for plane, index, mask in zip(planes, classes, read_frames(path, numbered), strict=True):
        voxels = _voxels(plane, mask, grid)
        taken = array[voxels]
        if ((taken != 0) & (taken != index)).any():
            raise LabelError(
                "segments overlap",
                where=path,
                expected="one class in each voxel",
                remedy="export them as segments that exclude each other",
            )
        array[voxels] = index
    return Segmentation(array, grid, labels)


def _classes(path: Path, labels: LabelSet, frames: int) -> list[int]:
    """Return the class of each frame."""
    tags = ("SegmentationType", "SegmentSequence", "SharedFunctionalGroupsSequence")
    header = read_dataset(path, (*tags, "PerFrameFunctionalGroupsSequence"))
    known = {long_string(name): index for index, name in enumerate(labels.names)}
    with parsing(path):
        if header.get("SegmentationType") != "BINARY":
            raise FileFormatError(
                "is no DICOM-SEG of binary segments",
                where=path,
                expected="one",
                remedy="export it as such",
            )
        names = {int(s.SegmentNumber): str(s.SegmentLabel) for s in header.SegmentSequence}
        unknown = [printable(name) for name in names.values() if name not in known]
        if unknown:
            raise LabelError(
                f"holds segments {some_of(unknown)}",
                where=path,
                expected=f"some of the classes {some_of(labels.foreground)}",
                remedy="name them alike",
            )
        shared = header.SharedFunctionalGroupsSequence[0]
        own = header.PerFrameFunctionalGroupsSequence
        groups = [
            (own[n].get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence)[0]
            for n in range(frames)
        ]
        return [known[names[int(group.ReferencedSegmentNumber)]] for group in groups]


def _voxels(plane: Plane, mask: NDArray[Any], grid: Geometry) -> tuple[NDArray[np.intp], ...]:
    """Return where on the grid the voxels of a frame's mask lie."""
    rows, columns = np.nonzero(mask)
    along, down = np.reshape(plane.orientation, (2, 3))
    between_rows, between_columns = plane.spacing_mm
    lps = (
        np.array(plane.position)[:, None]
        + np.outer(along * between_columns, columns)
        + np.outer(down * between_rows, rows)
    )
    ras = lps * np.array([[-1.0], [-1.0], [1.0]])
    inverse = np.linalg.inv(grid.affine)
    exact = inverse[:3, :3] @ ras + inverse[:3, 3:]
    nearest = np.rint(exact)
    inside = (nearest >= 0) & (nearest < np.array(grid.shape)[:, None])
    if not inside.all() or np.abs(exact - nearest).max(initial=0) > 0.1:
        raise GridError(
            f"frame {plane.frame + 1} does not lie on the grid of the image",
            where=plane.path,
            expected=f"one on {grid.placed()}",
            remedy="give the image that it was drawn on",
        )
    i, j, k = nearest.astype(np.intp)
    return i, j, k
