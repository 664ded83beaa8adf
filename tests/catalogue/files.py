"""A3: files that are damaged, named otherwise, or not there."""

import gzip
import os
import zlib

import numpy as np

from tests.catalogue.data import FLAIR, DataSet
from tests.catalogue.row import Group, Row

_LARGE = np.random.default_rng(0).integers(0, 30000, (40, 40, 40)).astype(np.int16)


def _cut_gzip(array: np.ndarray, keep: float):
    """Keep a part of a packed file."""

    def make(data: DataSet) -> None:
        data.nifti("flair.nii.gz", array)
        content = data.read("flair.nii.gz")
        data.write("flair.nii.gz", content[: round(len(content) * keep)])

    return make


def _gzip(spoil):
    """Spoil the bytes of a packed file."""

    def make(data: DataSet) -> None:
        data.nifti("flair.nii.gz", FLAIR)
        data.write("flair.nii.gz", spoil(data.read("flair.nii.gz")))

    return make


def _one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


def _plain(spoil):
    def make(data: DataSet) -> None:
        data.write("flair.nii", spoil(data.read("flair.nii")))

    return make


def _renamed(name: str, pack=bytes):
    """Keep the content of the image, under another name."""

    def make(data: DataSet) -> None:
        content = data.read("flair.nii")
        (data.folder / "flair.nii").unlink()
        path = data.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pack(content))
        data.table(flair=name)

    return make


def _instead(name: str, content: bytes):
    """Give another file as the image."""

    def make(data: DataSet) -> None:
        data.write(name, content)
        data.table(flair=name)

    return make


def _pair(*names: str):
    """Split the image into a header and voxels, and keep those of these names."""

    def make(data: DataSet) -> None:
        whole = bytearray(data.read("flair.nii"))
        whole[344:348] = b"ni1\0"
        whole[108:112] = np.zeros(1, "<f4").tobytes()
        for name, content in (("flair.hdr", whole[:348]), ("flair.img", whole[352:])):
            if name in names:
                data.write(name, bytes(content))
        data.table(flair=names[0])

    return make


def _missing(data: DataSet) -> None:
    data.table(flair="nowhere.nii")


def _an_empty_folder(data: DataSet) -> None:
    (data.folder / "folder").mkdir()
    data.table(flair="folder")


def _a_pipe(data: DataSet) -> None:
    os.mkfifo(data.folder / "pipe.nii")
    data.table(flair="pipe.nii")


def _several_faults(data: DataSet) -> None:
    rows = [data.row, data.row, {**data.row, "id": "two", "t1": ""}]
    data.rows(*rows, {**data.row, "id": "three", "flair": "nowhere.nii"})


def _a_file_as_the_output(data: DataSet) -> None:
    data.out.write_bytes(b"")


def _nrrd_cut(data: DataSet) -> None:
    header = (
        "NRRD0005\ntype: int16\ndimension: 3\nspace: LPS\nsizes: 12 10 8\nendian: little\n"
        "space directions: (1,0,0) (0,1,0) (0,0,2)\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    data.write("flair.nrrd", header.encode() + FLAIR.tobytes(order="F")[:-9])


def _mha_cut(data: DataSet) -> None:
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "CompressedData = True\nCompressedDataSize = 500\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
        "Offset = 0 0 0\nElementSpacing = 1 1 2\nDimSize = 12 10 8\nElementType = MET_SHORT\n"
        "ElementDataFile = LOCAL\n"
    )
    packed = zlib.compress(FLAIR.tobytes(order="F"))
    data.write("flair.mha", header.encode() + packed[:500])


_PAGE = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n" * 9
ROWS = (
    Row("F1", "half of a large .nii.gz", _cut_gzip(_LARGE, 0.5), "?"),
    Row("F2", "half of a small .nii.gz", _cut_gzip(FLAIR, 0.5), "?"),
    Row("F2 start", "the first bytes of a .nii.gz", _cut_gzip(FLAIR, 0.02), "?"),
    Row("F3 lost", "a .nii.gz without its checksum", _gzip(lambda content: content[:-8]), "?"),
    Row("F3 wrong", "a .nii.gz with another checksum",
        _gzip(lambda content: content[:-8] + bytes(4) + content[-4:]), "?"),
    Row("F3 bit", "one bit of a .nii.gz turned over", _gzip(_one_bit), "?"),
    Row("F4", "half of a .nii", _plain(lambda content: content[: len(content) // 2]), "?"),
    Row("F4 header", "the header of a .nii alone", _plain(lambda content: content[:352]), "?"),
    Row("F4 NRRD", "an NRRD, cut at its end", _nrrd_cut, "?", needs=("SimpleITK",)),
    Row("F4 MetaImage", "a packed MetaImage, cut at its end", _mha_cut, "?", needs=("SimpleITK",)),
    Row("F5", "an empty file", _plain(lambda content: b""), "?"),
    Row("F6", "a plain NIfTI named .nii.gz", _renamed("plain.nii.gz"), said="?"),
    Row("F7", "a packed NIfTI named .nii", _renamed("packed.nii", gzip.compress), said="?"),
    Row("F8 page", "a web page named .nii.gz", _instead("page.nii.gz", _PAGE), "?"),
    Row("F8 text", "a text without a suffix", _instead("notes", b"to be done\n" * 40), "?"),
    Row("F9", "a name in capitals", _renamed("FLAIR.NII.GZ", gzip.compress)),
    Row("F10", "a name with spaces, accents and #", _renamed("ünï codé/flair #1 (b).nii")),
    Row("F11 .img", "the voxels of a pair without their header", _pair("flair.img"), "?"),
    Row("F11 .hdr", "the header of a pair without its voxels", _pair("flair.hdr"), "?"),
    Row("F11 both", "a pair", _pair("flair.hdr", "flair.img")),
    Row("F13 missing", "a file that is not there", _missing, "?"),
    Row("F13 folder", "an empty folder", _an_empty_folder, "?", needs=("pydicom",)),
    Row("F13 pipe", "a named pipe, which would block", _a_pipe, "?"),
    Row("F14", "an id twice, an empty cell and a missing file in one table", _several_faults, "?"),
    Row("F15", "an output that cannot be written", _a_file_as_the_output, "?"),
    Row("F15 predict", "the same, of `predict`", _a_file_as_the_output, "?", predict=True),
)  # fmt: skip
FILES = Group("Files", "", ROWS)
