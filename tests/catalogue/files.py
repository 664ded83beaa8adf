"""A3: files that are damaged, named otherwise, or not there."""

import gzip
import os
import zlib

import numpy as np

from tests.catalogue.data import FLAIR, DataSet, Make

LARGE = np.random.default_rng(0).integers(0, 30000, (40, 40, 40)).astype(np.int16)


def cut_gzip(array: np.ndarray, keep: float):
    """Keep a part of a packed file."""

    def make(data: DataSet) -> None:
        data.nifti("flair.nii.gz", array)
        data.nifti("t1.nii", array)
        data.nifti("label.nii", (array % 2).astype(np.uint8))
        content = data.read("flair.nii.gz")
        data.write("flair.nii.gz", content[: round(len(content) * keep)])

    return make


def packed(spoil):
    """Spoil the bytes of a packed file."""

    def make(data: DataSet) -> None:
        data.nifti("flair.nii.gz", FLAIR)
        data.write("flair.nii.gz", spoil(data.read("flair.nii.gz")))

    return make


def wrong_behind_the_voxels(data: DataSet) -> None:
    """Spoil a checksum that comes long after the last voxel: who stops there never sees it."""
    tail = np.random.default_rng(0).bytes(2**21)
    content = gzip.compress(data.read("flair.nii") + tail, 1, mtime=0)
    data.write("flair.nii.gz", content[:-8] + bytes(4) + content[-4:])


def one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


def plain(spoil):
    def make(data: DataSet) -> None:
        data.write("flair.nii", spoil(data.read("flair.nii")))

    return make


def renamed(name: str, pack=bytes):
    """Keep the content of the image, under another name."""

    def make(data: DataSet) -> None:
        content = data.read("flair.nii")
        (data.folder / "flair.nii").unlink()
        path = data.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pack(content))
        data.table(flair=name)

    return make


def instead(name: str, content: bytes):
    """Give another file as the image."""

    def make(data: DataSet) -> None:
        data.write(name, content)
        data.table(flair=name)

    return make


def pair(*names: str):
    """Split the image into a header and voxels, and keep those of these names."""

    def make(data: DataSet) -> None:
        whole = bytearray(data.read("flair.nii"))
        whole[344:348] = b"ni1\0"
        whole[108:112] = np.zeros(1, "<f4").tobytes()
        for name, content in (("flair.hdr", whole[:348]), ("flair.img", whole[352:])):
            if name in names:
                (data.folder / name).write_bytes(content)
        data.table(flair=names[0])

    return make


def missing(data: DataSet) -> None:
    data.table(flair="nowhere.nii")


def an_empty_folder(data: DataSet) -> None:
    (data.folder / "folder").mkdir()
    data.table(flair="folder")


def a_pipe(data: DataSet) -> None:
    os.mkfifo(data.folder / "pipe.nii")
    data.table(flair="pipe.nii")


def several_faults(data: DataSet) -> None:
    rows = [data.row, data.row, {**data.row, "id": "two", "t1": ""}]
    data.rows(*rows, {**data.row, "id": "three", "flair": "nowhere.nii"})


def an_empty_cell(data: DataSet) -> None:
    data.table(t1="")


def a_strange_class(data: DataSet) -> None:
    data.table(label_classes="edema; 7=liver")


def classes_left_out(data: DataSet) -> None:
    data.table(label_classes="edema")


def one_image_as_two(data: DataSet) -> None:
    data.rows({**data.row, "t1": data.row["flair"]})


def one_scan_as_two(data: DataSet) -> None:
    data.rows(data.row, {**data.row, "id": "two"})


def one_key_as_two(data: DataSet) -> None:
    data.write("cases.json", b'[{"id": "one", "flair": "flair.nii", "id": "two"}]')
    data.given = data.folder / "cases.json"


def a_file_as_the_output(data: DataSet) -> None:
    """Put a file where the output goes; that the image is damaged as well would be found later."""
    data.write("flair.nii", b"")
    data.out.write_bytes(b"")


def somebodys_own(*names: str) -> Make:
    """Put other files where outputs go."""

    def make(data: DataSet) -> None:
        for name in names:
            path = data.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"somebody's own")
            data.before.add(path.name)

    return make


def nrrd_cut(data: DataSet) -> None:
    data.nrrd(FLAIR, cut=9)


def mha_cut(data: DataSet) -> None:
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "CompressedData = True\nCompressedDataSize = 500\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
        "Offset = 0 0 0\nElementSpacing = 1 1 2\nDimSize = 12 10 8\nElementType = MET_SHORT\n"
        "ElementDataFile = LOCAL\n"
    )
    packed = zlib.compress(FLAIR.tobytes(order="F"))
    data.write("flair.mha", header.encode() + packed[:500])


PAGE = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n" * 9
