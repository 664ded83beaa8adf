"""Nobody is named: a name that stands in every header is nowhere in what we write or say."""

import base64
import gzip
import io
import json
import re
import zipfile
import zlib
from dataclasses import dataclass

import h5py
import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from vol3dseg.cli.main import cli
from vol3dseg.errors import Vol3dSegError
from vol3dseg.formats.dicom.acquisition import ATTRIBUTES
from vol3dseg.space.geometry import Geometry

pytestmark = pytest.mark.hostile

NAME = "XQDOE^XQJOHN"  # of two words that stand nowhere else
WORDS = re.compile(rb"xq(doe|john)", re.IGNORECASE)
ONE = ("-j", 1)  # process, so that nothing is said where it is not heard
MODALITIES = ("flair", "t1")
SHAPE = (24, 20, 18)
GRID = Geometry(SHAPE, [[-1, 0, 0, 10], [0, -1, 0, 20], [0, 0, 1, 5], [0, 0, 0, 1]])


# ---------------------------------------------------------------- images that name somebody


def intensities(number):
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    noise = np.random.default_rng(number).normal(0, 20, SHAPE)
    label = np.zeros(SHAPE, np.int16)
    for limit, value in ((0.5, 2), (0.35, 4), (0.2, 1)):
        label[radius < limit] = value
    return np.where(radius < 0.9, 200 + 100 * (radius < 0.5) + noise, 0).astype(np.int16), label


def write_nifti(path, array):
    image = nib.Nifti1Image(array, GRID.affine)
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[field] = NAME.encode()
    image.header["data_type"] = NAME[:5].encode()
    for code in ("comment", "afni", "dicom", "jimdiminfo", 40):
        extension = nib.nifti1.Nifti1Extension(code if code != "dicom" else 2, NAME.encode())
        image.header.extensions.append(extension)
    image.to_filename(path)


def write_nrrd(path, array):
    said = f"type: int16\ndimension: 3\nspace: right-anterior-superior\nsizes: {sizes(array)}\n"
    said += "space directions: (-1,0,0) (0,-1,0) (0,0,1)\nspace origin: (10,20,5)\n"
    said += f'encoding: raw\nendian: little\ncontent: {NAME}\nlabels: "{NAME}" "{NAME}" "{NAME}"\n'
    said += f"sample units: {NAME}\nPatientName:={NAME}\n{NAME}:=x\nDICOM_0010_0010:={NAME}\n"
    path.write_bytes(f"NRRD0005\n# {NAME}\n{said}\n".encode() + array.tobytes("F"))


def sizes(array):
    return " ".join(map(str, array.shape))


def write_metaimage(path, array):
    said = "NDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    said += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -10 -20 5\nElementSpacing = 1 1 1\n"
    said += f"Comment = {NAME}\nName = {NAME}\nObjectSubType = {NAME}\nPatientName = {NAME}\n"
    said += f"0010|0010 = {NAME}\nAcquisitionDate = {NAME}\n"
    said += f"DimSize = {sizes(array)}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes(f"ObjectType = Image\n{said}".encode() + array.tobytes("F"))


