"""Files harmed on purpose: read right, or refused in one line; and the fuzzer itself."""

import importlib
import importlib.util
import logging
import math
import struct
import tracemalloc
import warnings
from dataclasses import replace
from random import Random

import pytest

from tests.fuzzing.__main__ import main
from tests.fuzzing.children import Job, fuzz
from tests.fuzzing.dicom_samples import series_samples
from tests.fuzzing.families import FAMILIES, SHARES
from tests.fuzzing.mutations import harmed
from tests.fuzzing.promise import BrokenPromise, check_silent, judge
from tests.fuzzing.sample import NAME
from tests.fuzzing.samples import metaimage_samples, nifti_samples, nrrd_samples
from vol3dseg import formats
from vol3dseg.errors import FileFormatError, GridError, LabelError, MemoryLimitError
from vol3dseg.formats.dicom.dicom_volume import DicomVolume

FILES = 500  # in all; `make fuzz` reads many more
NEEDED = {"dicom": "pydicom", "seg": "highdicom"}


def need(family):
    if family in NEEDED and importlib.util.find_spec(NEEDED[family]) is None:
        pytest.skip(f"{NEEDED[family]} is not installed")


@pytest.mark.parametrize("name", FAMILIES)
def test_harmed_files_are_read_right_or_refused_in_one_line(name):
    need(name)
    count = FILES * SHARES[name] // 100
    result = fuzz([Job(name, seed=1, numbers=range(count))], workers=2)[name]
    assert [str(finding) for finding in result.findings] == []
    assert result.outcomes.total() == count
    # Harm that nobody notices, or that nobody gets past, would prove nothing.
    assert min(result.outcomes["read"], result.outcomes["refused"]) > count / 10


@pytest.mark.parametrize("name", FAMILIES)
def test_whole_files_are_read(name, tmp_path, monkeypatch):
    """All but label maps, which images are not."""
    need(name)
    refused = []
    monkeypatch.setattr("tests.fuzzing.promise.check_message", refused.append)
    family = FAMILIES[name]()
    for number, sample in enumerate(family.samples):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert judge(family.read, sample.save(folder)) == "read", sample.name
    for error in refused:
        of_four_axes = "has shape (5, 4, 3, 2); expected three axes" in str(error)
        assert isinstance(error, LabelError) or of_four_axes, error


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_and_a_number_make_the_same_file_and_others_another(name):
    need(name)
    family, again = FAMILIES[name](), FAMILIES[name]()
    made = [harmed(family, Random(f"0 {n}")) for n in range(20)]
    assert made == [harmed(again, Random(f"0 {n}")) for n in range(20)]
    assert len({str(sample) for sample in made}) == 20


# ---------------------------------------------------------------- what the fuzzer has found


def patched(sample, name, *changes):
    """A sample with some bytes of one file changed: pairs of a place and what stands there then."""
    content = bytearray(sample.files[name])
    for place, stored in changes:
        content[place : place + len(stored)] = stored
    return replace(sample, files={**sample.files, name: bytes(content)})


def sample_of(samples, name):
    return next(sample for sample in samples if sample.name == name)


def doubles(*numbers):
    return struct.pack(f"<{len(numbers)}d", *numbers)


# Places of fields in NIfTI-2: pixdim 104, srow_x 400, quatern_b 352, qoffset_x 376.
NIFTI2 = sample_of(nifti_samples(), "nifti-2")
NIFTI1 = sample_of(nifti_samples(), "nifti-1")
FOUND_IN_NIFTI = [
    pytest.param(
        patched(NIFTI2, "a.nii", (400, doubles(1e300))),
        GridError, "the affine reaches 1e+300 mm; expected no more than 1e+09 mm", id="sform 1e300",
    ),
    pytest.param(
        patched(NIFTI2, "a.nii", (376, doubles(1e300)), (348, bytes(4))),  # and no sform
        GridError, "the affine reaches 1e+300 mm; expected no more than 1e+09 mm", id="qform 1e300",
    ),
    pytest.param(
        patched(NIFTI2, "a.nii", (400, doubles(1e200)), (112, doubles(0))),
        FileFormatError, "header says that voxels are [0.0, ", id="sform 1e200 and a pixdim of 0",
    ),
    pytest.param(
        patched(NIFTI1, "a.nii", (108, struct.pack("<f", -math.inf))),
        FileFormatError, "damaged NIfTI header (", id="voxels begin at minus infinity",
    ),
]  # fmt: skip


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize(("sample", "error", "message"), FOUND_IN_NIFTI)
def test_found_in_nifti(tmp_path, sample, error, message, repair):
    path = sample.save(tmp_path)
    with pytest.raises(error) as caught:
        formats.open_volume(path, repair=repair).image()
    assert str(caught.value).startswith(f"{path}: {message}")


def edited(sample, name, old, new):
    content = sample.files[name]
    assert old in content
    return replace(sample, files={**sample.files, name: content.replace(old, new, 1)})


