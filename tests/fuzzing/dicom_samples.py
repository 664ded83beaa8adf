"""Small whole DICOM files: series of slices, one of several frames, segmentations of them."""

import io
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzzing.sample import NAME, Sample
from vol3dseg.space.labels import Label, LabelSet

LABELS = LabelSet(
    classes=(
        Label(name="background", read=(0,), write=0),
        Label(name="core", read=(1,), write=1),
        Label(name="rim", read=(2,), write=2),
    )
)
_MADE = "1.2.826.0.1.3680043.10.511.3."  # highdicom's root
_TIMES = {"DA": "20200101", "TM": "120000", "DT": "20200101120000"}
_SHAPE = (6, 5, 4)  # slices, rows, columns
_GIVEN: dict[str, Any] = {
    "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5",
    "SeriesNumber": 7, "SeriesDescription": "T1", "Modality": "MR", "PatientName": NAME,
    "PatientID": NAME, "InstitutionName": NAME, "ImageComments": NAME, "AccessionNumber": NAME[:16],
    "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16,
    "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "SliceThickness": 5,
    "RescaleSlope": 2, "RescaleIntercept": -100, "EchoTime": 30, "ImageType": ["ORIGINAL", "M"],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.5, 1.5],
}  # fmt: skip


def series_samples() -> tuple[Sample, ...]:
    """Uncompressed, RLE and deflated series, and one file of several frames."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

    def deflate(one: Any) -> None:
        one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    def compress(one: Any) -> None:
        one.compress(RLELossless, generate_instance_uid=False)

    plain = _slices()
    frames = _enhanced(plain)
    packed = deepcopy(frames)
    compress(packed)
    return (
        Sample("series", _files(plain), ""),
        Sample("series, RLE", _files(_slices(), compress), ""),
        Sample("series, deflated", _files(_slices(), deflate), ""),
        Sample("frames", _files([frames]), "0.dcm"),
        Sample("frames, RLE", _files([packed]), "0.dcm"),
    )


def seg_samples() -> tuple[Sample, ...]:
    """DICOM-SEG of a series and of a file of several frames."""
    plain = _slices()
    return (_seg("seg", _files(plain)), _seg("seg of frames", _files([_enhanced(plain)])))


def _seg(name: str, source: dict[str, bytes]) -> Sample:
    from vol3dseg.formats.dicom.dicom_volume import place_series
    from vol3dseg.formats.dicom.seg_writing import Algorithm, write_seg
    from vol3dseg.formats.dicom.series import choose, find_series
    from vol3dseg.space.labels import Segmentation

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file, content in source.items():
            (folder / file).write_bytes(content)
        series = choose(find_series(folder))
        grid = place_series(series).geometry
        array = (np.arange(np.prod(grid.shape)) % 3).reshape(grid.shape).astype(np.uint8)
        path = folder / "seg.dcm"
        write_seg(path, Segmentation(array, grid, LABELS), series, Algorithm("fuzz", "1"))
        return Sample(name, _files([_settled(path)]), "0.dcm")


def _settled(path: Path) -> Any:
    """Return a file without what is new each time: UIDs that were made for it, dates and times."""
    from pydicom import dcmread

    file, known = dcmread(path), {}
    for element in (*file.file_meta, *file.iterall()):
        if element.VR == "UI" and str(element.value).startswith(_MADE):
            element.value = known.setdefault(element.value, f"1.2.3.9.{len(known)}")
        elif element.VR in _TIMES and element.value:
            element.value = _TIMES[element.VR]
    return file


def _slices() -> list[Any]:
    return [_slice(number) for number in range(_SHAPE[0])]


def _slice(number: int) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MRImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number + 1}"
    for keyword, value in _GIVEN.items():
        setattr(one, keyword, value)
    one.add_new(0x00190010, "LO", NAME)
    one.add_new(0x00191001, "LO", NAME)
    _, one.Rows, one.Columns = _SHAPE
    one.ImagePositionPatient = [-10, 20, 2.5 * number]
    stored = (np.arange(one.Rows * one.Columns) * (number + 1) % 4096).astype("<u2")
    one.PixelData = stored.tobytes()
    one["PixelData"].VR = "OW"
    return one


def _enhanced(slices: Sequence[Any]) -> Any:
    """Return one file with a slice in each frame."""
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedMRImageStorage

    def sequence(**values: Any) -> list[Any]:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return [item]

    file = deepcopy(slices[0])
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = EnhancedMRImageStorage
    file.NumberOfFrames = len(slices)
    file.SharedFunctionalGroupsSequence = sequence(
        PlaneOrientationSequence=sequence(ImageOrientationPatient=file.ImageOrientationPatient),
        PixelMeasuresSequence=sequence(PixelSpacing=file.PixelSpacing, SliceThickness=5),
    )
    file.PerFrameFunctionalGroupsSequence = [
        sequence(
            PlanePositionSequence=sequence(ImagePositionPatient=one.ImagePositionPatient),
            PixelValueTransformationSequence=sequence(
                RescaleSlope=2, RescaleIntercept=number, RescaleType="US"
            ),
        )[0]
        for number, one in enumerate(slices)
    ]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(file, keyword)
    file.PixelData = b"".join(one.PixelData for one in slices)
    file["PixelData"].VR = "OW"
    return file


def _files(
    slices: Sequence[Any], change: Callable[[Any], Any] = lambda _: None
) -> dict[str, bytes]:
    """Return the files of slices, each changed before it is written."""
    files = {}
    for number, one in enumerate(slices):
        change(one)
        stream = io.BytesIO()
        one.save_as(stream, enforce_file_format=True)
        files[f"{number}.dcm"] = stream.getvalue()
    return files
