"""Slices of a volume are of one acquisition; what may vary over one is read."""

from pathlib import Path

import numpy as np
import pytest

from vol3dseg.errors import GridError
from vol3dseg.formats.dicom.acquisition import ATTRIBUTES
from vol3dseg.formats.dicom.dicom_volume import DicomVolume

pytest.importorskip("pydicom")

from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

ARRAY = np.arange(72, dtype=np.int16).reshape(4, 3, 6)
PAGE = Path(__file__).parents[1] / "docs" / "dicom.md"
AGREEING = [attribute for attribute in ATTRIBUTES if attribute.agrees]
TEXTS = {
    "Modality": ("MR", "CT"),
    "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"),
    "StudyDate": ("20200101", "20200102"),
    "PhotometricInterpretation": ("MONOCHROME2", "MONOCHROME1"),
}


@pytest.fixture
def series(tmp_path, dicom_series):
    """Write six slices, of which every third has other values; gives their folder."""

    def write(usual, other):
        for number, one in enumerate(dicom_series(ARRAY)):
            for keyword, value in (usual if number % 3 else other).items():
                with disable_value_validation():
                    setattr(one, keyword, value)
            one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        return tmp_path

    return write


def two_values(attribute, apart=2.5):
    """Return values of an attribute as single slices have it, the second so many times as large."""
    keyword = attribute.keywords[-1]
    if attribute.within is not None:
        return keyword, 100, 100 * apart
    unlike = ("1.2.3", "1.2.4") if dictionary_VR(keyword) == "UI" else ("ONE", "OTHER")
    return keyword, *TEXTS.get(keyword, unlike)


@pytest.mark.parametrize("attribute", AGREEING, ids=lambda a: a.name)
def test_what_must_agree_is_refused_where_it_differs(series, attribute):
    keyword, usual, other = two_values(attribute)
    folder = series({keyword: usual}, {keyword: other})
    with pytest.raises(GridError) as caught:
        DicomVolume(folder)
    numbers = " (100, 250)" if attribute.within is not None else ""
    assert (
        f"which differ in {attribute.name}{numbers}: 4 like 1.dcm, but not 0.dcm, 3.dcm; exp"
        in (caught.value.recorded)
    )
    if attribute.within is None:  # text of a header is for the screen alone
        assert f"'{other}'" not in caught.value.recorded
        assert (f"'{other}'" in str(caught.value)) == attribute.told


@pytest.mark.parametrize("attribute", [a for a in AGREEING if a.within], ids=lambda a: a.name)
def test_numbers_agree_as_far_as_they_are_rounded(series, attribute):
    keyword, usual, other = two_values(attribute, 1 + 0.9 * attribute.within)
    if dictionary_VR(keyword) in ("IS", "US", "UL"):
        other = usual
    DicomVolume(series({keyword: usual}, {keyword: other}))


@pytest.mark.parametrize(
    "keyword", ["EchoTime", "InversionTime", "ContrastBolusAgent", "SeriesDescription"]
)
def test_what_some_slices_lack_differs(series, keyword):
    value = 12 if "Time" in keyword else "ONE"
    with pytest.raises(GridError, match="holds several acquisitions, which differ in "):
        DicomVolume(series({keyword: value}, {keyword: None}))


VARYING = {
    "AcquisitionNumber": (1, 2), "InstanceNumber": (3, 9), "AcquisitionTime": ("101500", "101600"),
    "ContentTime": ("101500.5", "101600"), "TriggerTime": (10, 250), "XRayTubeCurrent": (120, 310),
    "Exposure": (10, 31), "ExposureTime": (500, 400), "WindowCenter": (40, 300),
    "RescaleSlope": (1, 2), "SliceLocation": (3.0, 90.0), "RepetitionTime": (900, 1300),
    "SmallestImagePixelValue": (1, 3), "ActualFrameDuration": (1000, 2000),
    "ImagingFrequency": (123.2, 123.3), "SpacingBetweenSlices": (2, 2.5), "FilterType": ("A", "B"),
}  # fmt: skip


@pytest.mark.parametrize("keyword", VARYING)
def test_what_varies_over_a_scan_is_read(series, keyword):
    usual, other = VARYING[keyword]
    assert DicomVolume(series({keyword: usual}, {keyword: other})).shape == ARRAY.shape


def enhanced(one, groups):
    """One file of the frames of a volume, with what `groups` gives for each of them."""
    frames = []
    for number in range(6):
        frame = Dataset()
        for name, value in {
            "PlanePositionSequence_ImagePositionPatient": [0, 0, 2 * number],
            "PlaneOrientationSequence_ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelMeasuresSequence_PixelSpacing": [1, 1],
            **groups(number),
        }.items():
            group, keyword = name.split("_")
            item = Dataset()
            setattr(item, keyword, value)
            setattr(frame, group, Sequence([item]))
        frames.append(frame)
    one.NumberOfFrames, one.PixelData = 6, one.PixelData * 6
    one.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return one


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("MREchoSequence_EffectiveEchoTime", "echo time"),
        ("MRTimingAndRelatedParametersSequence_FlipAngle", "flip angle"),
        ("MRModifierSequence_InversionTimes", "inversion time"),
        ("MRDiffusionSequence_DiffusionBValue", "b-value"),
        ("CTXRayDetailsSequence_KVP", "tube voltage"),
        ("FrameContentSequence_TemporalPositionIndex", "temporal position"),
        ("UnassignedPerFrameConvertedAttributesSequence_EchoTime", "echo time"),
    ],
)
def test_frames_must_agree_as_well(tmp_path, dicom_slice, group, name):
    one = dicom_slice(ARRAY[..., 0].T)
    file = enhanced(one, lambda n: {group: 20 if n == 2 else 10})
    file.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    expected = rf"{name} \(10, 20\): 5 like 1.dcm frame 1, but not 1.dcm frame 3"
    with pytest.raises(GridError, match=expected):
        DicomVolume(tmp_path)


@pytest.mark.parametrize(
    ("creator", "group", "element", "usual", "other"),
    [
        ("SIEMENS MR HEADER", 0x19, 0x0C, "50", "800"),
        ("GEMS_PARM_01", 0x43, 0x39, [1000000050, 8, 0, 0], [800, 8, 0, 0]),
        ("Philips Imaging DD 001", 0x2001, 0x03, 50.0, 800.0),
    ],
)
def test_private_b_values_are_known(tmp_path, dicom_series, creator, group, element, usual, other):
    kinds = {str: "IS", list: "IS", float: "FL"}
    for number, one in enumerate(dicom_series(ARRAY)):
        value = usual if number % 3 else other
        one.private_block(group, creator, create=True).add_new(element, kinds[type(value)], value)
        one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    with pytest.raises(GridError, match=r"differ in b-value \(50, 800\): 4 like 1\.dcm"):
        DicomVolume(tmp_path)


def test_magnitude_and_phase_of_ge_are_told_apart(tmp_path, dicom_series):
    for number, one in enumerate(dicom_series(ARRAY)):
        block = one.private_block(0x43, "GEMS_PARM_01", create=True)
        block.add_new(0x2F, "SS", number % 2)
        one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    with pytest.raises(GridError, match="differ in complex component: 3 like 0"):
        DicomVolume(tmp_path)


def test_the_page_names_what_is_compared():
    words = PAGE.read_text(encoding="utf-8")
    assert [attribute.name for attribute in ATTRIBUTES if attribute.name not in words] == []
