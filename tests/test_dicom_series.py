"""DICOM series: read right, or refused in one line."""

import logging
import shutil
import subprocess
import sys
import warnings
from copy import deepcopy
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.errors import (
    FileFormatError,
    GridError,
    IntensityError,
    MissingExtraError,
    Vol3dSegError,
)
from vol3dseg.formats.dicom.dicom_volume import DicomVolume, place_series, read_stack
from vol3dseg.formats.dicom.series import choose, find_series
from vol3dseg.space.geometry import Geometry

pytest.importorskip("pydicom")

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
)

SHAPE = (4, 3, 5)
ARRAY = np.arange(60, dtype=np.int16).reshape(SHAPE) * 7 - 100


def save(folder, slices):
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(slices, start=1):
        with disable_value_validation():
            one.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def read(folder, wanted=None):
    return DicomVolume(folder, wanted).image()[:2]


def world(geometry, index):
    return geometry.affine[:3, :3] @ index + geometry.affine[:3, 3]


# ---------------------------------------------------------------- what is read


def test_voxels_and_places_are_those_of_the_headers(tmp_path, dicom_series):
    slices = dicom_series(ARRAY, origin=(10, 20, 30), spacing=(0.5, 0.75))
    array, geometry = read(save(tmp_path, slices))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, ARRAY)
    # i counts columns, j rows; x and y are turned from LPS to RAS; slices are 2 mm apart, not 5.
    assert geometry == Geometry(
        SHAPE, [[-0.75, 0, 0, -10], [0, -0.5, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]]
    )


@given(st.randoms(use_true_random=False))
def test_any_orientation_keeps_each_voxel_at_its_place(tmp_path_factory, dicom_slice, random):
    rng = np.random.default_rng(random.getrandbits(32))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if rng.random() < 0.5:  # along the axes of the body, in any order and direction
        turn = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
    along, down, up = turn
    origin, spacing, step = rng.uniform(-300, 300, 3), rng.uniform(0.3, 3, 2), rng.uniform(0.5, 7)
    stored = rng.integers(-1000, 1000, (5, 3, 4)).astype(np.int16)  # k, rows, columns
    slices = [
        dicom_slice(stored[k], origin + k * step * up, (*along, *down), spacing)
        for k in rng.permutation(5)
    ]
    array, geometry = read(save(tmp_path_factory.mktemp("series"), slices))
    assert sorted(array.ravel().tolist()) == sorted(stored.ravel().tolist())
    assert np.linalg.det(geometry.affine[:3, :3]) > 0
    for k, row, column in ((0, 0, 0), (4, 2, 3), (2, 1, 3), (3, 2, 0)):
        lps = origin + k * step * up + column * spacing[1] * along + row * spacing[0] * down
        index = np.linalg.inv(geometry.affine) @ [-lps[0], -lps[1], lps[2], 1]
        i, j, at = np.rint(index[:3]).astype(int)
        np.testing.assert_allclose(index[:3], (i, j, at), atol=1e-6)
        assert (i, j) == (column, row)
        assert array[i, j, at] == stored[k, row, column]


def test_the_grid_is_the_one_that_simpleitk_finds(tmp_path, dicom_series):
    sitk = pytest.importorskip("SimpleITK")
    c, s = np.cos(0.3), np.sin(0.3)
    slices = dicom_series(
        ARRAY, (5, -6, 7), (-2.5 * s, 0, 2.5 * c), orientation=(c, 0, s, 0, 1, 0), spacing=(0.5, 2)
    )
    array, geometry = read(save(tmp_path, slices[::-1]))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image).T)
    for index in ((0, 0, 0), (3, 2, 4), (1, 2, 3)):
        lps = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(world(geometry, index), np.multiply(lps, (-1, -1, 1)), atol=1e-6)


