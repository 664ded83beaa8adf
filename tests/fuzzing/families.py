"""The families that are fuzzed, each made when it is needed: not everybody has every extra."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.fuzzing.checkpoint_fields import set_member
from tests.fuzzing.checkpoint_samples import adopt, checkpoint_samples
from tests.fuzzing.dicom_elements import set_element
from tests.fuzzing.dicom_samples import LABELS, seg_samples, series_samples
from tests.fuzzing.message_fields import set_manifest_value, set_onnx_field, set_value
from tests.fuzzing.model_samples import model_samples, segment
from tests.fuzzing.mutations import BYTES, TEXT
from tests.fuzzing.nifti_fields import set_field
from tests.fuzzing.promise import BrokenPromise, read_both_ways
from tests.fuzzing.record_samples import record_samples, use
from tests.fuzzing.sample import Family
from tests.fuzzing.samples import metaimage_samples, nifti_samples, nrrd_samples
from vol3dseg.formats import open_volume
from vol3dseg.formats.dicom.dicom_volume import DicomVolume
from vol3dseg.formats.dicom.seg_reading import read_seg
from vol3dseg.space.geometry import Geometry

_read_file = partial(read_both_ways, open_volume)
_read_series = partial(read_both_ways, DicomVolume)


def _nifti() -> Family:
    return Family("nifti", nifti_samples(), _read_file, (*BYTES, *(set_field,) * len(BYTES)))


def _nrrd() -> Family:
    return Family("nrrd", nrrd_samples(), _read_file, (*BYTES, *TEXT * 2))


def _metaimage() -> Family:
    return Family("mha", metaimage_samples(), _read_file, (*BYTES, *TEXT * 2))


def _dicom() -> Family:
    mutations = (*BYTES, *(set_element,) * len(BYTES))
    return Family("dicom", series_samples(), _read_series, mutations)


def _seg() -> Family:
    grid = Geometry((4, 5, 6), [[-1.5, 0, 0, 10], [0, -0.5, 0, -20], [0, 0, 2.5, 0], [0, 0, 0, 1]])

    def read(path: Path) -> None:
        found = read_seg(path, LABELS, grid)
        if found.array.shape != grid.shape or found.array.max() >= len(LABELS.classes):
            raise BrokenPromise(f"segmentation of {found.array.shape}, up to {found.array.max()}")

    return Family("seg", seg_samples(), read, (*BYTES, *(set_element,) * len(BYTES)))


def _model() -> Family:
    fields = (set_onnx_field,) * len(BYTES) * 2 + (set_manifest_value,) * len(BYTES)
    return Family("onnx", model_samples(), segment, (*BYTES, *fields))


def _records() -> Family:
    return Family("records", record_samples(), use, (*BYTES, *TEXT, *(set_value,) * 3 * len(BYTES)))


def _checkpoints() -> Family:
    return Family("pth", checkpoint_samples(), adopt, (*BYTES, *(set_member,) * 9 * len(BYTES)))


# How many of 148 files: NIfTI and DICOM are what archives hold.
SHARES = {
    **{"nifti": 40, "dicom": 35, "seg": 9, "nrrd": 8, "mha": 8},
    **{"onnx": 20, "records": 20, "pth": 8},
}
FAMILIES: dict[str, Callable[[], Family]] = {
    "nifti": _nifti,
    "dicom": _dicom,
    "seg": _seg,
    "nrrd": _nrrd,
    "mha": _metaimage,
    "onnx": _model,
    "records": _records,
    "pth": _checkpoints,
}
