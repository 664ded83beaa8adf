"""A1: where voxels lie."""

import struct

import nibabel as nib
import numpy as np

from tests.catalogue.data import AFFINE, FLAIR, LABEL, SHAPE, T1, DataSet, as_it_is
from tests.catalogue.row import Group, Row

_SFORM, _CODES, _PIXDIM, _QOFFSET = 280, 252, 80, 268  # bytes of NIfTI-1 headers


def _moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def _sheared(amount: float) -> np.ndarray:
    lean = np.eye(4)
    lean[0, 2] = amount
    return AFFINE @ lean


def _tilted() -> np.ndarray:
    c, s = np.cos(0.3), np.sin(0.3)
    return np.array([[c, 0, -s, 10], [0, 1, 0, -20], [s, 0, c, 5], [0, 0, 0, 1.0]]) @ AFFINE


def _everywhere(affine: np.ndarray):
    """Place all files of the case by one affine."""

    def make(data: DataSet) -> None:
        for name, array in (("flair.nii", FLAIR), ("t1.nii", T1), ("label.nii", LABEL)):
            data.nifti(name, array, affine)

    return make


def _turned(data: DataSet) -> None:
    """Keep every voxel at its place, with axes in another order and direction."""
    for name, array in (("flair.nii", FLAIR), ("t1.nii", T1), ("label.nii", LABEL)):
        turn = nib.orientations.axcodes2ornt("PIR")
        image = nib.Nifti1Image(array, AFFINE)
        start = nib.orientations.io_orientation(image.affine)
        turned = image.as_reoriented(nib.orientations.ornt_transform(start, turn))
        data.nifti(name, np.asarray(turned.dataobj), turned.affine)


def _two_places(data: DataSet) -> None:
    data.nifti("flair.nii", FLAIR, qform_code=1, qoffset_x=50)


def _no_orientation(data: DataSet) -> None:
    for name in ("flair.nii", "t1.nii", "label.nii"):
        data.patch(name, _CODES, "hh", 0, 0)


def _as_nibabel_guesses(data: DataSet) -> None:
    affine = nib.Nifti1Image.from_bytes(data.read("flair.nii")).header.get_base_affine()
    _everywhere(affine)(data)


def _nrrd(**fields: str):
    every = {
        "type": "int16",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, SHAPE)),
        "space directions": "(1,0,0) (0,1,0) (0,0,2)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(0,0,0)",
    } | fields

    def make(data: DataSet) -> None:
        lines = "".join(f"{name}: {value}\n" for name, value in every.items() if value)
        voxels = FLAIR.tobytes(order="F")
        data.write("flair.nrrd", b"NRRD0005\n" + lines.encode() + b"\n" + voxels)

    return make


def _flat_sform(data: DataSet) -> None:
    data.patch("flair.nii", _SFORM, "12f", *[0] * 12)


def _sform_of_nan(data: DataSet) -> None:
    data.patch("flair.nii", _SFORM, "4f", *[np.nan] * 4)


def _lean(amount: float):
    def make(data: DataSet) -> None:
        _everywhere(_sheared(amount))(data)

    return make


def _brought_onto_the_first(data: DataSet) -> None:
    data.nifti("t1.nii", T1, _sheared(0.3))
    data.table(t1_resample="yes")


def _other_shape(data: DataSet) -> None:
    data.nifti("t1.nii", T1[:-1])


def _other_place(data: DataSet) -> None:
    data.nifti("t1.nii", T1, _moved(1))


def _a_hair_beside(data: DataSet) -> None:
    data.nifti("t1.nii", T1, _moved(0.02))


def _label_beside(data: DataSet) -> None:
    data.nifti("label.nii", LABEL, _moved(1))


def _pixdim(value: float):
    """Spoil the spacing of the header; the sform says what it was."""

    def make(data: DataSet) -> None:
        data.patch("flair.nii", _PIXDIM + 4, "f", value)

    return make


def _pixdim_alone(data: DataSet) -> None:
    data.patch("flair.nii", _PIXDIM, "f", 0.0)
    data.patch("flair.nii", _CODES, "hh", 1, 0)


def _cut(*box: slice, affine: np.ndarray = AFFINE):
    def make(data: DataSet) -> None:
        for name, array in (("flair.nii", FLAIR), ("t1.nii", T1), ("label.nii", LABEL)):
            data.nifti(name, array[box], affine)

    return make


_MIDDLE = slice(4, 5)
_THICK = np.diag([-1.0, -1.0, 12.0, 1.0])
ROWS = (
    Row("G1", "sform and qform of codes above 0 that place voxels 50 mm apart", _two_places, "?"),
    Row("G2", "the codes of sform and qform both 0", _no_orientation, "?",
        repaired="?", like=_as_nibabel_guesses),
    Row("G2 NRRD", "NRRD with spacings and no space", _nrrd(**{"space": "", "space directions": "",
        "space origin": "", "spacings": "1 1 2"}), "?", repaired="?", needs=("SimpleITK",)),
    Row("G3", "an sform of zeros", _flat_sform, "?"),
    Row("G4", "NaN in the sform", _sform_of_nan, "?"),
    Row("G5", "axes that lean by 0.3 mm per mm (a tilted gantry)", _lean(0.3), "?"),
    Row("G5 a hair", "axes that lean by 0.0005 mm per mm", _lean(0.0005),
        result="read as straight"),
    Row("G5 asked", "one that leans, with `t1_resample` in the table", _brought_onto_the_first,
        result="read, brought onto the grid of the first", like=None, needs=("SimpleITK",)),
    Row("G6", "oblique axes", _everywhere(_tilted())),
    Row("G6 predict", "the same, segmented", _everywhere(_tilted()), predict=True, like=None),
    Row("G7", "axes in another order and direction", _turned),
    Row("G7 predict", "the same, segmented", _turned, predict=True,
        result="read; the segmentation lies on the grid of the file"),
    Row("G8", "modalities of different shapes", _other_shape, "?"),
    Row("G9", "modalities 1 mm apart", _other_place, "?"),
    Row("G9 a hair", "modalities 0.02 mm apart", _a_hair_beside),
    Row("G10", "a label map 1 mm beside its images", _label_beside, "?"),
    Row("G11 zero", "pixdim 0, the sform is good", _pixdim(0), "?", repaired="?"),
    Row("G11 negative", "pixdim -1, the sform is good", _pixdim(-1), "?", repaired="?"),
    Row("G11 NaN", "pixdim NaN, the sform is good", _pixdim(np.nan), "?", repaired="?"),
    Row("G11 alone", "pixdim 0 and no sform", _pixdim_alone, "?"),
    Row("G12 slice", "a volume of one slice", _cut(..., _MIDDLE), like=None),
    Row("G12 thick", "slices 12 mm apart", _cut(..., affine=_THICK)),
    Row("G12 voxel", "a volume of one voxel", _cut(_MIDDLE, _MIDDLE, _MIDDLE), predict=True,
        like=None),
)  # fmt: skip
GEOMETRY = Group("Geometry", "", ROWS)