def test_slope_and_intercept_belong_to_each_slice(tmp_path, dicom_series):
    slices = dicom_series(ARRAY)
    for k, one in enumerate(slices):
        one.RescaleSlope, one.RescaleIntercept = 0.5 + k, -k
    array, _ = read(save(tmp_path, slices))
    k = np.arange(5)
    np.testing.assert_allclose(array, ARRAY * (0.5 + k) - k, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_slices_are_a_volume_too(tmp_path, dicom_series, count):
    file = DicomVolume(save(tmp_path, dicom_series(ARRAY[..., :count])))
    array, geometry, _ = file.image()
    np.testing.assert_array_equal(array, ARRAY[..., :count])
    assert geometry.spacing_mm[2] == (5 if count == 1 else 2)  # there is no position to go by
    assert [str(n) for n in file.notes] == ["holds one slice; read as 5 mm thick"] * (count == 1)


def test_copies_of_a_file_are_left_out_as_a_repair(tmp_path, dicom_series):
    slices = dicom_series(ARRAY)
    copy_a_file(slices)
    file = DicomVolume(save(tmp_path, slices), repair=True)
    np.testing.assert_array_equal(file.image()[0], ARRAY)
    (note,) = file.notes
    assert str(note) == "holds copies of slices: 6.dcm of 2.dcm; read without them"
    assert note.repaired


def test_other_files_are_counted(tmp_path, dicom_series):
    folder = save(tmp_path, dicom_series(ARRAY))
    (folder / "notes.txt").write_text("nothing")
    (folder / "empty.dcm").write_bytes(b"")
    file = DicomVolume(folder)
    np.testing.assert_array_equal(file.image()[0], ARRAY)
    assert [str(n) for n in file.notes] == ["beside the slices: 2 other files; passed over"]


def test_rounded_positions_and_a_hair_of_shear_are_even(tmp_path, dicom_slice):
    slices = [dicom_slice(ARRAY[..., k % 5].T, (0.0004 * k, 0, round(0.625 * k, 1)))
              for k in range(9)]  # fmt: skip
    _, geometry = read(save(tmp_path, slices))
    assert geometry.spacing_mm[2] == pytest.approx(5 / 8)
    normal = np.cross(*geometry.affine[:3, :2].T)
    assert abs(normal @ geometry.affine[:3, 2]) == pytest.approx(5 / 8)


@pytest.mark.parametrize("digits", [3, 4, 6, 9])
def test_directions_may_be_rounded(tmp_path, dicom_slice, digits):
    turn, _ = np.linalg.qr(np.random.default_rng(digits).normal(size=(3, 3)))
    along, down = turn[0], turn[1]
    up = np.cross(along, down)
    rounded = np.round([*along, *down], digits).tolist()
    slices = [dicom_slice(ARRAY[..., k].T, 2 * k * up, rounded, (0.5, 0.75)) for k in range(5)]
    _, geometry = read(save(tmp_path, slices))
    np.testing.assert_allclose(geometry.spacing_mm, (0.75, 0.5, 2), rtol=1e-5)
    if digits > 3:
        geometry.require_right_angles(tmp_path)


# ---------------------------------------------------------------- enhanced files


def enhanced(slices, order=None, **per_frame):
    """One multi-frame file of classic slices; what all frames share stands once."""
    first = slices[0]
    file = Dataset()
    file.file_meta = FileMetaDataset(first.file_meta)
    file.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for element in first:
        if element.keyword not in ("ImagePositionPatient", "ImageOrientationPatient",
                                   "PixelSpacing", "SliceThickness", "PixelData"):  # fmt: skip
            file.add(element)
    file.SOPClassUID = EnhancedMRImageStorage
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    file.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = [slices[n] for n in (order or range(len(slices)))]
    file.NumberOfFrames = len(frames)
    file.PerFrameFunctionalGroupsSequence = Sequence(
        [_groups(one, {name: values[n] for name, values in per_frame.items()})
         for n, one in enumerate(frames)]
    )  # fmt: skip
    file.PixelData = b"".join(one.PixelData for one in frames)
    file["PixelData"].VR = "OW"
    return file


def _groups(one, values):
    group, position = Dataset(), Dataset()
    position.ImagePositionPatient = one.ImagePositionPatient
    group.PlanePositionSequence = Sequence([position])
    for name, value in values.items():
        item, (sequence, keyword) = Dataset(), name.split("_")
        setattr(item, keyword, value)
        setattr(group, sequence, Sequence([*getattr(group, sequence, []), item]))
    return group


def test_enhanced_frames_go_by_their_positions_and_slopes(tmp_path, dicom_series):
    order = [3, 0, 4, 1, 2]
    file = enhanced(dicom_series(ARRAY), order)
    for n, group in enumerate(file.PerFrameFunctionalGroupsSequence):
        values = Dataset()
        values.RescaleSlope, values.RescaleIntercept = 2, order[n]
        group.PixelValueTransformationSequence = Sequence([values])
    array, geometry = read(save(tmp_path, [file]))
    np.testing.assert_array_equal(array, ARRAY * 2 + np.arange(5))
    assert geometry.spacing_mm == (1, 1, 2)
    assert choose(find_series(tmp_path)).images == 5


def test_enhanced_volumes_are_told_apart(tmp_path, dicom_series):
    slices = [*dicom_series(ARRAY), *dicom_series(ARRAY)]
    b = [0.0] * 5 + [1000.0] * 5
    file = enhanced(slices, MRDiffusionSequence_DiffusionBValue=b)
    with pytest.raises(GridError) as caught:
        read(save(tmp_path, [file]))
    assert str(caught.value) == (
        f"{tmp_path / '1.dcm'}: series 7: holds 2 volumes of 5 slices at the same "
        "positions, told apart by b-value (0, 1000); expected one volume; put the files of one of "
        "them into a folder of their own"
    )


def test_enhanced_gap_names_its_frames(tmp_path, dicom_series):
    with pytest.raises(GridError, match=r"between 1\.dcm frame 2 at 2 mm and 1\.dcm frame 3 at 6"):
        read(save(tmp_path, [enhanced(dicom_series(ARRAY), [0, 1, 3, 4])]))


def test_enhanced_groups_must_be_as_many_as_frames(tmp_path, dicom_series):
    file = enhanced(dicom_series(ARRAY))
    del file.PerFrameFunctionalGroupsSequence[0]
    with pytest.raises(FileFormatError, match="functional groups of 4 frames; expected those of 5"):
        read(save(tmp_path, [file]))


# ---------------------------------------------------------------- what is refused


def copy_a_file(slices):
    slices.append(deepcopy(slices[1]))


def overflow(slices):
    slices[0].RescaleSlope = "1e38"


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (-1, "truncated: 1 bytes of its voxels are missing; expected all of them; copy or"),
        (-24, "truncated: 24 bytes of its voxels are missing; expected all of them; copy or"),
        (400, "is an image without Rows and Columns; "),
        (137, "(truncated|damaged|cannot be read)"),
    ],
    ids=["a byte", "all voxels", "half the header", "the header's start"],
)
def test_a_truncated_file_is_named(tmp_path, dicom_series, keep, message):
    file = save(tmp_path, dicom_series(ARRAY)) / "2.dcm"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(Vol3dSegError, match=f"^{file}: {message}"):
        read(tmp_path)


