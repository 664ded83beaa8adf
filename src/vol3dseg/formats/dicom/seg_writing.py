"""Segmentations as DICOM-SEG, referring to the series that they were made of.

Classes become segments 1, 2, ... in the order of the labels, whatever value stands for them in
other files: DICOM counts segments without gaps. What a file carries of its source is named here,
one by one; nothing else of the source's header gets into it.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, GridError
from vol3dseg.extras import load_extra
from vol3dseg.files import atomic_path
from vol3dseg.formats.dicom.dicom_file import long_string, parsing, read_dataset
from vol3dseg.formats.dicom.dicom_volume import place_series
from vol3dseg.formats.dicom.series import Series
from vol3dseg.formats.dicom.stack import Stack
from vol3dseg.space.intake import Intake
from vol3dseg.space.labels import Code, Codes, LabelSet, Segmentation
from vol3dseg.space.resampling import reoriented

_PLACE = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("Rows", "Columns", "NumberOfFrames", "ImageOrientationPatient", "ImagePositionPatient"),
    *("PixelSpacing", "SliceThickness", "StudyInstanceUID"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
_IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID", "StudyInstanceUID")
_SERIES_NUMBER = 1000  # beyond those that scanners give
_TISSUE = Code("SCT", "85756007", "Tissue")
_UNKNOWN = Codes(category=_TISSUE, type=_TISSUE)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What made a segmentation."""

    name: str  # of the model
    version: str  # such as the SHA-256 of its file, which just fits


def write_seg(
    path: Path,
    segmentation: Segmentation,
    source: Series,
    algorithm: Algorithm,
    *,
    deidentify: bool = False,
) -> None:
    """Write a segmentation as DICOM-SEG, atomically, that refers to the series it was made of.

    The segmentation lies on the grid of the series, its axes in any order and direction. A class
    without voxels becomes a segment without frames. `deidentify` blanks what says who the patient
    is and which study this was, with a new study UID. The UIDs of the series, its images and its
    frame of reference stay, or it would refer to nothing: who holds the source can tell that they
    belong together. Raises GridError (another grid than the series), FileFormatError (the source
    lacks what a DICOM-SEG must carry, or cannot be read), MissingExtraError and OutputError.
    """
    highdicom = load_extra("highdicom", "dicom")
    placed = place_series(source, Intake(repair=True))  # or the scan could not have been read
    frames = _frames(segmentation, placed, source)
    headers = _headers(placed, source, highdicom.UID() if deidentify else None)
    with parsing(source.files[0]):
        made = _made(headers, frames, segmentation.labels, algorithm)
        if deidentify:
            made.PatientIdentityRemoved = "YES"
            made.DeidentificationMethod = "vol3dseg: patient and study blanked"
    with atomic_path(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)


def _frames(segmentation: Segmentation, placed: Stack, source: Series) -> NDArray[np.uint8]:
    """Return (frames, rows, columns) class indices, in the order in which headers are given."""
    own, grid = segmentation.geometry, placed.geometry
    # The same corners, whatever the order of axes: then one is the other, turned.
    if not own.canonical().fits(grid.canonical()):
        raise GridError(
            f"the segmentation lies on {own.placed()}",
            where=source.where,
            expected=f"the grid of its series, {grid.placed()}, which DICOM-SEG needs",
            remedy="write NIfTI instead",
        )
    stacked = reoriented(segmentation.array, own, grid).T  # (k, j, i)
    if len(source.files) == 1:
        stacked = stacked[np.argsort([plane.frame for plane in placed.planes])]
    return np.ascontiguousarray(stacked)


def _headers(placed: Stack, source: Series, other_study: str | None) -> list[Any]:
    """Return what the file may know of its source: one header each slice, or each enhanced file."""
    if placed.planes[0].frames > 1 and len(source.files) > 1:
        raise FileFormatError(
            f"has {len(source.files)} files of several frames",
            where=source.where,
            expected="single slices, or one such file",
            remedy="write NIfTI instead",
        )
    paths = dict.fromkeys(plane.path for plane in placed.planes)
    return [_header(path, placed.geometry.spacing_mm[2], other_study) for path in paths]


def _header(path: Path, step_mm: float, other_study: str | None) -> Any:
    """Return what may be known of one header; in another study, nobody's name."""
    from pydicom import Dataset

    found = read_dataset(path, voxels=False)
    with parsing(path):
        header = Dataset()
        header.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, whatever the source was written in
        for keyword in _IDENTITY:
            setattr(header, keyword, "" if other_study else _valid(found, keyword))
        for keyword in _PLACE:
            if keyword in found:
                header[keyword] = found[keyword]
        if not header.get("SliceThickness"):  # highdicom must have one
            header.SliceThickness = f"{step_mm:.6g}"
        if found.get("LossyImageCompression") == "01":  # once lossy, always lossy
            header.LossyImageCompression = "01"
        header.StudyInstanceUID = other_study or header.get("StudyInstanceUID")
        lacking = [keyword for keyword in _REQUIRED if not header.get(keyword)]
        if lacking:
            raise FileFormatError(
                f"has no {', '.join(lacking)}, which a DICOM-SEG of it must carry",
                where=path,
                expected="a complete header",
                remedy="write NIfTI instead",
            )
        return header


def _valid(found: Any, keyword: str) -> str:
    """Return what a header says of the patient or the study; nothing where DICOM forbids it."""
    from pydicom.valuerep import DA, TM

    text = str(found.get(keyword) or "")
    with suppress(ValueError):
        {"Date": DA, "Time": TM}.get(keyword[-4:], str)(text)
        if keyword != "PatientSex" or text in ("M", "F", "O"):
            return text
    return ""


def _made(
    headers: list[Any], frames: NDArray[np.uint8], labels: LabelSet, algorithm: Algorithm
) -> Any:
    """Return highdicom's Segmentation."""
    from highdicom import UID, AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation as Seg
    from pydicom.sr.codedict import codes

    release = version("vol3dseg")
    identification = AlgorithmIdentificationSequence(
        name=long_string(algorithm.name),
        family=codes.DCM.ArtificialIntelligence,
        version=long_string(algorithm.version),
    )
    return Seg(
        source_images=headers,
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=list(_descriptions(labels, identification)),
        series_instance_uid=UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="vol3dseg",
        manufacturer_model_name="vol3dseg",
        software_versions=release,
        device_serial_number=release,
        content_label="SEGMENTATION",
        content_description="Segmentation by a neural network",
        series_description="Segmentation",
    )


def _descriptions(labels: LabelSet, identification: Any) -> Iterator[Any]:
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

    for number, label in enumerate(labels.classes[1:], start=1):
        found = label.codes or _UNKNOWN
        category, kind = (
            CodedConcept(code.value, code.scheme, code.meaning)
            for code in (found.category, found.type)
        )
        yield SegmentDescription(
            segment_number=number,
            segment_label=long_string(label.name),
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type="AUTOMATIC",
            algorithm_identification=identification,
        )
