"""A2: axes, types and values."""

import gzip

import nibabel as nib
import numpy as np

from tests.catalogue.data import AFFINE, FLAIR, LABEL, T1, DataSet
from tests.catalogue.row import Group, Row

_DIM, _SLOPE, _OFFSET, _MAGIC = 40, 112, 108, 344  # bytes of NIfTI-1 headers


def _flair(array: np.ndarray, name: str = "flair.nii", **fields):
    """Give an image with other voxels or header fields."""

    def make(data: DataSet) -> None:
        data.nifti(name, array, **fields)

    return make


def _label(array: np.ndarray):
    def make(data: DataSet) -> None:
        data.nifti("label.nii", array)

    return make


def _patched(offset: int, kind: str, *values: float):
    def make(data: DataSet) -> None:
        data.patch("flair.nii", offset, kind, *values)

    return make


def _with_cells(make, **cells: str):
    def told(data: DataSet) -> None:
        make(data)
        data.table(**cells)

    return told


def _spoilt(value: float) -> np.ndarray:
    array = FLAIR.astype(np.float32)
    array[1, 2, 3:5] = value
    return array


def _bomb(data: DataSet) -> None:
    data.nifti("flair.nii.gz", FLAIR)
    content = bytearray(gzip.decompress(data.read("flair.nii.gz")))
    content[42:48] = np.array([32767] * 3, "<i2").tobytes()
    data.write("flair.nii.gz", gzip.compress(bytes(content), mtime=0))


def _other_byte_order(data: DataSet) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    data.write("flair.nii", nib.Nifti1Image(FLAIR, AFFINE, header).to_bytes())


def _scaled(data: DataSet) -> None:
    data.patch("flair.nii", _SLOPE, "ff", 0.5, -3.0)


def _as_floats(data: DataSet) -> None:
    data.nifti("flair.nii", FLAIR.astype(np.float32) / 2 - 3)


def _plain_labels(data: DataSet) -> None:
    """Look at the header of a segmentation: bytes, no scaling, no text."""
    header = nib.load(data.out / "one.nii.gz").header
    assert header.get_data_dtype() == np.uint8
    assert header.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert not bytes(header["descrip"]).strip(b"\0")


def _with_value(*values: int) -> np.ndarray:
    label = LABEL.astype(np.int16)
    label[0, 0, : len(values)] = values
    return label


_TWO = np.stack([T1, FLAIR], axis=-1)
_COLOURS = np.zeros(FLAIR.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
_CONSTANT = np.full_like(FLAIR, 7)
ROWS = (
    Row("D1", "four axes, the last of one volume", _flair(FLAIR[..., None]), said="?"),
    Row("D2", "two volumes in one file", _flair(_TWO), "?"),
    Row("D2 asked", "the same, with 1 in the column `flair_volume`",
        _with_cells(_flair(_TWO), flair_volume="1"), result="read, the volume that was named"),
    Row("D3", "two axes", _flair(FLAIR[..., 0]), "?"),
    Row("D4 colours", "colours (RGB24)", _flair(_COLOURS), "?"),
    Row("D4 complex", "complex numbers", _flair(FLAIR.astype(np.complex64)), "?"),
    Row("D5 no axes", "a header of 0 axes", _patched(_DIM, "h", 0), "?"),
    Row("D5 nine", "a header of 9 axes", _patched(_DIM, "h", 9), "?"),
    Row("D5 zero", "an axis of 0 voxels", _patched(_DIM + 2, "h", 0), "?"),
    Row("D5 negative", "an axis of -5 voxels", _patched(_DIM + 2, "h", -5), "?"),
    Row("D6", "a small gzip file whose header claims 32767 x 32767 x 32767 voxels", _bomb, "?"),
    Row("D7", "slope 0 and intercept 5", _patched(_SLOPE, "ff", 0, 5), result="read unscaled"),
    Row("D8 NaN", "a slope of NaN", _patched(_SLOPE, "ff", np.nan, 0), "?"),
    Row("D8 infinite", "an infinite slope", _patched(_SLOPE, "ff", np.inf, 0), "?"),
    Row("D8 large", "a slope of 1e38", _patched(_SLOPE, "ff", 1e38, 0), "?"),
    Row("D9", "voxels from byte 0 on, in a file in one piece", _patched(_OFFSET, "f", 0), "?",
        repaired="?"),
    Row("D9 within", "voxels from byte 64 on, within the header", _patched(_OFFSET, "f", 64), "?"),
    Row("D10", "the other order of bytes", _other_byte_order),
    Row("D11", "a label map of eight bytes a voxel", _label(LABEL.astype(np.int64))),
    Row("D11 predict", "images of eight bytes a voxel, segmented", _flair(FLAIR.astype(np.float64)),
        predict=True, result="read; the segmentation has one byte a voxel", check=_plain_labels),
    Row("D12", "scaled integers (slope 0.5, intercept -3)", _scaled, like=_as_floats),
    Row("D12 predict", "the same, segmented", _scaled, like=_as_floats, predict=True,
        result="read; nothing of the scaling stands in the segmentation", check=_plain_labels),
    Row("D13 NaN", "NaN in an image", _flair(_spoilt(np.nan)), "?"),
    Row("D13 infinite", "infinity in an image", _flair(_spoilt(np.inf)), "?"),
    Row("D13 asked", "NaN in an image, with 7 in the column `flair_nan`",
        _with_cells(_flair(_spoilt(np.nan)), flair_nan="7"), said="?", like=_flair(_spoilt(7)),
        result="read with 7 in its place"),
    Row("D13 label", "NaN in a label map", _label(np.where(LABEL == 4, np.nan, LABEL)
        .astype(np.float32)), "?"),
    Row("D14", "an image of one value", _flair(_CONSTANT), "?"),
    Row("D14 predict", "the same, segmented", _flair(_CONSTANT), said="?", predict=True, like=None),
    Row("D15", "a label map without a labelled voxel", _label(np.zeros_like(LABEL)), said="?",
        like=None),
    Row("D16", "values that the config does not name", _label(_with_value(9, 7, 7)), "?"),
    Row("D16 an image", "an image given as the label map", _label(FLAIR), "?"),
    Row("D17", "4 for enhancing tumour, where the config reads 3", _label(LABEL), "?",
        preset="brats2023"),
    Row("D17 both", "3 and 4 in one file, where both are read as one class",
        _label(_with_value(3)), "?"),
    Row("D18", "labels that interpolation has touched", _label(LABEL * np.float32(0.7)), "?"),
    Row("D18 a hair", "labels that are whole up to rounding", _label(LABEL * np.float32(1.0002))),
    Row("D19", "Analyze 7.5", _patched(_MAGIC, "4s", bytes(4)), "?"),
    Row("D19 magic", "a magic that is none", _patched(_MAGIC, "4s", b"abcd"), "?"),
    Row("D20", "NIfTI-2", _flair(FLAIR, kind=nib.Nifti2Image)),
)  # fmt: skip
VALUES = Group("Axes, types and values", "", ROWS)