def outcome(folder):
    """None where a folder is read, or the line that refuses it."""
    try:
        assert np.isfinite(read(folder)[0]).all()
    except Vol3dSegError as error:
        return str(error)
    return None


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_read_or_refused_by_name(tmp_path, dicom_series, seed, caplog, capfd):
    rng = np.random.default_rng(seed)
    slices = dicom_series(ARRAY)
    if seed % 2:
        slices = [enhanced(slices)]
    file = save(tmp_path, slices) / "1.dcm"
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    places = rng.integers(132, len(content), rng.integers(1, 20))
    content[places] = rng.integers(0, 256, len(places))
    file.write_bytes(content[: len(content) - rng.integers(0, 2) * rng.integers(0, 300)].tobytes())
    message = outcome(tmp_path)
    assert message is None or message.startswith(str(tmp_path))
    assert message is None or "\n" not in message
    assert "DOE" not in caplog.text
    assert capfd.readouterr() == ("", "")


def test_voxels_of_nan_are_counted(tmp_path, dicom_slice):
    one = dicom_slice(np.zeros((3, 4), np.int16), BitsAllocated=32)
    stored = np.zeros(12, np.float32)
    stored[:2] = np.nan, np.inf
    del one.PixelData
    one.FloatPixelData = stored.tobytes()
    with pytest.raises(IntensityError, match=r"1\.dcm: 2 voxels are NaN or infinite"):
        read(save(tmp_path, [one]))


