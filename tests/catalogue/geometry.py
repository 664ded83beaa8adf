"""A1: where voxels lie."""

import h5py
import nibabel as nib
import numpy as np

from tests.catalogue.data import AFFINE, FLAIR, LABEL, SHAPE, T1, DataSet

_SFORM, _CODES, _PIXDIM, _QUATERNION = 280, 252, 80, 256  # bytes of NIfTI-1 headers


def _moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def _sheared(amount: float) -> np.ndarray:
    lean = np.eye(4)
    lean[0, 2] = amount
    return AFFINE @ lean


def tilted() -> np.ndarray:
    c, s = np.cos(0.3), np.sin(0.3)
    return np.array([[c, 0, -s, 10], [0, 1, 0, -20], [s, 0, c, 5], [0, 0, 0, 1.0]]) @ AFFINE


def everywhere(affine: np.ndarray):
    """Place all files of the case by one affine."""

    def make(data: DataSet) -> None:
        for name, array in (("flair.nii", FLAIR), ("t1.nii", T1), ("label.nii", LABEL)):
            data.nifti(name, array, affine)

    return make


def turned(data: DataSet) -> None:
    """Keep every voxel at its place, with axes in another order and direction."""
    for name, array in (("flair.nii", FLAIR), ("t1.nii", T1), ("label.nii", LABEL)):
        turn = nib.orientations.axcodes2ornt("PIR")
        image = nib.Nifti1Image(array, AFFINE)
        start = nib.orientations.io_orientation(image.affine)
        turned = image.as_reoriented(nib.orientations.ornt_transform(start, turn))
        data.nifti(name, np.asarray(turned.dataobj), turned.affine)


def in_unit(code: int, size: float):
    """Give all lengths of all files in another unit of `size` mm."""

    def make(data: DataSet) -> None:
        scaled = np.diag([1 / size] * 3 + [1]) @ AFFINE
        for name, array in (("flair.nii", FLAIR), ("t1.nii", T1), ("label.nii", LABEL)):
            data.nifti(name, array, scaled, xyzt_units=code)

    return make


def unit_alone(code: int):
    def make(data: DataSet) -> None:
        data.nifti("flair.nii", FLAIR, xyzt_units=code)

    return make


def long_quaternion(squared: float, sform: int):
    """Turn half round by a quaternion whose length is not 1."""

    def make(data: DataSet) -> None:
        data.patch("flair.nii", _CODES, "hh", 1, sform)
        data.patch("flair.nii", _QUATERNION, "3f", 0, 0, np.sqrt(squared))

    return make


def two_places(data: DataSet) -> None:
    data.nifti("flair.nii", FLAIR, qform_code=1, qoffset_x=50)


def as_nibabel_guesses(data: DataSet) -> None:
    affine = nib.Nifti1Image.from_bytes(data.read("flair.nii")).header.get_base_affine()
    everywhere(affine)(data)


def no_orientation(data: DataSet) -> None:
    as_nibabel_guesses(data)
    data.patch("flair.nii", _CODES, "hh", 0, 0)


def nrrd_without_space(data: DataSet) -> None:
    data.nrrd(FLAIR, space="", space_directions="", space_origin="", spacings="1 1 2")


def flat_sform(data: DataSet) -> None:
    data.patch("flair.nii", _SFORM, "12f", *[0] * 12)


def sform_of_nan(data: DataSet) -> None:
    data.patch("flair.nii", _SFORM, "4f", *[np.nan] * 4)


def lean(amount: float):
    def make(data: DataSet) -> None:
        everywhere(_sheared(amount))(data)

    return make


def brought_onto_the_first(data: DataSet) -> None:
    data.nifti("t1.nii", T1, _sheared(0.3))
    data.table(t1_resample="yes")


def other_shape(data: DataSet) -> None:
    data.nifti("t1.nii", T1[:-1])


def other_place(data: DataSet) -> None:
    data.nifti("t1.nii", T1, _moved(1))


def a_hair_beside(data: DataSet) -> None:
    data.nifti("t1.nii", T1, _moved(0.02))


def label_beside(data: DataSet) -> None:
    data.nifti("label.nii", LABEL, _moved(1))


def pixdim(value: float):
    """Spoil the spacing of the header; the sform says what it was."""

    def make(data: DataSet) -> None:
        data.patch("flair.nii", _PIXDIM + 4, "f", value)

    return make


def pixdim_alone(data: DataSet) -> None:
    data.patch("flair.nii", _PIXDIM, "f", 0.0)
    data.patch("flair.nii", _CODES, "hh", 1, 0)


def cut(*box: slice, affine: np.ndarray = AFFINE):
    def make(data: DataSet) -> None:
        for name, array in (("flair.nii", FLAIR), ("t1.nii", T1), ("label.nii", LABEL)):
            data.nifti(name, array[box], affine)

    return make


MIDDLE = slice(4, 5)
THICK = np.diag([-1.0, -1.0, 12.0, 1.0])


def is_one_slice(data: DataSet) -> None:
    """Look at what is prepared: the slice and no more."""
    assert _prepared(data).shape == (*SHAPE[:2], 1)


def is_whole(data: DataSet) -> None:
    """Look at what is prepared: as many voxels as the first modality has, all of them finite."""
    assert _prepared(data).shape == SHAPE
    assert np.isfinite(_prepared(data)).all()


def _prepared(data: DataSet) -> np.ndarray:
    with h5py.File(data.out / "cases" / "one.h5") as file:
        return np.asarray(file["image/t1"])
