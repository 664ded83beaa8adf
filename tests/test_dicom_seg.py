"""DICOM-SEG: what is written comes back, refers to its source, and tells no more than it must."""

import shutil
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff
from pydantic import ValidationError

from vol3dseg.config import load_config
from vol3dseg.errors import FileFormatError, GridError, LabelError, MissingExtraError
from vol3dseg.formats.dicom.dicom_volume import place_series, read_stack
from vol3dseg.formats.dicom.seg_reading import read_seg
from vol3dseg.formats.dicom.seg_writing import Algorithm, write_seg
from vol3dseg.formats.dicom.series import choose, find_series
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Codes, Label, LabelSet, Segmentation

pytest.importorskip("highdicom")

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRBigEndian

SHAPE = (7, 5, 4)
MODEL = Algorithm("tiny model", "0123abcd")


@pytest.fixture
def source(tmp_path, dicom_series):
    """A series of four slices, in files whose names are not in their order."""
    slices = dicom_series(np.zeros(SHAPE, np.int16), (10, 20, 30), (0, 0, 2.5), spacing=(0.5, 2))
    return saved(tmp_path / "source", [slices[n] for n in (2, 0, 3, 1)])


def saved(folder, slices):
    folder.mkdir()
    for number, one in enumerate(slices):
        with disable_value_validation():
            one.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return choose(find_series(folder))


def some_classes(shape=SHAPE, seed=0):
    """Three classes, most of the first slice empty."""
    array = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    array[:, :, 0] = 0
    return array


def there_and_back(path, array, geometry, labels, source, **options):
    write_seg(path, Segmentation(array, geometry, labels), source, MODEL, **options)
    return read_seg(path, labels, geometry).array


@given(st.randoms(use_true_random=False))
def test_any_order_of_axes_comes_back_voxel_for_voxel(
    tmp_path_factory, dicom_slice, labels, random
):
    rng = np.random.default_rng(random.getrandbits(32))
    (along, down, up), _ = np.linalg.qr(rng.normal(size=(3, 3)))
    origin, spacing = rng.uniform(-300, 300, 3), rng.uniform(0.3, 3, 2)
    slices = [
        dicom_slice(np.zeros((5, 7), np.int16), origin + 2.5 * k * up, (*along, *down), spacing)
        for k in rng.permutation(4)
    ]
    folder = tmp_path_factory.mktemp("seg")
    series = saved(folder / "source", slices)
    grid = place_series(series).geometry
    array = rng.integers(0, 4, SHAPE) * (rng.random(SHAPE) < rng.choice([0, 0.02, 0.5]))
    turn = np.column_stack([rng.permutation(3), rng.choice([-1, 1], 3)])
    turned = apply_orientation(array.astype(np.uint8), turn)
    other = Geometry(turned.shape, grid.affine @ inv_ornt_aff(turn, SHAPE))
    back = there_and_back(folder / "seg.dcm", turned, other, labels, series)
    np.testing.assert_array_equal(back, turned)
    np.testing.assert_array_equal(read_seg(folder / "seg.dcm", labels, grid).array, array)


def test_segments_have_names_codes_and_a_source(tmp_path, source, labels):
    there_and_back(
        tmp_path / "seg.dcm", some_classes(), place_series(source).geometry, labels, source
    )
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [
        (s.SegmentNumber, s.SegmentLabel, s.SegmentedPropertyTypeCodeSequence[0].CodeMeaning)
        for s in seg.SegmentSequence
    ] == [
        (1, "necrotic core", "Necrosis"),
        (2, "edema", "Edema"),
        (3, "enhancing", "Enhancing Lesion"),
    ]
    for segment in seg.SegmentSequence:
        (category,) = segment.SegmentedPropertyCategoryCodeSequence
        assert (category.CodeValue, category.CodingSchemeDesignator) == ("49755003", "SCT")
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert segment.SegmentAlgorithmName == "tiny model"
        (made,) = segment.SegmentationAlgorithmIdentificationSequence
        assert made.AlgorithmVersion == "0123abcd"
    headers = {h.SOPInstanceUID: h for h in map(pydicom.dcmread, source.files)}
    (referred,) = seg.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == "1.2.3.4"
    assert {i.ReferencedSOPInstanceUID for i in referred.ReferencedInstanceSequence} == set(headers)
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == ("1.2.3", "1.2.3.5")
    assert len(seg.PerFrameFunctionalGroupsSequence) == 9  # three segments, one slice empty
    for frame in seg.PerFrameFunctionalGroupsSequence:  # each refers to the slice it lies on
        image = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert headers[image].ImagePositionPatient == place


