"""From the slices of a DICOM series to one grid, or one line on why there is none.

The grid is the one that ITK gives a series, and that a NIfTI file of it has: i counts columns, j
counts rows, k counts slices along the normal, which is the cross product of both directions. So
every grid is right-handed. The spacing of slices comes from their positions; SliceThickness says
how thick a slice is, not how far the next one is.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import GridError, some_of
from vol3dseg.formats.dicom.acquisition import ATTRIBUTES, require_one_acquisition, told_values
from vol3dseg.formats.dicom.dicom_file import read_dataset
from vol3dseg.formats.dicom.pixel_data import decode
from vol3dseg.formats.dicom.planes import Plane
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Intake

_Array = NDArray[np.float64]

_SAME = 0.02  # of the way between slices: closer ones lie at the same position
_UNEVEN = 0.1  # voxels that a slice may lie off its place, since headers round
_SHEAR = 1e-3  # mm sideways per mm along the normal: what directions of four digits round to
_NOTED = 1e-4  # where less is not worth a word
_ALIKE = 1e-3  # of a spacing, which headers give in four digits or more
_TURNED = 2e-3  # of directions, which some give in three
_STILL_MM = 1e-4  # closer than any slices: positions have sixteen characters


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices in the order of k, and the grid that they make."""

    planes: tuple[Plane, ...]
    geometry: Geometry


def stack(planes: Sequence[Plane], where: str, intake: Intake) -> Stack:
    """Sort slices by position and return the grid that they make.

    Notes say of a single slice how thick it is taken to be, and of a shear that it is taken for
    rounding. GridError: the slices differ in size, spacing, orientation or frame of reference, lie
    at the same positions or beside each other, or have a gap.
    """
    planes = sorted(planes, key=lambda plane: (plane.path, plane.frame))
    _check_alike(planes, where)
    along, down = np.reshape(planes[0].orientation, (2, 3))
    normal = np.cross(along, down)
    normal /= np.linalg.norm(normal)
    depths = np.array([plane.position for plane in planes]) @ normal
    order = np.argsort(depths, kind="stable")
    planes, depths = [planes[n] for n in order], depths[order]
    if len(planes) == 1:
        thickness = planes[0].thickness_mm or 1.0
        intake.note("holds one slice", f"read as {thickness:g} mm thick")
        step = normal * thickness
    else:
        _check_positions(planes, depths, where)
        _check_gaps(planes, depths, where)
        _note_absent(planes, intake)
        lean = _lean(planes, depths, normal, where)
        shear = float(np.linalg.norm(lean))
        step = (normal + lean) * float(depths[-1] - depths[0]) / (len(planes) - 1)
        if shear <= _SHEAR:
            step = normal * (step @ normal)
            if shear > _NOTED:
                intake.note(f"slices lean by {shear:.2g} mm per mm", "read as straight")
    between_rows, between_columns = planes[0].spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = np.stack([along * between_columns, down * between_rows, step], axis=1)
    affine[:3, 3] = planes[0].position
    rows, columns = planes[0].size
    return Stack(tuple(planes), Geometry((columns, rows, len(planes)), affine))


def _check_alike(planes: Sequence[Plane], where: str) -> None:
    references = sorted({plane.frame_of_reference for plane in planes})
    spacing_mm = _ALIKE * min(planes[0].spacing_mm)
    odd_ones = "move the odd ones to another folder"
    one_of = "choose the slices of one, since places of different ones cannot be compared"
    rules: tuple[tuple[str, Callable[[Plane], tuple[float, ...]], float, str], ...] = (
        ("sizes", lambda p: p.size, 0, odd_ones),
        ("frames of reference", lambda p: (references.index(p.frame_of_reference),), 0, one_of),
        ("spacings", lambda p: p.spacing_mm, spacing_mm, odd_ones),
        ("orientations", lambda p: p.orientation, _TURNED, "move the localizer to another folder"),
    )
    for what, key, tolerance, remedy in rules:
        values = [key(plane) for plane in planes]
        usual = Counter(values).most_common(1)[0][0]
        apart = np.abs(np.array(values) - usual).max(axis=1)
        odd = [planes[n].name for n in np.flatnonzero(apart > tolerance).tolist()]
        if odd:
            like = f"{len(planes) - len(odd)} like {planes[values.index(usual)].name}"
            found = f"slices have several {what}: {like}, but not {some_of(odd)}"
            raise GridError(found, where=where, expected="one", remedy=remedy)