def test_an_error_that_is_kept_keeps_no_other_thread_waiting(tmp_path, dicom_series):
    bad, good = dicom_series(ARRAY), save(tmp_path / "good", dicom_series(ARRAY))
    overflow(bad)
    save(tmp_path / "bad", bad)
    levels = {name: logging.getLogger(name).level for name in ("pydicom", "highdicom")}
    filters = list(warnings.filters)
    with pytest.raises(IntensityError) as caught:
        read(tmp_path / "bad")
    arrays = []
    threads = [Thread(target=lambda: arrays.append(read(good)[0]), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(arrays) == 4
    assert all(np.array_equal(array, ARRAY) for array in arrays)
    assert {name: logging.getLogger(name).level for name in levels} == levels
    assert warnings.filters == filters
    assert caught.value.__traceback__ is not None  # kept until here


def test_a_deflated_bomb_is_not_inflated(tmp_path, dicom_slice, monkeypatch):
    one = dicom_slice(np.zeros((300, 400), np.int16))
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    monkeypatch.setattr("vol3dseg.formats.dicom.dicom_file.MOST_INFLATED", 200_000)
    with pytest.raises(FileFormatError, match=r"1\.dcm: inflates to more than 200000 bytes"):
        read(save(tmp_path, [one]))


def test_no_memory_is_set_aside_for_what_a_header_claims(tmp_path, dicom_series):
    file = save(tmp_path, dicom_series(ARRAY)) / "1.dcm"
    content = file.read_bytes()
    at = content.index(b"\x10\x00\x10\x00PN") + 4  # the patient's name becomes 4 GB of bytes
    file.write_bytes(content[:at] + b"OB\0\0\xf0\xff\xff\xff" + content[at + 4 :])
    with pytest.raises(Vol3dSegError, match=str(file)):
        read(tmp_path)


# ---------------------------------------------------------------- folders and choice


@pytest.mark.hostile
def test_other_files_are_ignored_and_counted(tmp_path, dicom_series):
    save(tmp_path / "a" / "b", dicom_series(ARRAY))
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "notes.txt").write_text("not DICOM" * 100)
    (tmp_path / "a" / "junk").write_bytes(bytes(range(256)) * 4)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = "1.2.9"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    directory = FileDataset(None, Dataset(), file_meta=meta, preamble=bytes(128))
    record = Dataset()
    with disable_value_validation():
        record.ReferencedFileID = ["..", "..", "etc", "passwd"]
    directory.DirectoryRecordSequence = Sequence([record])
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    found = find_series(tmp_path)
    assert found.others == ("",) * 4
    (series,) = found.series
    assert (series.number, series.description, series.images) == (7, "T1 axial", 5)
    assert series.files == tuple(tmp_path / "a" / "b" / f"{n}.dcm" for n in range(1, 6))
    np.testing.assert_array_equal(read_stack(place_series(series), series.where), ARRAY)


def test_one_file_is_a_folder_of_one(tmp_path, dicom_series):
    save(tmp_path, dicom_series(ARRAY))
    assert find_series(tmp_path / "2.dcm").series[0].images == 1


@pytest.fixture
def three(tmp_path, dicom_series):
    for number, uid, name in ((3, "1.9.1", "T2 [fs]"), (4, "1.9.2", "FLAIR"), (None, "1.9.3", "")):
        slices = dicom_series(ARRAY[..., :2] + (number or 0), SeriesInstanceUID=uid,
                              SeriesNumber=number, SeriesDescription=name)  # fmt: skip
        save(tmp_path / uid, slices)
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        ("3", 3),
        ("1.9.2", 4),
        ("flair", 4),
        ("F?A*", 4),
        ("T2 [fs]", 3),
        ("", None),
        ("1.9.3", None),
    ],
)
def test_series_are_chosen_by_number_uid_or_pattern(three, wanted, number):
    assert choose(find_series(three), wanted).number == number


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        (None, "3 series"),
        ("*", "3 series for '*'"),
        ("T1", "0 series for 'T1'"),
    ],
)
def test_what_there_is_to_choose_from_is_listed(three, wanted, what):
    with pytest.raises(FileFormatError) as caught:
        choose(find_series(three), wanted)
    assert str(caught.value) == (
        f"{three}: holds {what}; expected one; name it by UID, number or a pattern of its "
        "description in the column <modality>_series or label_series of a dataset table; there "
        "are without a number '' (MR, 2 images, UID 1.9.3); 3 'T2 [fs]' (MR, 2 images, UID "
        "1.9.1); 4 'FLAIR' (MR, 2 images, UID 1.9.2)"
    )