def test_a_class_without_codes_is_tissue(tmp_path, source):
    labels = LabelSet(
        classes=(
            Label(name="background", read=(0,), write=0),
            Label(name="a\\b" * 30, read=(1,), write=1),
        )
    )
    array = np.minimum(some_classes(), 1)
    path, grid = tmp_path / "seg.dcm", place_series(source).geometry
    np.testing.assert_array_equal(there_and_back(path, array, grid, labels, source), array)
    (segment,) = pydicom.dcmread(path).SegmentSequence
    assert segment.SegmentLabel == ("a/b" * 30)[:64]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"


@pytest.mark.parametrize("preset", ["brats2020", "brats2023"])
def test_brats_presets_have_codes(preset):
    classes = load_config(preset).labels.classes[1:]
    assert [label.codes.type for label in classes] == [
        ("SCT", "6574001", "Necrosis"),
        ("SCT", "79654002", "Edema"),
        ("NCIt", "C113842", "Enhancing Lesion"),
    ]


def test_brats2024_has_codes():
    classes = load_config("brats2024").labels.classes[1:]
    assert [label.codes.type.meaning for label in classes] == [
        "Non-Enhancing Lesion",
        "Edema",
        "Enhancing Lesion",
        "Lesion",
    ]


@pytest.mark.parametrize("preset", ["brats2020", "brats2023", "brats2024"])
def test_codes_of_presets_are_those_of_dicom(preset):
    """pydicom knows the terminologies: a code and its meaning belong together."""
    for label in load_config(preset).labels.classes[1:]:
        for scheme, value, meaning in (label.codes.category, label.codes.type):
            keyword = "".join(filter(str.isalnum, meaning.title()))
            assert getattr(getattr(codes, scheme), keyword).value == value


def test_codes_fit_into_dicom():
    with pytest.raises(ValidationError, match="at most 16 characters"):
        Codes(category=("SCT", "1" * 17, "Tissue"), type=("SCT", "1", "Tissue"))


@pytest.mark.parametrize("present", [(), (2,), (1, 3)], ids=str)
def test_empty_segments_are_kept_by_name(tmp_path, source, labels, present):
    array = some_classes()
    array[~np.isin(array, present)] = 0
    grid = place_series(source).geometry
    back = there_and_back(tmp_path / "seg.dcm", array, grid, labels, source)
    np.testing.assert_array_equal(back, array)
    assert len(pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence) == 3


def test_one_slice_is_written_too(tmp_path, dicom_series, labels):
    series = saved(tmp_path / "source", dicom_series(np.zeros((7, 5, 1), np.int16)))
    array = some_classes((7, 5, 2))[..., 1:]
    grid = place_series(series).geometry
    back = there_and_back(tmp_path / "seg.dcm", array, grid, labels, series)
    np.testing.assert_array_equal(back, array)