TEXTS = {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
READ = {  # without these a series is none, or names another
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality",
    "StudyInstanceUID", "FrameOfReferenceUID", "PhotometricInterpretation",
}  # fmt: skip


def name_everywhere(one, tags):
    """Put the name into texts, private tags, nested sequences and the file meta."""
    from pydicom.config import disable_value_validation
    from pydicom.dataset import Dataset

    def named(dataset, tags):
        for tag, kind in tags:
            dataset.add_new(tag, kind, NAME)
        dataset.add_new(0x00190010, "LO", NAME)
        for number, kind in enumerate([*sorted(TEXTS), "OB", "UN"]):
            text = NAME.encode() if kind in ("OB", "UN") else NAME
            dataset.add_new(0x00191001 + number, kind, text)
        return dataset

    with disable_value_validation():
        named(one, tags)
        for keyword in ("RequestAttributesSequence", "OtherPatientIDsSequence"):
            inner = named(Dataset(), tags[:40])
            inner.ReferencedStudySequence = [named(Dataset(), tags[:40])]
            setattr(one, keyword, [inner])
        one.file_meta.SourceApplicationEntityTitle = NAME
        one.file_meta.SendingApplicationEntityTitle = NAME
        one.file_meta.PrivateInformationCreatorUID = NAME
        one.file_meta.PrivateInformation = NAME.encode()
        one.preamble = NAME.encode().ljust(128, b"\0")


def text_tags():
    """Return every tag that DICOM knows and that holds text, with how it does."""
    from pydicom.datadict import DicomDictionary

    return [
        (tag, kind)
        for tag, (kind, _, _, _, keyword) in sorted(DicomDictionary.items())
        if kind in TEXTS and 0x0008 <= tag >> 16 < 0x7FE0 and keyword not in READ
    ]


def write_series(path, array, make):
    from pydicom.config import disable_value_validation
    from pydicom.datadict import keyword_for_tag

    path.mkdir(parents=True)
    uid = f"1.2.3.{zlib.crc32(str(path).encode())}"
    tags = text_tags()
    agreeing = {keyword for attribute in ATTRIBUTES for keyword in attribute.keywords}
    few = tags[:120] + [tag for tag in tags[120:] if keyword_for_tag(tag[0]) in agreeing]
    for number, one in enumerate(make(array, (-10, -20, 5), (0, 0, 1), SeriesInstanceUID=uid)):
        # All of them in the first and the last, since some thousands take their time; in each,
        # those that must be the same in all of them.
        name_everywhere(one, tags if number in (0, array.shape[2] - 1) else few)
        with disable_value_validation():
            one.save_as(path / f"{number}.dcm", enforce_file_format=True)


SUFFIXES = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "dicom": ""}
NEEDED = {"dicom": "highdicom"}


@pytest.fixture(params=SUFFIXES)
def named_table(request, tmp_path):
    """A data set of two cases in one format, as a table; its name."""
    if request.param in NEEDED:
        pytest.importorskip(NEEDED[request.param])
    write = {
        "nifti": write_nifti,
        "nrrd": write_nrrd,
        "mha": write_metaimage,
        "dicom": lambda path, array: write_series(
            path, array, request.getfixturevalue("dicom_series")
        ),
    }[request.param]
    folder, suffix = tmp_path / "scans", SUFFIXES[request.param]
    folder.mkdir()
    rows = ["id,flair,t1,label"]
    for case in ("a", "b"):
        image, label = intensities(ord(case))
        for name in MODALITIES:
            write(folder / f"{case}-{name}{suffix}", image)
        write_nifti(folder / f"{case}-label.nii.gz", label)
        rows.append(f"{case},{case}-flair{suffix},{case}-t1{suffix},{case}-label.nii.gz")
    table = folder / "cases.csv"
    table.write_text("\n".join(rows))
    return request.param, table


# ---------------------------------------------------------------- where nobody may be named


def layers(content, depth=0):
    """Give bytes as they are, and all that is packed within them."""
    yield content
    yield content.decode("utf-16-le", errors="ignore").encode(errors="ignore")
    if depth > 4:
        return
    for inner in unpacked(content):
        yield from layers(inner, depth + 1)


def unpacked(content):
    if content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    elif zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif content.startswith(b"\x89PNG"):
        for kind, chunk in re.findall(rb"(?s)(zTXt|iTXt)[^\0]*\0+(.*?)IDAT", content):
            yield kind + inflated(chunk)
    elif content.startswith(b"\x89HDF"):
        with h5py.File(io.BytesIO(content)) as file:
            yield repr(hdf5_text(file)).encode()
    for text in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
        yield base64.b64decode(text)


def inflated(chunk):
    try:
        return zlib.decompress(chunk)
    except zlib.error:
        return b""


def hdf5_text(file):
    found = [dict(file.attrs)]
    file.visititems(lambda name, item: found.append((name, dict(item.attrs))))
    return found