def test_a_description_cannot_forge_a_line(tmp_path, dicom_series):
    slices = dicom_series(ARRAY, SeriesDescription="a\nERROR: b\x1b[31m")
    found = find_series(save(tmp_path, slices))
    assert found.series[0].description == "a ERROR: b [31m"


def test_no_such_folder(tmp_path):
    with pytest.raises(FileFormatError, match="no such folder; expected one with DICOM files"):
        find_series(tmp_path / "none")


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vol3dseg\[dicom\]'"):
        find_series(tmp_path)


def test_importing_the_modules_imports_nothing_heavy():
    code = (  # pydicom comes with nibabel, which looks for it by itself
        "import sys; import nibabel; before = set(sys.modules); "
        "import vol3dseg.formats.dicom.seg_writing, vol3dseg.formats.dicom.seg_reading; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "sys.exit(bool(new & {'pydicom', 'highdicom'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- real series


def test_five_series_of_a_patient_lie_on_one_grid(shared_data):
    found = find_series(shared_data / "dicom" / "glioblastoma")
    grids = [place_series(series).geometry for series in found.series]
    assert len(grids) == 5
    assert all(grid.fits(grids[0]) for grid in grids)
    assert grids[0].shape == (260, 320, 24)
    np.testing.assert_allclose(grids[0].spacing_mm, (0.6875, 0.6875, 6.5), rtol=1e-6)


def test_three_b_values_are_refused(shared_data):
    folder = shared_data / "dicom" / "prostate-diffusion-3-b-values"
    with pytest.raises(GridError) as caught:
        read(folder)
    assert str(caught.value) == (
        f"{folder}: series 6: holds 3 volumes of 19 slices at the same "
        "positions, told apart by sequence and b-value (50, 400, 800); expected one volume; put "
        "the files of one of them into a folder of their own"
    )


def test_one_b_value_in_a_folder_of_its_own_is_read(shared_data, tmp_path):
    for path in (shared_data / "dicom" / "prostate-diffusion-3-b-values").iterdir():
        if pydicom.dcmread(path, stop_before_pixels=True)[0x0019100C].value.strip() == b"400":
            shutil.copy(path, tmp_path)
    assert read(tmp_path)[1].shape == (84, 128, 19)


@pytest.mark.parametrize(
    ("name", "shape", "spacing"),
    [
        ("ct-chest-17-slices", (88, 128, 17), (2, 2, 2)),
        ("prostate-adc", (84, 128, 19), (2, 2, 3)),
    ],
)
def test_real_series_equal_simpleitk(shared_data, name, shape, spacing):
    sitk = pytest.importorskip("SimpleITK")
    folder = shared_data / "dicom" / name
    array, geometry = read(folder)
    assert geometry.shape == shape
    np.testing.assert_allclose(geometry.spacing_mm, spacing, rtol=1e-4)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image).T)
    last = tuple(n - 1 for n in shape)
    expected = np.multiply(image.TransformIndexToPhysicalPoint(last), (-1, -1, 1))
    np.testing.assert_allclose(world(geometry, last), expected, atol=1e-3)


@pytest.mark.parametrize("lean", [0.5, -0.25])
def test_a_tilted_series_lies_where_its_slices_lie(tmp_path, dicom_slice, lean):
    """It is refused where it is used, unless the dataset table asks for resampling."""
    places = [(3, lean * k, 2 * k) for k in range(5)]
    slices = [dicom_slice(ARRAY[..., k].T, places[k]) for k in range(5)]
    array, geometry = read(save(tmp_path, slices))
    np.testing.assert_array_equal(array, ARRAY)
    for k, (x, y, z) in enumerate(places):
        np.testing.assert_allclose(world(geometry, (0, 0, k)), (-x, -y, z), atol=1e-6)
    assert geometry.shear == pytest.approx(abs(lean) / np.hypot(2, lean), rel=1e-6)
    with pytest.raises(GridError, match=r"two axes stand at .* degrees; expected right angles"):
        geometry.require_right_angles(tmp_path)