def enhanced(slices, order):
    """One multi-frame file of classic slices."""
    file = deepcopy(slices[0])
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    shared = Dataset()
    for name, keywords in (
        ("PlaneOrientationSequence", ["ImageOrientationPatient"]),
        ("PixelMeasuresSequence", ["PixelSpacing", "SliceThickness"]),
    ):
        item = Dataset()
        for keyword in keywords:
            item[keyword] = file[keyword]
            del file[keyword]
        setattr(shared, name, Sequence([item]))
    del file.ImagePositionPatient
    file.SharedFunctionalGroupsSequence = Sequence([shared])
    file.PerFrameFunctionalGroupsSequence = Sequence([])
    for n in order:
        group, place, text = Dataset(), Dataset(), Dataset()
        place["ImagePositionPatient"] = slices[n]["ImagePositionPatient"]
        group.PlanePositionSequence = Sequence([place])
        text.FrameComments = "DOE^JOHN"
        group.FrameContentSequence = Sequence([text])
        file.PerFrameFunctionalGroupsSequence.append(group)
    file.NumberOfFrames = len(order)
    file.PixelData = b"".join(slices[n].PixelData for n in order)
    return file


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)], ids=["in order", "mixed"])
def test_an_enhanced_source(tmp_path, dicom_series, labels, order):
    file = enhanced(dicom_series(np.zeros(SHAPE, np.int16)), order)
    series = saved(tmp_path / "source", [file])
    array, grid = some_classes(), place_series(series).geometry
    path = tmp_path / "seg.dcm"
    back = there_and_back(path, array, grid, labels, series, deidentify=True)
    np.testing.assert_array_equal(back, array)
    assert b"DOE" not in path.read_bytes()
    seg = pydicom.dcmread(path)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = file.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1]
        expected = place.PlanePositionSequence[0].ImagePositionPatient
        assert frame.PlanePositionSequence[0].ImagePositionPatient == expected


# ---------------------------------------------------------------- what is told of the patient


PLANTED = "DOE^JOHN"
TEXT = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT")


def planted(slices):
    """Put a name into every text of the header that DICOM knows, and into a private one."""
    taken = ("SpecificCharacterSet", "PhotometricInterpretation")
    for one in slices:
        for keyword in ("Modality", "PatientSex"):
            delattr(one, keyword)
        for tag, (vr, _, _, retired, keyword) in pydicom.datadict.DicomDictionary.items():
            if vr in TEXT and not retired and keyword not in taken and tag >> 16 > 2:
                with disable_value_validation():
                    one.add_new(tag, vr, PLANTED)
        one.private_block(0x0013, "DOE^JOHN", create=True).add_new(1, "LO", PLANTED)
        equipment = Dataset()
        equipment.InstitutionName = PLANTED
        one.ContributingEquipmentSequence = Sequence([equipment])
    return slices


def test_a_planted_name_is_nowhere_when_identity_is_blanked(tmp_path, dicom_series, labels):
    slices = planted(dicom_series(np.zeros(SHAPE, np.int16), PatientBirthDate="19700102"))
    series = saved(tmp_path / "source", slices)
    path, grid = tmp_path / "seg.dcm", place_series(series).geometry
    array = some_classes()
    back = there_and_back(path, array, grid, labels, series, deidentify=True)
    np.testing.assert_array_equal(back, array)
    content = path.read_bytes()
    assert b"DOE" not in content
    assert b"19700102" not in content
    seg = pydicom.dcmread(path)
    assert seg.PatientIdentityRemoved == "YES"
    assert seg.StudyInstanceUID != "1.2.3"
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4"


def test_only_patient_and_study_are_carried_over(tmp_path, dicom_series, labels):
    series = saved(tmp_path / "source", planted(dicom_series(np.zeros(SHAPE, np.int16))))
    path, grid = tmp_path / "seg.dcm", place_series(series).geometry
    there_and_back(path, some_classes(), grid, labels, series)
    holding = {e.keyword for e in pydicom.dcmread(path).iterall() if "DOE" in str(e.value)}
    assert holding == {
        *("PatientName", "PatientID", "StudyID", "AccessionNumber", "ReferringPhysicianName")
    }


def test_names_are_carried_in_any_writing(tmp_path, dicom_series, labels):
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    slices = dicom_series(
        np.zeros(SHAPE, np.int16), SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientSex="X",
        PatientName=name, StudyDate="20200304", StudyTime="101112",
    )  # fmt: skip
    series = saved(tmp_path / "source", slices)
    path = tmp_path / "seg.dcm"
    there_and_back(path, some_classes(), place_series(series).geometry, labels, series)
    seg = pydicom.dcmread(path)
    assert str(seg.PatientName) == name
    assert (seg.StudyDate, seg.StudyTime, seg.PatientSex) == ("20200304", "101112", "")


