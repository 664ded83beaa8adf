"""What lies beside the slices of a series: passed over with a word, or refused."""

import gzip

import numpy as np
import pytest

from vol3dseg.errors import FileFormatError
from vol3dseg.formats import open_labels, open_volume
from vol3dseg.formats.dicom.beginning import is_dicom
from vol3dseg.formats.dicom.dicom_volume import DicomVolume

pytest.importorskip("pydicom")

from pydicom import uid
from pydicom.filewriter import dcmwrite

ARRAY = np.arange(60, dtype=np.int16).reshape(4, 3, 5)


@pytest.fixture
def folder(tmp_path, dicom_series):
    """A folder of five slices, named by number."""
    for number, one in enumerate(dicom_series(ARRAY), start=1):
        one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    return tmp_path


def without_preamble(path, one):
    del one
    path.write_bytes(path.read_bytes()[132:])


def letters_first(path, one):
    del one
    path.write_bytes(path.read_bytes()[128:])


def without_letters(path, one):
    del one
    path.write_bytes(bytes(132) + path.read_bytes()[132:])


def bare(implicit, little):
    def write(path, one):
        del one.file_meta
        dcmwrite(path, one, implicit_vr=implicit, little_endian=little)

    return write


@pytest.mark.parametrize(
    "spoil",
    [
        without_preamble,
        letters_first,
        without_letters,
        pytest.param(bare(True, True), id="implicit types"),
        pytest.param(bare(False, True), id="explicit types"),
        pytest.param(bare(False, False), id="big endian"),
    ],
)
def test_a_slice_without_preamble_is_named(folder, dicom_series, spoil):
    last = folder / "5.dcm"
    spoil(last, dicom_series(ARRAY)[4])
    for place in (folder, last):
        with pytest.raises(FileFormatError) as caught:
            open_volume(place)
        assert str(caught.value) == (
            f"{last}: is DICOM without its preamble; expected 128 bytes and the letters DICM at "
            "its start; write it again, as dcmconv of DCMTK does, or convert its series to NIfTI, "
            "as dcm2niix does"
        )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(600),
        b"\x08\x00\x05\x00",
        np.arange(8, 600, dtype=np.int16).tobytes(),
        np.full(300, 8, np.int16).tobytes(),
        b"DICM and other words" * 40,
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3,
    ],
)
def test_other_files_are_not_taken_for_dicom(content):
    assert not is_dicom(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty; expected an image; copy or export it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a placeholder for a file that was not",
        ),
        (None, r"is a link to a file that is not there; .*; fetch it \(datalad get"),
    ],
)
def test_a_slice_that_did_not_come_is_named(folder, content, words):
    path = folder / "3.dcm"
    path.unlink()
    if content is None:
        path.symlink_to("../.git/annex/objects/aB/cD/MD5E-s1--0.dcm")
    else:
        path.write_bytes(content)
    with pytest.raises(FileFormatError, match=f"{path}: {words}"):
        open_volume(folder)


@pytest.mark.parametrize("content", [b"<html>", bytes(300)], ids=["page", "zeros"])
def test_what_is_named_as_a_slice_must_be_one(folder, content):
    (folder / "3.dcm").write_bytes(content)
    with pytest.raises(FileFormatError) as caught:
        open_volume(folder)
    assert str(caught.value) == (
        f"{folder / '3.dcm'}: is no DICOM, but named as the slices beside it are; expected a "
        "slice, or another name; copy or export it again"
    )


def test_a_slice_that_is_still_coming_is_named(folder):
    (folder / "6.dcm.part").write_bytes(b"half")
    with pytest.raises(FileFormatError, match=r"6\.dcm\.part: is no DICOM, but named as the slice"):
        open_volume(folder)


def test_a_packed_slice_is_named(folder):
    last = folder / "5.dcm.gz"
    last.write_bytes(gzip.compress((folder / "5.dcm").read_bytes()))
    (folder / "5.dcm").unlink()
    for place in (folder, last):
        with pytest.raises(FileFormatError, match=r"5\.dcm\.gz: is DICOM, compressed with gzip; "):
            open_volume(place)


