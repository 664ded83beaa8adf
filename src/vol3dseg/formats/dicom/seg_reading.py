"""DICOM-SEG onto the grid of an image: segments are classes by their names."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, GridError, LabelError, some_of
from vol3dseg.formats.dicom.dicom_file import parsing, read_dataset
from vol3dseg.formats.dicom.pixel_data import decode
from vol3dseg.formats.dicom.planes import Plane, read_planes
from vol3dseg.formats.dicom.segment_classes import (
    classes_by_name,
    classes_by_number,
    labels_by_number,
)
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.labels import LabelSet, Segmentation

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def read_seg(path: Path, labels: LabelSet | None, grid: Geometry | None) -> Segmentation:
    """Read a DICOM-SEG onto a grid; segments are classes by their names.

    Parameters
    ----------
    path : Path
    labels : LabelSet or None
        Has a class of the name of every segment; if it has that of none, segments are classes by
        their numbers, as values to read. None makes a class "segment n" of each.
    grid : Geometry or None
        Of the image; the file alone does not tell, since frames without voxels are left out of it.
        None, where no image is known, is refused.

    Raises
    ------
    FileFormatError
        The file is damaged, or no DICOM-SEG of binary segments.
    LabelError
        A segment is no class, or two classes share a voxel.
    GridError
        A frame does not lie on the grid, or there is none.
    MissingExtraError
        pydicom is not installed.
    """
    if grid is None:
        raise GridError(
            "is a DICOM-SEG, which does not tell all of its grid",
            where=path,
            expected="the image that it was drawn on beside it",
            remedy="name both in a dataset table: the image, and the DICOM-SEG as its label",
        )
    planes = read_planes(path)
    segments, of_frames = _segments(path, len(planes))
    try:
        labels, classes, notes = _classes(segments, labels)
    except LabelError as error:
        raise error.at(path) from None
    array = np.zeros(grid.shape, np.uint8, order="F")
    masks = decode(read_dataset(path), range(len(planes)), path)
    for plane, number, mask in zip(planes, of_frames, masks, strict=True):
        index = classes[number]
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
    return Segmentation(array, grid, labels, notes)


def _segments(path: Path, frames: int) -> tuple[dict[int, str], list[int]]:
    """Return the names of segments by number, and the segment of each frame."""
    tags = ("SegmentationType", "SegmentSequence", "SharedFunctionalGroupsSequence")
    header = read_dataset(path, (*tags, "PerFrameFunctionalGroupsSequence"))
    with parsing(path):
        if header.get("SegmentationType") != "BINARY":
            raise FileFormatError(
                "is no DICOM-SEG of binary segments",
                where=path,
                expected="one",
                remedy="export it as such",
            )
        names = {int(s.SegmentNumber): str(s.SegmentLabel) for s in header.SegmentSequence}
        shared = header.SharedFunctionalGroupsSequence[0]
        own = header.PerFrameFunctionalGroupsSequence
        groups = [
            (own[n].get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence)[0]
            for n in range(frames)
        ]
        numbers = [int(group.ReferencedSegmentNumber) for group in groups]
        nameless = sorted(set(numbers) - set(names))
        if nameless:
            raise FileFormatError(
                f"frames are of segments {some_of([str(n) for n in nameless])}",
                where=path,
                expected="those that it describes",
                remedy="export it again",
            )
    return names, numbers


def _classes(
    segments: dict[int, str], labels: LabelSet | None
) -> tuple[LabelSet, dict[int, int], tuple[Note, ...]]:
    """Return the classes, which of them each segment is, and what is to be said of that."""
    if labels is None:
        own = labels_by_number(segments)
        return own, classes_by_number(segments, own), ()
    named = classes_by_name(segments, labels)
    if named is not None:
        return labels, named, ()
    found = classes_by_number(segments, labels)
    # Names of classes alone: what a header says does not get into outputs.
    taken = [f"{number} is {labels.names[index]}" for number, index in found.items()]
    note = Note("no segment is called as a class is", f"by their numbers, {', '.join(taken)}")
    return labels, found, (note,)


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
    ras = lps * _LPS_TO_RAS[:, None]
    inverse = np.linalg.inv(grid.affine)
    steps = inverse[:3, :3] @ (_LPS_TO_RAS * [along * between_columns, down * between_rows]).T
    exact = inverse[:3, :3] @ ras + inverse[:3, 3:]
    nearest = np.rint(exact)
    inside = (nearest >= 0) & (nearest < np.array(grid.shape)[:, None])
    # Voxels of a coarser frame may lie on those of the grid, but are larger.
    as_large = (np.abs(np.rint(steps)).sum(axis=0) == 1).all()
    off = np.abs(exact - nearest).max(initial=0) > 0.1
    if off or not inside.all() or not as_large:
        raise GridError(
            f"frame {plane.frame + 1} does not lie on the grid of the image",
            where=plane.path,
            expected=f"one on {grid.placed()}",
            remedy="give the image that it was drawn on",
        )
    i, j, k = nearest.astype(np.intp)
    return i, j, k