def assert_nobody_is_named(*places):
    """Look through files, folders and text."""
    for place in places:
        if isinstance(place, str):
            assert not WORDS.search(place.encode()), place
            continue
        files = [path for path in place.rglob("*") if path.is_file()]
        assert files, f"nothing was written into {place}"
        for path in files:
            assert not WORDS.search(str(path.relative_to(place)).encode())
            for content in layers(path.read_bytes()):
                assert not WORDS.search(content), path


@dataclass(frozen=True)
class Told:
    """What a command said, and how it ended."""

    code: int
    text: str


@pytest.fixture
def said(caplog):
    """Run a command, and make sure that it names nobody unless it is allowed to."""

    def run(*words, named=False):
        caplog.clear()
        done = CliRunner().invoke(cli, [str(word) for word in words])
        error = done.exception
        if error is not None and not isinstance(error, SystemExit | Vol3dSegError):
            raise error
        text = f"{done.output}\n{error or ''}\n{caplog.text}"
        assert bool(WORDS.search(text.encode())) == named, text
        return Told(done.exit_code, text)

    return run


def test_nobody_is_named_in_what_is_written_or_said(
    named_table, said, tmp_path, model_path, config_path
):
    pytest.importorskip("matplotlib")
    name, table = named_table
    out = tmp_path / "out"
    done = {
        "check": said("check", table, "-c", config_path, "--table", out / "checked.csv", *ONE),
        "json": said("check", table, "-c", config_path, "--json", *ONE),
        "inspect": said("inspect", table, "-o", out / "inspected", "-c", config_path, *ONE),
        "preprocess": said("preprocess", table, "-o", out / "prepared", "-c", config_path, *ONE),
        "info": said("info", out / "prepared"),
        "predict": said(
            "predict", model_path, table, "-o", out / "predicted", "--probabilities", "--picture"
        ),
        "evaluate": said("evaluate", out / "predicted", table, "-o", out / "report"),
    }
    suffix = ".nii.gz" if name == "dicom" else SUFFIXES[name]
    scan, seg = table.parent / f"a-flair{SUFFIXES[name]}", out / "predicted" / f"a{suffix}"
    done["show"] = said("show", scan, seg, "-o", out / "shown.png")
    for format_name in ("nifti", "nrrd", "mha"):
        words = ("-o", out / format_name, "--format", format_name)
        done[format_name] = said("predict", model_path, table, *words)
    if name == "dicom":
        words = ("-o", out / "seg", "--format", "dicom-seg", "--deidentify")
        done["dicom-seg"] = said("predict", model_path, table, *words)
    assert {step: run.text for step, run in done.items() if run.code} == {}
    assert_nobody_is_named(out)


def harm(path, number):
    """Harm a file, or one file of a folder: cut its end off, or overwrite sizes or more of it."""
    if path.is_dir():
        path = sorted(path.iterdir())[-1]
    content = bytearray(path.read_bytes())
    if path.suffix == ".gz":
        content = bytearray(gzip.decompress(content))
    if number == 0:
        del content[-99:]
    else:
        rows = content.index(b"\x28\0\x10\0US") if path.suffix == ".dcm" else 0
        start, size = ((rows + 8, 2) if rows else (40, 4), (rows or 140, 160))[number - 1]
        content[start : start + size] = b"\x7f" * size
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("number", range(3), ids=["truncated", "sizes", "header"])
def test_nobody_is_named_where_files_are_damaged(
    named_table, said, tmp_path, model_path, config_path, number
):
    pytest.importorskip("matplotlib")
    name, table = named_table
    out = tmp_path / "out"
    harm(table.parent / f"a-flair{SUFFIXES[name]}", number)
    harm(table.parent / "b-label.nii.gz", number)
    told = [
        said("check", table, "-c", config_path, *ONE),
        said("preprocess", table, "-o", out / "prepared", "-c", config_path, *ONE),
        said("predict", model_path, table, "-o", out / "predicted"),
        said("inspect", table, "-o", out / "inspected", "-c", config_path, *ONE),
    ]
    assert [one.code for one in told][:3] == [1, 1, 1], told
    assert_nobody_is_named(out)