@pytest.mark.parametrize("name", ["notes.txt", "._3.dcm", "3.png", "README"])
def test_other_names_are_passed_over_with_a_word(folder, name):
    (folder / name).write_bytes(b"no slice")
    file = DicomVolume(folder)
    np.testing.assert_array_equal(file.image()[0], ARRAY)
    assert [str(note) for note in file.notes] == ["beside the slices: 1 other file; passed over"]


OTHERS = {
    uid.RTStructureSetStorage: ("RT Structure Set", "convert its contours to DICOM-SEG or NIfTI"),
    uid.SurfaceSegmentationStorage: ("Surface Segmentation", "convert its surfaces to DICOM-SEG"),
    uid.RawDataStorage: ("Raw Data", "export the images that were made of it"),
    uid.RTPlanStorage: ("RT Plan", "name a folder with one"),
    uid.EncapsulatedPDFStorage: ("Encapsulated PDF", "name a folder with one"),
    uid.SpatialRegistrationStorage: ("Spatial Registration", "name a folder with one"),
    uid.KeyObjectSelectionDocumentStorage: ("Key Object Selection Document", "name a folder"),
    uid.GrayscaleSoftcopyPresentationStateStorage: (
        "Grayscale Softcopy Presentation State",
        "name a folder with one",
    ),
}


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.keyword)
@pytest.mark.parametrize("read", [open_volume, open_labels])
def test_what_is_no_image_is_called_by_its_name(tmp_path, dicom_slice, kind, read):
    other = dicom_slice(np.zeros((3, 4), np.int16), Rows=None, Columns=None, PixelData=b"")
    del other.PixelData
    other.file_meta.MediaStorageSOPClassUID = other.SOPClassUID = kind
    other.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    name, remedy = OTHERS[kind]
    expected = rf"holds no DICOM images, but 1 other file \(1 {name}\); expected a series; {remedy}"
    with pytest.raises(FileFormatError, match=expected):
        read(tmp_path)


@pytest.mark.parametrize("keyword", ["ImagesInAcquisition", "NumberOfSlices"])
@pytest.mark.parametrize("said", [4, 5, 6])
def test_slices_that_are_not_there_are_noted(tmp_path, dicom_series, keyword, said):
    for number, one in enumerate(dicom_series(ARRAY, **{keyword: said})):
        one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    words = ["headers say 6 images of this acquisition, and here are 5; read as they are"]
    assert [str(note) for note in DicomVolume(tmp_path).notes] == words * (said == 6)


@pytest.mark.parametrize(
    ("modality", "words"),
    [
        ("RTDOSE", r"is a dose \(RTDOSE\); expected an image; .* convert it to NIfTI"),
        ("DX", "is a projection, not slices; expected an image; choose another series, or export"),
    ],
)
def test_images_that_are_no_slices_are_called_so(tmp_path, dicom_slice, modality, words):
    one = dicom_slice(ARRAY[..., 0].T, Modality=modality, PixelSpacing=None)
    one.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    with pytest.raises(FileFormatError, match=words):
        open_volume(tmp_path)


def test_a_kind_that_nobody_knows_is_not_quoted(tmp_path, dicom_slice):
    other = dicom_slice(np.zeros((3, 4), np.int16), Rows=None, Columns=None)
    other.file_meta.MediaStorageSOPClassUID = other.SOPClassUID = "1.2.3.4.5"
    other.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    with pytest.raises(FileFormatError, match=r"but 1 other file \(1 unknown kind\); expected"):
        open_volume(tmp_path)


def test_what_lies_beside_is_named_in_the_note(folder, dicom_slice):
    report = dicom_slice(np.zeros((3, 4), np.int16), Rows=None, Columns=None)
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = uid.BasicTextSRStorage
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    (note,) = DicomVolume(folder).notes
    assert str(note) == "beside the slices: 1 other file (1 Basic Text SR); passed over"
