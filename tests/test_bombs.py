"""Small files that would unpack to more than anything can take are refused before they do."""

import gzip
import zlib

import nibabel as nib
import numpy as np
import pytest

from vol3dseg.errors import FileFormatError, MemoryLimitError
from vol3dseg.formats import limits, open_labels, open_volume, read_image
from vol3dseg.formats.dicom.dicom_volume import DicomVolume
from vol3dseg.formats.image_file import ImageFile

pytestmark = pytest.mark.hostile

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
ZEROS = bytes(2**22)  # and no more than a quarter of it may stand beside voxels, here


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    for module in ("limits", "image_file", "nifti.nifti_header"):
        monkeypatch.setattr(f"vol3dseg.formats.{module}.MOST_BESIDE", 2**20)


def nifti(**fields):
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header.set_slope_inter(1, 0)
    for name, value in fields.items():
        image.header[name] = value
    return image


def behind_a_nifti(folder):
    path = folder / "x.nii.gz"
    path.write_bytes(gzip.compress(nifti().to_bytes() + ZEROS))
    return path


def before_its_voxels(folder):
    path = folder / "x.nii.gz"
    header = nifti(vox_offset=2**22).header.binaryblock
    path.write_bytes(gzip.compress(header + ZEROS + VOXELS.tobytes()))
    return path


def behind_the_header_of_a_pair(folder):
    nib.save(nib.Nifti1Pair(VOXELS, np.eye(4)), folder / "x.img")
    header = folder / "x.hdr"
    (folder / "x.hdr.gz").write_bytes(gzip.compress(header.read_bytes() + ZEROS))
    header.unlink()
    return folder / "x.hdr.gz"


def behind_an_nrrd(folder):
    path = folder / "x.nrrd"
    path.write_bytes(
        b"NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 3 4 5\n"
        b"space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: gzip\n\n"
        + gzip.compress(VOXELS.tobytes() + ZEROS)
    )
    return path


def behind_a_metaimage(folder):
    packed = zlib.compress(VOXELS.tobytes() + ZEROS)
    (folder / "x.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\n"
        b"CompressedDataSize = %d\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nDimSize = 3 4 5\n"
        b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n" % len(packed) + packed
    )
    return folder / "x.mha"


@pytest.mark.parametrize(
    "make",
    [
        behind_a_nifti,
        before_its_voxels,
        behind_the_header_of_a_pair,
        behind_an_nrrd,
        behind_a_metaimage,
    ],
)
def test_what_stands_beside_voxels_is_bounded(tmp_path, make):
    path = make(tmp_path)
    assert path.stat().st_size < len(ZEROS) / 100
    with pytest.raises(FileFormatError, match=r"has more than 1 MB; expected at most that"):
        read_image(path)


@pytest.mark.parametrize("kind", ["NIfTI", "NRRD"])
def test_gigabytes_of_nothing_are_refused_by_their_header(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(limits, "_LARGE", 2**21)
    path = behind_an_nrrd(tmp_path)
    content = path.read_bytes().replace(b"sizes: 3 4 5", b"sizes: 64 128 255")
    if kind == "NIfTI":
        header = nifti(vox_offset=352).header
        header.set_data_shape((64, 128, 255))
        path, content = tmp_path / "x.nii.gz", gzip.compress(header.binaryblock + ZEROS)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"promises 3 MB, \d+ times the compressed file; exp"):
        open_volume(path)


def test_what_memory_cannot_take_is_refused_by_its_header(tmp_path, monkeypatch, dicom_slice):
    monkeypatch.setattr(limits, "_SMALL", 0)
    monkeypatch.setattr(limits, "available_mb", lambda: 0.9)
    monkeypatch.setattr(ImageFile, "_voxels", None)
    path = tmp_path / "x.nii"
    path.write_bytes(nib.Nifti1Image(np.zeros((512, 512, 1), np.int16), np.eye(4)).to_bytes())
    for read in (lambda: open_volume(path).geometry(), lambda: open_labels(path).geometry()):
        with pytest.raises(MemoryLimitError) as caught:
            read()
        assert str(caught.value) == (
            f"{path}: its (512, 512, 1) voxels do not fit into memory: they take 1 MB, and 1 MB "
            "are free; crop the file, or use a machine with more"
        )
    (tmp_path / "series").mkdir()
    one = dicom_slice(np.zeros((512, 512), np.int16))
    one.save_as(tmp_path / "series/1.dcm", enforce_file_format=True)
    with pytest.raises(MemoryLimitError, match=r"its \(512, 512\) voxels do not fit into memory"):
        DicomVolume(tmp_path / "series")