# ---------------------------------------------------------------- what is said, and not written


@pytest.fixture
def two_series(tmp_path, dicom_series):
    """A table that does not say which series of a folder are meant; all of them name somebody."""
    pytest.importorskip("highdicom")
    folder = tmp_path / "scans"
    for place in ("a", "b"):
        for name in ("x", "y"):
            write_series(folder / place / name, intensities(1)[0], dicom_series)
    table = folder / "cases.csv"
    table.write_text("id,flair,t1\na,a,b\n")
    return table


def test_descriptions_are_told_for_choosing_and_never_recorded(
    two_series, said, tmp_path, model_path, config_path
):
    out = tmp_path / "out"
    told = [
        said("check", two_series, "-c", config_path, *ONE, named=True),
        said("preprocess", two_series, "-o", out / "p", "-c", config_path, *ONE, named=True),
        said("predict", model_path, two_series, "-o", out / "s", named=True),
    ]
    for one in told:
        assert one.code == 1
        assert f"there are 7 '{NAME}' (MR, 18 images, UID 1.2.3." in one.text
    said("inspect", two_series, "-o", out / "i", "-c", config_path, *ONE)
    assert_nobody_is_named(out)
    reason = (
        f"{two_series.parent / 'a'}: holds 2 series; expected one; name it by UID, number or a "
    )
    kept = json.loads((out / "s" / "predictions.json").read_text())["cases"]["a"]["error"]
    assert kept.startswith(reason + "pattern of its description")


# ---------------------------------------------------------------- DICOM-SEG, which must say whose


def test_a_dicom_seg_names_patient_and_study_and_nothing_else(
    tmp_path, dicom_series, said, model_path
):
    pytest.importorskip("highdicom")
    import pydicom

    for name in MODALITIES:
        write_series(tmp_path / "scans" / name, intensities(1)[0], dicom_series)
    table = tmp_path / "scans" / "cases.csv"
    table.write_text("id,flair,t1\na,flair,t1\n")
    assert (
        said("predict", model_path, table, "-o", tmp_path / "o", "--format", "dicom-seg").code == 0
    )
    path = tmp_path / "o" / "a.dcm"
    seg = pydicom.dcmread(path)
    carried = {e.keyword for e in seg if WORDS.search(str(e.value).encode())}
    assert carried == {
        "PatientName", "PatientID", "StudyID", "AccessionNumber", "ReferringPhysicianName"
    }  # fmt: skip
    for keyword in carried:
        setattr(seg, keyword, "")
    seg.save_as(path)
    assert_nobody_is_named(tmp_path / "o")


# ---------------------------------------------------------------- the search itself


def test_the_search_finds_a_name_wherever_it_hides(tmp_path):
    """Or the tests above would prove nothing."""
    Image = pytest.importorskip("PIL.Image")  # noqa: N806 - as Pillow calls it
    PngInfo = pytest.importorskip("PIL.PngImagePlugin").PngInfo  # noqa: N806

    picture = PngInfo()
    picture.add_text("who", NAME, zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=picture)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.txt", NAME * 9)
    (tmp_path / "c.gz").write_bytes(gzip.compress(NAME.encode() * 9))
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = 1
        file["x"].attrs["who"] = NAME
    (tmp_path / "e.html").write_bytes(
        b"<img src='data:image/png;base64," + base64.b64encode((tmp_path / "a.png").read_bytes())
    )
    (tmp_path / "f.txt").write_bytes(NAME.encode("utf-16-le"))
    (tmp_path / "g.json").write_text(json.dumps({"who": NAME.lower()}))
    for path in sorted(tmp_path.iterdir()):
        assert any(WORDS.search(content) for content in layers(path.read_bytes())), path
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "a.png").write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(AssertionError):
        assert_nobody_is_named(tmp_path / "h")
