"""One slice of a DICOM series: where it lies, and what its stored values mean.

A classic file is one slice. An enhanced file holds many, each with its own functional groups, and
one set of groups that all of them share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vol3dseg.errors import GridError, IntensityError
from vol3dseg.formats.dicom.acquisition import Find, Mark, as_number, marks_of
from vol3dseg.formats.dicom.dicom_file import parsing
from vol3dseg.formats.dicom.meaning import Remark, check_meaning, remarks_of
from vol3dseg.formats.dicom.pixel_data import check_pixel_data
from vol3dseg.formats.streams import damaged

_ROUNDED = 2e-3  # of directions, which some headers give in three digits


@dataclass(frozen=True, slots=True)
class Plane:
    """A slice, as its header describes it."""

    path: Path
    frame: int  # of the file, from 0
    frames: int  # that the file has
    of: int  # images that its header says there are of its acquisition; 0 if it does not
    size: tuple[int, int]  # rows and columns
    spacing_mm: tuple[float, ...]  # between rows and between columns
    position: tuple[float, ...]  # centre of the first voxel, RAS+ [mm]
    orientation: tuple[float, ...]  # directions in which columns and rows are counted, RAS+
    slope: float  # value = slope * stored + intercept
    intercept: float
    thickness_mm: float | None  # trusted only where there is no next slice
    frame_of_reference: str
    uid: str  # SOP Instance UID of its file; empty where that has none
    compressed: bool  # decoding takes longer than reading
    remarks: tuple[Remark, ...]  # on what its values mean
    marks: tuple[Mark, ...]  # what may tell its acquisition from others, as `ATTRIBUTES`

    @property
    def name(self) -> str:
        """The file's name, and the number of the frame if it has several."""
        return self.path.name + (f" frame {self.frame + 1}" if self.frames > 1 else "")


def planes_of(header: Any, path: Path) -> tuple[Plane, ...]:
    """Return the slices of a DICOM file, from its header.

    Raises FileFormatError (damaged, truncated, or voxels of a kind that is not read), GridError (a
    slice has no place in space) and IntensityError (slope or intercept are not usable).
    """
    with parsing(path):
        check_meaning(header, path)
        check_pixel_data(header, path)
        finders = _finders(header, path)
        return tuple(
            _plane(header, find, path, (number, len(finders)))
            for number, find in enumerate(finders)
        )


def _finders(header: Any, path: Path) -> list[Find]:
    """Return for each slice what finds the attributes of a functional group."""
    frames = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups and len(groups) != frames:
        found = f"functional groups of {len(groups)} frames"
        raise damaged(found, path, f"those of {frames}")
    if not groups and frames > 1:
        raise GridError(
            f"{frames} frames without a position of each",
            where=path,
            expected="enhanced DICOM with per-frame functional groups",
            remedy="export it as such, or as single slices",
        )
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    return [partial(_group, header, own, shared) for own in groups or [None]]


def _group(header: Any, own: Any, shared: Any, name: str) -> Any:
    """Return what holds the attributes of a group: in a classic file, the header itself."""
    return header if own is None else (own.get(name) or shared.get(name) or [{}])[0]


def _plane(header: Any, find: Find, path: Path, number: tuple[int, int]) -> Plane:
    measures, syntax = find("PixelMeasuresSequence"), header.file_meta.TransferSyntaxUID
    slope, intercept = _rescale(find("PixelValueTransformationSequence"), path)
    spacing = _vector(measures, "PixelSpacing", 2, path)
    if min(spacing) <= 0:
        raise _unusable(f"PixelSpacing is {spacing}", path, "lengths above 0")
    return Plane(
        path,
        *number,
        of=_images(header) if number[1] == 1 else 0,
        size=(int(header.Rows), int(header.Columns)),
        spacing_mm=spacing,
        position=_ras(_vector(find("PlanePositionSequence"), "ImagePositionPatient", 3, path)),
        orientation=_directions(find("PlaneOrientationSequence"), path),
        slope=slope,
        intercept=intercept,
        thickness_mm=_thickness(measures),
        frame_of_reference=str(header.get("FrameOfReferenceUID") or ""),
        uid=str(header.get("SOPInstanceUID") or ""),
        compressed=syntax.is_encapsulated or syntax.is_deflated,
        remarks=remarks_of(header, find),
        marks=marks_of(header, find if "PerFrameFunctionalGroupsSequence" in header else None),
    )


def _images(header: Any) -> int:
    found = (as_number(header.get(key)) for key in ("ImagesInAcquisition", "NumberOfSlices"))
    return next((int(images) for images in found if images and math.isfinite(images)), 0)


def _rescale(values: Any, path: Path) -> tuple[float, float]:
    """Return slope and intercept."""
    slope = 1.0 if values.get("RescaleSlope") is None else float(values.get("RescaleSlope"))
    intercept = float(values.get("RescaleIntercept") or 0)
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise IntensityError(
            f"slope {slope:g} and intercept {intercept:g} cannot be applied",
            where=path,
            expected="finite numbers, and a slope other than 0",
            remedy="export it again",
        )
    return slope, intercept


def _vector(holder: Any, keyword: str, length: int, path: Path) -> tuple[float, ...]:
    value = holder.get(keyword)
    if not value:
        raise _unusable(f"has no {keyword}", path, "the place of every slice")
    numbers = tuple(float(number) for number in value)
    if len(numbers) != length or not all(map(math.isfinite, numbers)):
        raise _unusable(f"{keyword} is not usable", path, f"{length} finite numbers")
    return numbers


def _directions(holder: Any, path: Path) -> tuple[float, ...]:
    along, down = np.reshape(_vector(holder, "ImageOrientationPatient", 6, path), (2, 3))
    lengths = np.linalg.norm([along, down], axis=1)
    if np.abs([*(lengths - 1), along @ down]).max() > _ROUNDED:
        expected = "two perpendicular directions of length 1"
        raise _unusable("ImageOrientationPatient is not usable", path, expected)
    along = along / lengths[0]  # or spacing would be rounded as they are
    down = down - (down @ along) * along
    down = down / np.linalg.norm(down)
    return _ras(along.tolist()) + _ras(down.tolist())


def _ras(lps: Sequence[float]) -> tuple[float, ...]:
    """Return a place or direction, which DICOM gives in LPS+, in RAS+."""
    return -lps[0], -lps[1], lps[2]


def _unusable(found: str, path: Path, expected: str) -> GridError:
    return GridError(found, where=path, expected=expected, remedy="export the series again")


def _thickness(measures: Any) -> float | None:
    found = (as_number(measures.get(key)) for key in ("SpacingBetweenSlices", "SliceThickness"))
    return next((mm for mm in found if mm is not None and math.isfinite(mm) and mm > 0), None)
