"""DICOM is decoded side by side, nobody waits for it, and a folder is searched once."""

import logging
import warnings
from threading import Barrier, Event, Thread

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom.pixels
from pydicom.uid import RLELossless

from tests.test_dicom_series import enhanced
from vol3dseg import formats
from vol3dseg.errors import FileFormatError
from vol3dseg.formats.dicom.dicom_volume import DicomVolume
from vol3dseg.formats.dicom.series import find_series
from vol3dseg.formats.nifti import nifti_file
from vol3dseg.space.geometry import Geometry

ARRAY = np.arange(96, dtype=np.int16).reshape(4, 3, 8)
CORES = 4


@pytest.fixture
def folder(tmp_path, dicom_series):
    """A series of eight compressed slices, numbered from 1."""
    for number, one in enumerate(dicom_series(ARRAY), start=1):
        one.InstanceNumber = number
        one.compress(RLELossless)
        one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    return tmp_path


@pytest.fixture
def cores(monkeypatch):
    """A machine of several cores, whatever this one has."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(CORES)), raising=False)
    monkeypatch.setattr("vol3dseg.machine._most_cores", None)


@pytest.fixture
def before_decoding(monkeypatch):
    """Do something before a frame is decoded."""
    decode = pydicom.pixels.iter_pixels

    def patch(act):
        def acting(dataset, **options):
            act(dataset)
            yield from decode(dataset, **options)

        monkeypatch.setattr(pydicom.pixels, "iter_pixels", acting)

    return patch


@pytest.fixture
def nifti(tmp_path_factory):
    """A small NIfTI file."""
    path = tmp_path_factory.mktemp("nifti") / "scan.nii.gz"
    nifti_file.write(path, ARRAY, Geometry(ARRAY.shape, np.eye(4)))
    return path


def test_slices_are_decoded_side_by_side(folder, cores, before_decoding):
    file, together = DicomVolume(folder), Barrier(CORES)
    before_decoding(lambda _: together.wait(timeout=60))
    np.testing.assert_array_equal(file.image()[0], ARRAY)


def test_frames_of_one_file_are_decoded_side_by_side(
    tmp_path, cores, before_decoding, dicom_series
):
    scan = enhanced(dicom_series(ARRAY))
    scan.compress(RLELossless)
    scan.save_as(tmp_path / "scan.dcm", enforce_file_format=True)
    together = Barrier(CORES)
    before_decoding(lambda _: together.wait(timeout=60))
    file = DicomVolume(tmp_path)
    array, geometry, _ = file.image()
    assert (geometry.shape, array.dtype) == (ARRAY.shape, np.float32)
    np.testing.assert_array_equal(array, ARRAY)


def test_the_first_error_in_order_is_raised(folder, cores, before_decoding):
    def act(dataset):
        if dataset.InstanceNumber == 2:
            fourth.wait(timeout=60)
        if dataset.InstanceNumber == 4:
            fourth.set()
        if dataset.InstanceNumber in (2, 4):
            raise ValueError("DOE^JOHN")

    file, fourth = DicomVolume(folder), Event()
    before_decoding(act)
    with pytest.raises(FileFormatError, match=r"2\.dcm: damaged DICOM file \(ValueError\)"):
        file.image()


def test_nobody_waits_while_a_slice_is_decoded(folder, nifti, before_decoding, dicom_series):
    started, go_on, done = Event(), Event(), []
    other = folder.parent / "other"
    other.mkdir()
    for number, one in enumerate(dicom_series(ARRAY, SeriesInstanceUID="1.2.9")):
        one.save_as(other / f"{number}.dcm", enforce_file_format=True)

    def act(dataset):
        if dataset.SeriesInstanceUID != "1.2.9":
            started.set()
            go_on.wait(timeout=60)

    before_decoding(act)
    slow = Thread(target=lambda: done.append(DicomVolume(folder).image()))
    quick = Thread(
        target=lambda: done.append((formats.read_image(nifti), DicomVolume(other).image()))
    )
    slow.start()
    assert started.wait(timeout=60)
    quick.start()
    quick.join(timeout=30)
    waited = not done
    go_on.set()
    slow.join(), quick.join()
    assert not waited
    assert len(done) == 2


def test_warnings_and_logs_are_silent_in_every_thread_and_then_as_before(
    folder, cores, before_decoding, caplog
):
    def act(_):
        logging.getLogger("pydicom").warning("DOE^JOHN")
        logging.getLogger("highdicom.seg").warning("DOE^JOHN")
        warnings.warn("DOE^JOHN", stacklevel=1)

    before_decoding(act)
    filters = list(warnings.filters)
    np.testing.assert_array_equal(DicomVolume(folder).image()[0], ARRAY)
    assert caplog.text == ""
    assert warnings.filters == filters
    with pytest.warns(UserWarning, match="own"):
        warnings.warn("own", stacklevel=1)
    logging.getLogger("pydicom").warning("own")
    assert "own" in caplog.text


def test_a_folder_is_searched_once_while_it_stays_as_it_is(folder, monkeypatch):
    read, looked_at = pydicom.dcmread, []

    def look_at(file, **options):
        looked_at.append(file.name)
        return read(file, **options)

    monkeypatch.setattr(pydicom, "dcmread", look_at)
    for _ in range(2):
        assert find_series(folder).series[0].images == 8
        assert len(looked_at) == 8
    (folder / "8.dcm").unlink()
    assert find_series(folder).series[0].images == 7
    changed = read(folder / "1.dcm")
    changed.SeriesNumber = 8  # of as many bytes
    size = (folder / "1.dcm").stat().st_size
    changed.save_as(folder / "1.dcm")
    assert (folder / "1.dcm").stat().st_size == size
    assert find_series(folder).series[0].number == 8