def _check_positions(planes: Sequence[Plane], depths: _Array, where: str) -> None:
    """Refuse slices at the same position, one twice or several volumes, and of other scans."""
    gaps = np.diff(depths)
    if gaps.max() < _STILL_MM:
        raise GridError(
            f"all {len(planes)} slices lie at the same position",
            where=where,
            expected="a stack of slices",
            remedy="export the series again with the position of each",
        )
    apart = gaps[gaps > _SAME * gaps.max()]
    new = np.concatenate([[True], gaps > _SAME * np.median(apart)])
    counts = np.bincount(np.cumsum(new) - 1)
    if 1 < counts.min() == counts.max():
        raise GridError(
            f"holds {counts[0]} volumes of {len(counts)} slices at the same positions, "
            f"{_told_apart(planes, int(counts[0]))}",
            where=where,
            expected="one volume",
            remedy="put the files of one of them into a folder of their own",
        )
    require_one_acquisition([p.name for p in planes], [p.marks for p in planes], where)
    if counts.max() == 1:
        return
    second = int(np.argmin(new))
    raise GridError(
        f"{planes[second - 1].name} and {planes[second].name} lie at the same position, "
        f"{depths[second]:.4g} mm along the normal ({int((counts > 1).sum())} of {len(counts)} "
        "positions hold several slices)",
        where=where,
        expected="one slice at each",
        remedy="move the duplicates to another folder",
    )


def _told_apart(planes: Sequence[Plane], volumes: int) -> str:
    """Say what differs between slices at the same position."""
    every = zip(*(plane.marks for plane in planes), strict=True)
    differences = [
        attribute.name + told_values(values)
        for attribute, values in zip(ATTRIBUTES, every, strict=True)
        if 2 <= len(set(values)) <= volumes
    ]
    return f"told apart by {' and '.join(differences) or 'nothing that is known here'}"


def _check_gaps(planes: Sequence[Plane], depths: _Array, where: str) -> None:
    steps = np.arange(len(depths))
    mean = (depths[-1] - depths[0]) / steps[-1]
    if np.abs(depths - depths[0] - mean * steps).max() <= _UNEVEN * mean:
        return
    gaps = np.diff(depths)
    usual = float(np.median(gaps)) if len(gaps) > 2 else float(gaps.min())
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if wide.size == 0:
        raise GridError(
            f"slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart",
            where=where,
            expected="even spacing",
            remedy="resample the series, or move the odd slices to another folder",
        )
    ends = [f"{plane.name} at {mm:.4g} mm" for plane, mm in zip(planes, depths, strict=True)]
    places = some_of([f"between {ends[n]} and {ends[n + 1]}" for n in wide.tolist()])
    raise GridError(
        f"slices are missing {places} along the normal",
        where=where,
        expected=f"one every {usual:.4g} mm",
        remedy="copy or export the series again",
    )


def _note_absent(planes: Sequence[Plane], intake: Intake) -> None:
    """Note that there are fewer slices than all of them say: at an end there is no gap to see."""
    said = {plane.of for plane in planes}
    if len(said) == 1 and (images := said.pop()) > len(planes):
        found = f"headers say {images} images of this acquisition, and here are {len(planes)}"
        intake.note(found, "read as they are")


def _lean(planes: Sequence[Plane], depths: _Array, normal: _Array, where: str) -> _Array:
    """Return where slices go beside the normal [mm per mm]; refuse those that go elsewhere."""
    positions = np.array([plane.position for plane in planes])
    sideways = positions - positions[0] - np.outer(depths - depths[0], normal)
    lean: _Array = sideways[-1] / (depths[-1] - depths[0])
    off = np.linalg.norm(sideways - np.outer(depths - depths[0], lean), axis=1)
    if off.max() > _UNEVEN * min(planes[0].spacing_mm):
        worst = int(off.argmax())
        raise GridError(
            f"{planes[worst].name} lies {off[worst]:.3g} mm to the side of the others",
            where=where,
            expected="slices in one line",
            remedy="export the series again",
        )
    return lean


def without_copies(planes: Sequence[Plane], where: str, intake: Intake) -> list[Plane]:
    """Return the slices without those that are there a second time, where repairs are allowed.

    A copy has the SOP Instance UID of another slice, its place and its voxels. A slice that has
    the UID alone stays, for `stack` to refuse. GridError: there are copies, and no repairs.
    """
    originals: dict[str, Plane] = {}
    copies: dict[Plane, Plane] = {}
    for plane in sorted(planes, key=lambda plane: plane.path):
        original = originals.setdefault(plane.uid, plane) if plane.uid else plane
        if original is not plane and _is_copy(plane, original):
            copies[plane] = original
    if copies:
        names = some_of([f"{copy.name} of {original.name}" for copy, original in copies.items()])
        error = GridError(
            f"holds copies of slices: {names}",
            where=where,
            expected="each slice once",
            remedy="move the copies to another folder",
        )
        intake.mend(error, "read without them")
    return [plane for plane in planes if plane not in copies]


def _is_copy(plane: Plane, original: Plane) -> bool:
    if plane.frames > 1 or replace(plane, path=original.path) != original:
        return False
    mine, other = (next(decode(read_dataset(one.path), [0], one.path)) for one in (plane, original))
    return np.array_equal(mine, other)
