"""DICOM-SEG onto the grid of an image, and which class each segment is.

Segments are numbered without gaps, so their numbers are seldom the values of label maps; names come
first. Numbers count only where no segment has the name of a class, which is how programs write that
do not know our names: then a segment is read as its number would be in another label map.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, GridError, LabelError, some_of
from vol3dseg.formats.dicom.dicom_file import long_string, parsing, printable, read_dataset
from vol3dseg.formats.dicom.pixel_data import decode
from vol3dseg.formats.dicom.planes import Plane, planes_of
from vol3dseg.formats.streams import damaged
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.labels import LabelSet, Segmentation, numbered_labels


def read_seg(path: Path, labels: LabelSet | None, grid: Geometry | None) -> Segmentation:
    """Read a DICOM-SEG onto the grid of its image; segments are classes by their names.

    `labels` have a class of the name of every segment; if they have that of none, segments are
    classes by their numbers, as values to read. Without labels each is a class "segment n". Without
    a grid the file is refused, since it leaves out frames without voxels. Raises FileFormatError
    (damaged, or no DICOM-SEG of binary segments), LabelError (a segment is no class, or two classes
    share a voxel), GridError (a frame does not lie on the grid) and MissingExtraError.
    """
    if grid is None:
        raise GridError(
            "is a DICOM-SEG, which does not tell all of its grid",
            where=path,
            expected="the image that it was drawn on beside it",
            remedy="name both in a dataset table: the image, and the DICOM-SEG as its label",
        )
    dataset = read_dataset(path)
    planes = planes_of(dataset, path)
    with parsing(path):
        segments, of_frames = _segments(dataset, path, len(planes))
    try:
        labels, classes, notes = _classes(segments, labels)
    except LabelError as error:
        raise error.at(path) from None
    array = np.zeros(grid.shape, np.uint8, order="F")
    masks = decode(dataset, range(len(planes)), path)
    for plane, number, mask in zip(planes, of_frames, masks, strict=True):
        voxels = _voxels(plane, mask, grid)
        taken = array[voxels]
        if ((taken != 0) & (taken != classes[number])).any():
            raise LabelError(
                "segments overlap",
                where=path,
                expected="one class in each voxel",
                remedy="export them as segments that exclude each other",
            )
        array[voxels] = classes[number]
    return Segmentation(array, grid, labels, notes)


def _segments(dataset: Any, path: Path, frames: int) -> tuple[dict[int, str], list[int]]:
    """Return the names of segments by number, and the segment of each frame."""
    if (kind := dataset.get("SegmentationType")) != "BINARY":
        known = f" but {kind}" if kind in ("FRACTIONAL", "LABELMAP") else ""
        raise FileFormatError(
            f"segments are not BINARY{known}",
            where=path,
            expected="a DICOM-SEG with a mask for each segment",
            remedy="export it as such, or as NIfTI",
        )
    names = {int(s.SegmentNumber): str(s.SegmentLabel) for s in dataset.SegmentSequence}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    own = dataset.PerFrameFunctionalGroupsSequence
    groups = [
        (own[n].get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence)[0]
        for n in range(frames)
    ]
    numbers = [int(group.ReferencedSegmentNumber) for group in groups]
    nameless = sorted(set(numbers) - set(names))
    if nameless:
        found = f"frames are of segments {some_of([*map(str, nameless)])}"
        raise damaged(found, path, "those that it describes")
    return names, numbers


def _voxels(plane: Plane, mask: NDArray[Any], grid: Geometry) -> tuple[NDArray[np.intp], ...]:
    """Return where on the grid the voxels of a frame's mask lie."""
    rows, columns = np.nonzero(mask)
    along, down = np.reshape(plane.orientation, (2, 3))
    between_rows, between_columns = plane.spacing_mm
    sides = np.stack([along * between_columns, down * between_rows], axis=1)
    world = np.array(plane.position)[:, None] + sides @ np.stack([columns, rows])
    inverse = np.linalg.inv(grid.affine)
    exact = inverse[:3, :3] @ world + inverse[:3, 3:]
    nearest = np.rint(exact)
    inside = (nearest >= 0) & (nearest < np.array(grid.shape)[:, None])
    # Voxels of a coarser frame may lie on those of the grid, but are larger.
    as_large = (np.abs(np.rint(inverse[:3, :3] @ sides)).sum(axis=0) == 1).all()
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


def _classes(
    segments: dict[int, str], labels: LabelSet | None
) -> tuple[LabelSet, dict[int, int], tuple[Note, ...]]:
    """Return the classes, which of them each segment is, and what is to be said of that."""
    if labels is None:
        own = numbered_labels("segment", segments, "export those that are needed")
        return own, classes_by_number(segments, own), ()
    named = classes_by_name(segments, labels)
    if named is not None:
        return labels, named, ()
    found = classes_by_number(segments, labels)
    # Names of classes alone: what a header says does not get into outputs.
    taken = [f"{number} is {labels.names[index]}" for number, index in found.items()]
    note = Note("no segment has the name of a class", f"read by number: {', '.join(taken)}")
    return labels, found, (note,)


def classes_by_name(segments: Mapping[int, str], labels: LabelSet) -> dict[int, int] | None:
    """Return the class index of each segment by its name; None if no name is that of a class.

    A class may have several segments. Case does not count, but where classes differ in nothing
    else. LabelError: some names are those of classes, and some are not.
    """
    found = {number: _index(name, labels) for number, name in segments.items()}
    known = {number: index for number, index in found.items() if index is not None}
    if known and len(known) < len(found):
        raise _no_class({n: segments[n] for n in found if n not in known}, labels)
    return known or None


def _index(name: str, labels: LabelSet) -> int | None:
    for key in (long_string, lambda text: long_string(text).strip().casefold()):
        matching = [n for n, known in enumerate(labels.names) if key(known) == key(name)]
        if len(matching) == 1:
            return matching[0]
    return None


def classes_by_number(segments: Mapping[int, str], labels: LabelSet) -> dict[int, int]:
    """Return the class index of each segment by its number, taken for a value to read.

    LabelError: a number is no value to read of a class, or two are alternatives between files.
    """
    table = labels.by_value
    unknown = {number: name for number, name in segments.items() if number not in table}
    if unknown:
        read = sorted(value for value in table if value != 0)
        raise _no_class(unknown, labels, f", nor their numbers among the values to read {read}")
    labels.require_one_of_alternatives(segments)
    return {number: table[number] for number in segments}


def _no_class(segments: Mapping[int, str], labels: LabelSet, besides: str = "") -> LabelError:
    named = [f"{number} {printable(name)!r}" for number, name in segments.items()]
    return LabelError(
        f"segments {some_of([*map(str, segments)])} are not among the classes "
        f"{some_of(labels.foreground)}{besides}",
        expected="the name of a class for each, in upper or lower case",
        remedy="name segments and classes alike",
        listed=f"their names are {some_of(named)}",
    )