def test_dates_that_are_none_are_left_out(tmp_path, dicom_series, labels):
    with disable_value_validation():
        slices = dicom_series(
            np.zeros(SHAPE, np.int16), StudyDate="20201399", StudyTime="noon", PatientSex="male"
        )
        series = saved(tmp_path / "source", slices)
    path = tmp_path / "seg.dcm"
    there_and_back(path, some_classes(), place_series(series).geometry, labels, series)
    seg = pydicom.dcmread(path)
    assert (seg.StudyDate, seg.StudyTime, seg.PatientSex) == ("", "", "")


# ---------------------------------------------------------------- what is refused


def test_another_grid_is_refused_and_nothing_is_written(tmp_path, source, labels):
    grid = place_series(source).geometry
    moved = grid.affine.copy()
    moved[0, 3] += 1
    other = Segmentation(some_classes(), Geometry(SHAPE, moved), labels)
    path = tmp_path / "out" / "seg.dcm"
    with pytest.raises(GridError) as caught:
        write_seg(path, other, source, MODEL)
    assert str(caught.value) == (
        f"{tmp_path / 'source'}: series 7: the segmentation lies on 7x5x4 voxels of "
        "2x0.5x2.5 mm, axes LPS from (-9, -20, 30) mm; expected the grid of its series, "
        "7x5x4 voxels of 2x0.5x2.5 mm, axes LPS from (-10, -20, 30) mm, which DICOM-SEG needs; "
        "write NIfTI instead"
    )
    assert not path.parent.exists()


def test_a_failing_writer_leaves_nothing(tmp_path, source, labels, monkeypatch):
    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dataset, "save_as", full)
    path = tmp_path / "out" / "seg.dcm"
    with pytest.raises(OSError, match=r"seg\.dcm: cannot be written \(No space left on device\)"):
        there_and_back(path, some_classes(), place_series(source).geometry, labels, source)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID", "SOPInstanceUID"])
def test_a_source_must_have_what_a_seg_carries(tmp_path, dicom_series, labels, keyword):
    slices = dicom_series(np.zeros(SHAPE, np.int16), **{keyword: None})
    if keyword == "SOPInstanceUID":
        for one in slices:
            del one.SOPInstanceUID
    series = saved(tmp_path / "source", slices)
    grid = place_series(series).geometry
    with pytest.raises(FileFormatError, match=f"has no {keyword}, which a DICOM-SEG of it must"):
        there_and_back(tmp_path / "seg.dcm", some_classes(), grid, labels, series)


def test_several_enhanced_files_are_refused(tmp_path, dicom_series, labels):
    slices = dicom_series(np.zeros(SHAPE, np.int16))
    series = saved(tmp_path / "source", [enhanced(slices, (0, 1)), enhanced(slices, (2, 3))])
    grid = place_series(series).geometry
    assert grid.shape == SHAPE
    with pytest.raises(
        FileFormatError, match="has 2 files of several frames; expected single slices"
    ):
        there_and_back(tmp_path / "seg.dcm", some_classes(), grid, labels, series)


def test_a_segmentation_is_no_image(tmp_path, source, labels):
    there_and_back(
        tmp_path / "a.dcm", some_classes(), place_series(source).geometry, labels, source
    )
    with pytest.raises(FileFormatError, match=r"a\.dcm: series 1000: is a segment"):
        place_series(choose(find_series(tmp_path / "a.dcm")))


def fractional(seg):
    seg.SegmentationType = "FRACTIONAL"


def unknown_class(seg):
    seg.SegmentSequence[1].SegmentLabel = "liver\n\x1b[31m"


def overlapping(seg):
    groups = seg.PerFrameFunctionalGroupsSequence
    groups[-1].PlanePositionSequence = groups[0].PlanePositionSequence
    seg.PixelData = b"\xff" * len(seg.PixelData)


def moved(seg):
    seg.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence[0].ImagePositionPatient[2] = 31


