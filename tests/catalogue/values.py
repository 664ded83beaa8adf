"""A2: axes, types and values."""

import gzip

import nibabel as nib
import numpy as np

from tests.catalogue.data import AFFINE, FLAIR, LABEL, T1, DataSet

DIM, TYPE, SLOPE, OFFSET, MAGIC = 40, 70, 112, 108, 344  # bytes of NIfTI-1 headers


def flair(array: np.ndarray, name: str = "flair.nii", **fields):
    """Give an image with other voxels or header fields."""

    def make(data: DataSet) -> None:
        data.nifti(name, array, **fields)

    return make


def label(array: np.ndarray):
    def make(data: DataSet) -> None:
        data.nifti("label.nii", array)

    return make


def patched(offset: int, kind: str, *values: float):
    def make(data: DataSet) -> None:
        data.patch("flair.nii", offset, kind, *values)

    return make


def with_cells(make, **cells: str):
    def told(data: DataSet) -> None:
        make(data)
        data.table(**cells)

    return told


def spoilt(value: float) -> np.ndarray:
    array = FLAIR.astype(np.float32)
    array[1, 2, 3:5] = value
    return array


def nan_in_nrrd(data: DataSet) -> None:
    data.nrrd(spoilt(np.nan))


def bomb(data: DataSet) -> None:
    data.nifti("flair.nii.gz", FLAIR)
    content = bytearray(gzip.decompress(data.read("flair.nii.gz")))
    content[42:48] = np.array([32767] * 3, "<i2").tobytes()
    data.write("flair.nii.gz", gzip.compress(bytes(content), 0, mtime=0))


def nine_axes_of_nifti_2(data: DataSet) -> None:
    data.nifti("flair.nii", FLAIR, kind=nib.Nifti2Image)
    data.patch("flair.nii", 16, "q", 9)


def other_byte_order(data: DataSet) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    data.write("flair.nii", nib.Nifti1Image(FLAIR, AFFINE, header).to_bytes())


def scaled(data: DataSet) -> None:
    data.patch("flair.nii", SLOPE, "ff", 0.5, -3.0)


def as_floats(data: DataSet) -> None:
    data.nifti("flair.nii", FLAIR.astype(np.float32) / 2 - 3)


def plain_labels(data: DataSet) -> None:
    """Look at the header of a segmentation: bytes, no scaling, no text."""
    header = nib.load(data.out / "one.nii.gz").header
    assert header.get_data_dtype() == np.uint8
    assert header.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert not bytes(header["descrip"]).strip(b"\0")


def with_value(*values: int) -> np.ndarray:
    label = LABEL.astype(np.int16)
    label[0, 0, : len(values)] = values
    return label


TWO = np.stack([T1, FLAIR], axis=-1)
COLOURS = np.zeros(FLAIR.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
CONSTANT = np.full_like(FLAIR, 7)
