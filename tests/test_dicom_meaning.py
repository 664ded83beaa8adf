"""What headers say of the meaning of values is refused or told, and changes no voxel."""

import numpy as np
import pytest

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.dicom.dicom_volume import DicomVolume

pytest.importorskip("pydicom")

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

ARRAY = np.arange(24, dtype=np.int16).reshape(4, 3, 2)


def mapping(slope, intercept):
    item = Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    return Sequence([item])


@pytest.fixture
def notes(tmp_path, dicom_series):
    """Read two slices with these tags; gives the notes."""

    def read(**tags):
        for number, one in enumerate(dicom_series(ARRAY, **tags)):
            one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        file = DicomVolume(tmp_path)
        scale = tags.get("RescaleSlope", 1)
        np.testing.assert_array_equal(file.image()[0], ARRAY * scale)
        return [str(note) for note in file.notes]

    return read


CT, PT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0}, {"Modality": "PT"}
SAID = {
    "MONOCHROME1": (
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        "small values are meant to be bright (MONOCHROME1); read as stored",
    ),
    "inverse": (
        {"PresentationLUTShape": "INVERSE"},
        "small values are meant to be bright (PresentationLUTShape is INVERSE); read as stored",
    ),
    "Bq/ml": (PT | {"Units": "BQML"}, "values are in BQML, not SUV; read as stored"),
    "no unit": (PT, "values are of a unit that is not known here, not SUV; read as stored"),
    "Z": (
        CT | {"RescaleType": "Z_EFF"},
        "values are not in HU, as RescaleType says; read with slope and intercept",
    ),
    "raw CT": (
        {"Modality": "CT"},
        "CT has no slope and no intercept, without which values may not be HU; read as stored",
    ),
    "mapping": (
        {"RealWorldValueMappingSequence": mapping(0.5, 0)},
        "RealWorldValueMapping says other values than slope and intercept; not applied",
    ),
    "padding": (
        {"PixelPaddingValue": -2000},
        "-2000 is stored where nothing was measured (PixelPaddingValue); read as stored",
    ),
    "lossy": ({"LossyImageCompression": "01"}, "was compressed with loss; read as it is"),
    "burnt in": (
        {"BurnedInAnnotation": "YES"},
        "text is burnt into the image (BurnedInAnnotation); read; look before you share it",
    ),
    "phantom": (
        {"QualityControlImage": "YES"},
        "shows a phantom or the like (QualityControlImage); read as a scan",
    ),
    "quadruped": (
        {"AnatomicalOrientationType": "QUADRUPED"},
        "shows an animal on four legs; directions are those that DICOM has for it",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_meant_is_told_once(notes, name):
    tags, said = SAID[name]
    assert notes(**tags) == [said]


@pytest.mark.parametrize(
    "tags",
    [
        {},
        CT,
        CT | {"RescaleType": "HU"},
        PT | {"Units": "GML"},
        {"PresentationLUTShape": "IDENTITY", "BurnedInAnnotation": "NO", "PixelPaddingValue": 0},
        {"LossyImageCompression": "00", "WindowCenter": 40, "WindowWidth": 400},
        {"RescaleSlope": 2, "RealWorldValueMappingSequence": mapping(2, 0)},
    ],
    ids=str,
)
def test_what_is_as_usual_needs_no_word(notes, tags):
    assert notes(**tags) == []


def in_image_type(one):
    one.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]


def in_private_tag(one):
    block = one.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", 9)


def of_united_imaging(one):
    one.Manufacturer = "UIH"
    one.add_new((0x0065, 0x0010), "LO", "Image Private Header")
    one.add_new((0x0065, 0x1050), "DS", "9")


@pytest.mark.parametrize("say", [in_image_type, in_private_tag, of_united_imaging])
def test_a_mosaic_is_refused(tmp_path, dicom_slice, say):
    one = dicom_slice(np.zeros((9, 12), np.int16))
    say(one)
    one.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    with pytest.raises(FileFormatError, match=r"1\.dcm: is a mosaic: the tiles of one image are"):
        DicomVolume(tmp_path)


@pytest.mark.parametrize("say", [in_image_type, in_private_tag])
def test_an_enhanced_file_may_have_been_a_mosaic(tmp_path, dicom_slice, say):
    one = dicom_slice(ARRAY[..., 0].T, NumberOfFrames=2)
    say(one)
    frames = [Dataset(), Dataset()]
    for number, frame in enumerate(frames):
        for group, keyword, value in (
            ("PlanePositionSequence", "ImagePositionPatient", [0, 0, 2 * number]),
            ("PlaneOrientationSequence", "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]),
            ("PixelMeasuresSequence", "PixelSpacing", [1, 1]),
        ):
            item = Dataset()
            setattr(item, keyword, value)
            setattr(frame, group, Sequence([item]))
    one.PerFrameFunctionalGroupsSequence = Sequence(frames)
    one.PixelData = ARRAY.T.tobytes()
    one.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(DicomVolume(tmp_path).image()[0], ARRAY)