def an_image(seg):
    del seg.SegmentationType


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            fractional,
            FileFormatError,
            "segments are not BINARY but FRACTIONAL; expected a DICOM-SEG",
        ),
        (an_image, FileFormatError, "segments are not BINARY; expected a DICOM-SEG with a mask"),
        (
            unknown_class,
            LabelError,
            "segments 2 are not among the classes .* names are 2 'liver  \\[31m'$",
        ),
        (overlapping, LabelError, "segments overlap; expected one class in each voxel; export"),
        (
            moved,
            GridError,
            "frame 5 does not lie on the grid of the image; expected one on 7x5x4 vox",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_segmentation_of_ours_is_refused(
    tmp_path, source, labels, spoil, error, message
):
    path, grid = tmp_path / "seg.dcm", place_series(source).geometry
    there_and_back(path, some_classes(), grid, labels, source)
    seg = pydicom.dcmread(path)
    spoil(seg)
    seg.save_as(path)
    with pytest.raises(error, match=f"^{path}: {message}"):
        read_seg(path, labels, grid)


def test_without_highdicom_the_extra_is_named(tmp_path, source, labels, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingExtraError, match=r"highdicom.*pip install 'vol3dseg\[dicom\]'"):
        there_and_back(
            tmp_path / "a.dcm", some_classes(), place_series(source).geometry, labels, source
        )


# ---------------------------------------------------------------- real data and a second opinion


@pytest.fixture(scope="session")
def dciodvfy():
    """Return what lists the errors that dciodvfy finds in a file."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("no dciodvfy: install dicom3tools to verify DICOM-SEG")

    def errors(path):
        done = subprocess.run([program, path], capture_output=True, text=True, timeout=60)
        lines = (done.stdout + done.stderr).splitlines()
        assert "Segmentation" in lines  # the kind of object that it has recognised
        return [line for line in lines if line.startswith("Error")]

    return errors


@pytest.mark.parametrize("deidentify", [False, True])
@pytest.mark.parametrize("kind", ["some", "empty"])
def test_dciodvfy_finds_no_error(tmp_path, source, labels, dciodvfy, deidentify, kind):
    array = some_classes() * np.uint8(kind == "some")
    path, grid = tmp_path / "seg.dcm", place_series(source).geometry
    there_and_back(path, array, grid, labels, source, deidentify=deidentify)
    assert dciodvfy(path) == []
    seg = pydicom.dcmread(path)
    del seg.SegmentSequence[0].SegmentLabel
    seg.save_as(path)
    assert dciodvfy(path) != []  # it can fail


def test_a_lossy_big_endian_source(tmp_path, dicom_series, labels, dciodvfy):
    slices = dicom_series(np.zeros(SHAPE, np.int16), LossyImageCompression="01")
    for one in slices:
        one.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    series = saved(tmp_path / "source", slices)
    array, path = some_classes(), tmp_path / "seg.dcm"
    back = there_and_back(path, array, place_series(series).geometry, labels, series)
    np.testing.assert_array_equal(back, array)
    assert pydicom.dcmread(path).LossyImageCompression == "01"
    assert dciodvfy(path) == []


@pytest.mark.parametrize("deidentify", [False, True])
def test_the_tumour_mask_comes_back_voxel_for_voxel(shared_data, tmp_path, dciodvfy, deidentify):
    found = find_series(shared_data / "dicom" / "glioblastoma")
    placed = place_series(choose(found, "Mask_Tumor"))
    mask, grid = read_stack(placed, "mask"), placed.geometry
    labels = LabelSet(
        classes=(
            Label(name="background", read=(0,), write=0),
            Label(name="tumour", read=(1,), write=1),
        )
    )
    array = labels.encode(mask, "mask")
    assert array.sum() == 6809
    flair, path = choose(found, "FLAIR*"), tmp_path / "seg.dcm"
    back = there_and_back(path, array, grid, labels, flair, deidentify=deidentify)
    np.testing.assert_array_equal(back, array)
    assert dciodvfy(path) == []
    assert (b"PGBM-001" in path.read_bytes()) != deidentify