MHA, MHD = (sample_of(metaimage_samples(), name) for name in ("mha", "mhd"))
NRRD, NHDR = (sample_of(nrrd_samples(), name) for name in ("nrrd", "nrrd, detached"))
MISSING = (
    "its data file is missing; expected it beside the header; copy it into the folder of the header"
)
FOUND_IN_TEXT = [
    pytest.param(
        edited(NHDR, "a.nhdr", b"file: a.raw", f"file: {NAME}".encode()),
        FileFormatError, MISSING, id="a name in place of the data file",
    ),
    pytest.param(
        edited(MHD, "a.mhd", b"= a.raw", b"= LO\xbaAL"),
        FileFormatError, MISSING, id="a data file that cannot be printed",
    ),
    pytest.param(
        edited(MHD, "a.mhd", b"= a.raw", b"= " + b"a" * 300),
        FileFormatError, MISSING, id="a data file of 300 letters",
    ),
    pytest.param(
        edited(NRRD, "a.nrrd", b"(0,2,0)", b"(1e-308,2,0)"),
        FileFormatError, "header says space directions another; expected finite numbers",
        id="a direction of 1e-308",
    ),
    pytest.param(
        edited(MHA, "a.mha", b"= 1 0 0 0 1", b"= 1 0 0 1e-308 1"),
        FileFormatError, "header says TransformMatrix another; expected finite numbers",
        id="a matrix of 1e-308",
    ),
    pytest.param(
        edited(MHA, "a.mha", b"Offset = -20", b"Offset = 1e99"),
        GridError, "the affine reaches 1e+99 mm", id="an offset of 1e99",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("sample", "error", "message"), FOUND_IN_TEXT)
def test_found_in_nrrd_and_metaimage(tmp_path, capfd, sample, error, message):
    need("nrrd")
    path = sample.save(tmp_path)
    with pytest.raises(error) as caught:
        formats.open_volume(path).image()
    assert str(caught.value).startswith(f"{path}: {message}")
    assert capfd.readouterr() == ("", "")


def test_found_in_dicom_a_file_meta_element_of_two_gigabytes(tmp_path):
    need("dicom")
    sample = sample_of(series_samples(), "series")
    content = sample.files["3.dcm"]
    version = content.index(b"\2\0\1\0OB")  # its length stands 8 bytes on
    path = patched(sample, "3.dcm", (version + 8, b"\xff\xff\xff\x7f")).save(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError):
            DicomVolume(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- the judge can say no


def raising(error):
    def read(path):
        raise error

    return read


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(FileFormatError("two\nlines"), id="two lines"),
        pytest.param(FileFormatError(""), id="no words"),
        pytest.param(FileFormatError(f"patient {NAME}"), id="header text"),
        pytest.param(FileFormatError(f"patient {NAME[:5].lower()}"), id="part of it"),
        pytest.param(MemoryLimitError("too large"), id="all memory"),
    ],
)
def test_an_error_that_says_too_much_or_too_little_is_a_finding(error, tmp_path):
    with pytest.raises(BrokenPromise):
        judge(raising(error), tmp_path)


def test_an_error_of_one_line_is_a_refusal(tmp_path):
    assert judge(raising(FileFormatError("truncated")), tmp_path) == "refused"


def test_a_description_of_a_series_may_be_said_and_nothing_around_it():
    check_silent(f"/x: series 3 'T1 {NAME}': is a segmentation")
    with pytest.raises(BrokenPromise):
        check_silent(f"/x: series 3 'T1': of {NAME}")


def test_a_warning_and_a_log_are_heard(tmp_path):
    def warn(path):
        warnings.warn("odd", RuntimeWarning, stacklevel=1)

    def log(path):
        logging.getLogger("vol3dseg.formats").warning("of %s", NAME)

    with pytest.raises(RuntimeWarning):
        judge(warn, tmp_path)
    with pytest.raises(BrokenPromise):
        judge(log, tmp_path)


# ---------------------------------------------------------------- children may die

BADLY = """
import os, time

def die(pipe, job):
    pipe.send("ready")
    pipe.send("read")
    os._exit(3)

def hang(pipe, job):
    pipe.send("ready")
    pipe.send("refused")
    time.sleep(600)

def fail(pipe, job):
    pass
"""


@pytest.fixture
def badly(tmp_path, monkeypatch):
    """What children do that behave badly; a module of its own, since they must import it."""
    (tmp_path / "behaving_badly.py").write_text(BADLY)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("behaving_badly")


def test_a_file_that_kills_its_process_is_found_and_the_others_are_read(badly):
    result = fuzz([Job("nifti", seed=5, numbers=range(4))], 1, badly.die)["nifti"]
    assert result.outcomes == {"read": 2}
    assert [(f.number, f.what) for f in result.findings] == [
        (1, "kills its process: exit code 3"),
        (3, "kills its process: exit code 3"),
    ]
    assert "--only nifti --seed 5 --first 3 --count 1" in str(result.findings[1])


def test_a_file_that_takes_too_long_is_found(badly):
    job = Job("nifti", seed=0, numbers=range(2), seconds=0.2)
    result = fuzz([job], 1, badly.hang)["nifti"]
    assert [(f.number, f.what) for f in result.findings] == [(1, "hangs: more than 0.2 s")]


def test_a_child_that_cannot_read_whole_files_is_no_finding(badly):
    with pytest.raises(RuntimeError, match="cannot read whole files"):
        fuzz([Job("nifti", seed=0, numbers=range(2))], 1, badly.fail)


def test_the_command_tells_what_became_of_the_files(tmp_path, capfd):
    words = ["--only", "nifti", "--count", "3", "--first", "7", "--keep", str(tmp_path)]
    assert main(words) == 0
    assert capfd.readouterr().out.splitlines()[1].split()[:2] == ["nifti", "3"]
    assert sorted(path.name for path in (tmp_path / "nifti").iterdir()) == ["7", "8", "9"]
