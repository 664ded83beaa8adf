"""A2: axes, types and values."""

import nibabel as nib
import numpy as np

from tests.catalogue import values
from tests.catalogue.data import FLAIR, LABEL
from tests.catalogue.row import Group, Row

ROWS = (
    Row("D1", "four axes, the last of one volume", values.flair(FLAIR[..., None]),
        said="note: flair: has 4 axes, of which the last are single; read as 3"),
    Row("D2", "two volumes in one file", values.flair(values.TWO),
        refused="{folder}/flair.nii: has shape (12, 10, 8, 2); expected three axes; name one of "
        "its 2 volumes, from 0, in the column <modality>_volume of a dataset table, or split the "
        "file"),
    Row("D2 asked", "the same, with 1 in the column `flair_volume`",
        values.with_cells(values.flair(values.TWO), flair_volume="1"),
        result="read, the volume that was named"),
    Row("D2 label", "a label map of a volume for each class",
        values.label(np.stack([n == LABEL for n in (1, 2, 4)], -1).astype(np.uint8)),
        refused="{folder}/label.nii: has shape (12, 10, 8, 3); expected a label map of three "
        "axes; join its volumes into one, with a value for each class"),
    Row("D3", "two axes", values.flair(FLAIR[..., 0]),
        refused="{folder}/flair.nii: has shape (12, 10); expected three axes; choose another file"),
    Row("D4 colours", "colours (RGB24)", values.flair(values.COLOURS),
        refused="{folder}/flair.nii: voxels are colours; expected plain numbers, neither colours "
        "nor complex ones; export intensities"),
    Row("D4 complex", "complex numbers", values.flair(FLAIR.astype(np.complex64)),
        refused="{folder}/flair.nii: voxels are complex64; expected plain numbers, neither "
        "colours nor complex ones; export intensities"),
    Row("D4 quadruple", "floats of 128 bits", values.patched(values.TYPE, "hh", 1536, 128),
        refused="{folder}/flair.nii: voxels are floats of 128 bits; expected numbers of 8 to 64 "
        "bits; convert it, to float32 for one"),
    Row("D4 bits", "single bits", values.patched(values.TYPE, "hh", 1, 1),
        refused="{folder}/flair.nii: voxels are single bits; expected numbers of 8 to 64 bits; "
        "convert it, to float32 for one"),
    Row("D4 surfaces", "CIFTI, whose values are not of voxels alone",
        values.flair(FLAIR, intent_code=3006),
        refused="{folder}/flair.nii: holds values on surfaces (CIFTI); expected a volume; export "
        "its volume, for one with wb_command -cifti-separate"),
    Row("D4 classes", "an image whose header says that it is a label map",
        values.flair(FLAIR, intent_code=1002),
        said="note: flair: header says that it is a label map; read as an image"),
    Row("D5 no axes", "a header of 0 axes", values.patched(values.DIM, "h", 0),
        refused="{folder}/flair.nii: header says 0 axes; expected 1 to 7; export it again"),
    Row("D5 nine", "a header of 9 axes", values.patched(values.DIM, "h", 9),
        refused="{folder}/flair.nii: header says 9 axes; expected 1 to 7; export it again"),
    Row("D5 NIfTI-2", "the same, of NIfTI-2", values.nine_axes_of_nifti_2,
        refused="{folder}/flair.nii: header says 9 axes; expected 1 to 7; export it again"),
    Row("D5 zero", "an axis of 0 voxels", values.patched(values.DIM + 2, "h", 0),
        refused="{folder}/flair.nii: header says (0, 10, 8) voxels; expected at least one per "
        "axis; export it again"),
    Row("D5 negative", "an axis of -5 voxels", values.patched(values.DIM + 2, "h", -5),
        refused="{folder}/flair.nii: header says (-5, 10, 8) voxels; expected at least one per "
        "axis; export it again"),
    Row("D6", "a small gzip file whose header claims 32767 x 32767 x 32767 voxels", values.bomb,
        refused="{folder}/flair.nii.gz: truncated: header promises 70362301923678 bytes, the "
        "file can hold at most 2368440; expected all of them; copy or export it again"),
    Row("D7", "slope 0 and intercept 5", values.patched(values.SLOPE, "ff", 0, 5),
        result="read unscaled"),
    Row("D8 NaN", "a slope of NaN", values.patched(values.SLOPE, "ff", np.nan, 0),
        refused="{folder}/flair.nii: header says slope nan and intercept 0; expected finite "
        "numbers; export it again"),
    Row("D8 infinite", "an infinite slope", values.patched(values.SLOPE, "ff", np.inf, 0),
        refused="{folder}/flair.nii: header says slope inf and intercept 0; expected finite "
        "numbers; export it again"),
    Row("D8 large", "a slope of 1e38", values.patched(values.SLOPE, "ff", 1e38, 0),
        refused="{folder}/flair.nii: 955 voxels are NaN or infinite; expected finite "
        "intensities; give the number that replaces them in the column <modality>_nan of a "
        "dataset table, or replace them in a copy of it"),
    Row("D9", "voxels from byte 0 on, in a file in one piece",
        values.patched(values.OFFSET, "f", 0),
        refused="{folder}/flair.nii: header says that voxels begin at byte 0; expected 352 or "
        "later, behind the header; export it again, or give --repair: it is then read from byte "
        "352",
        repaired="repaired: flair: header says that voxels begin at byte 0; read from byte 352"),
    Row("D9 within", "voxels from byte 64 on, within the header",
        values.patched(values.OFFSET, "f", 64),
        refused="{folder}/flair.nii: damaged NIfTI header (vox offset 64 too low for single file "
        "nifti1); expected one by the standard; export it again"),
    Row("D10", "the other order of bytes", values.other_byte_order),
    Row("D11", "a label map of eight bytes a voxel", values.label(LABEL.astype(np.int64))),
    Row("D11 predict", "images of eight bytes a voxel, segmented",
        values.flair(FLAIR.astype(np.float64)), predict=True,
        result="read; the segmentation has one byte a voxel", check=values.plain_labels),
    Row("D12", "scaled integers (slope 0.5, intercept -3)", values.scaled, like=values.as_floats),
    Row("D12 predict", "the same, segmented", values.scaled, like=values.as_floats, predict=True,
        result="read; nothing of the scaling stands in the segmentation",
        check=values.plain_labels),
    Row("D13 NaN", "NaN in an image", values.flair(values.spoilt(np.nan)),
        refused="{folder}/flair.nii: 2 voxels are NaN or infinite; expected finite intensities; "
        "give the number that replaces them in the column <modality>_nan of a dataset table, or "
        "replace them in a copy of it"),
    Row("D13 infinite", "infinity in an image", values.flair(values.spoilt(np.inf)),
        refused="{folder}/flair.nii: 2 voxels are NaN or infinite; expected finite intensities; "
        "give the number that replaces them in the column <modality>_nan of a dataset table, or "
        "replace them in a copy of it"),
    Row("D13 NRRD", "NaN in an NRRD", values.nan_in_nrrd,
        refused="{folder}/flair.nrrd: 2 voxels are NaN or infinite; expected finite intensities; "
        "give the number that replaces them in the column <modality>_nan of a dataset table, or "
        "replace them in a copy of it"),
    Row("D13 asked", "NaN in an image, with 7 in the column `flair_nan`",
        values.with_cells(values.flair(values.spoilt(np.nan)), flair_nan="7"),
        said="note: 2 voxels of flair were NaN or infinite and were replaced",
        like=values.flair(values.spoilt(7)), result="read with 7 in its place"),
    Row("D13 label", "NaN in a label map",
        values.label(np.where(LABEL == 4, np.nan, LABEL) .astype(np.float32)),
        refused="{folder}/label.nii: the label map holds NaN or infinity; expected whole "
        "numbers; export the labels again"),
    Row("D14", "an image of one value", values.flair(values.CONSTANT),
        refused="{folder}/flair.nii: all voxels of flair have one value; expected a scan; export "
        "it again, or leave the case out"),
    Row("D14 predict", "the same, segmented", values.flair(values.CONSTANT),
        said="warning: all voxels of flair have one value", predict=True, like=None),
    Row("D15", "a label map without a labelled voxel", values.label(np.zeros_like(LABEL)),
        said="warning: its label map is empty; its patches show only background", like=None),
    Row("D16", "values that the config does not name", values.label(values.with_value(9, 7, 7)),
        refused="{folder}/label.nii: holds label values 7, 9 (3 voxels); expected the values "
        "that the config reads, [0, 1, 2, 3, 4]; add them to `read` of the class "
        "that they mean, or to labels.ignore, or mend the file"),
    Row("D16 an image", "an image given as the label map", values.label(FLAIR),
        refused="{folder}/label.nii: holds label values 6, 7, 9, 11, 12 and 605 more (954 "
        "voxels); expected the values that the config reads, [0, 1, 2, 3, 4]; add them to `read` "
        "of the class that they mean, or to labels.ignore, or mend the file"),
    Row("D17", "4 for enhancing tumour, where the config reads 3", values.label(LABEL),
        refused="{folder}/label.nii: holds label values 4 (22 voxels); expected the values that "
        "the config reads, [0, 1, 2, 3]; 4 is enhancing tumour up to BraTS 2022 (use the "
        "brats2020 preset) and a resection cavity in BraTS 2024 (use the brats2024 preset)",
        preset="brats2023"),
    Row("D17 both", "3 and 4 in one file, where either is one class",
        values.label(values.with_value(3)),
        refused="{folder}/label.nii: holds [4, 3], of which either is 'enhancing'; expected "
        "one of them; give each its own class in labels.classes (BraTS 2024 uses 4 for a "
        "resection cavity and 3 for enhancing tumour), or give both to its `read`"),
    Row("D18", "labels that interpolation has touched", values.label(LABEL * np.float32(0.7)),
        refused="{folder}/label.nii: the label map holds 1.4, which is not a whole number (168 "
        "such voxels); expected whole numbers; export the labels again, with nearest-neighbour "
        "interpolation; or give a label map, if this is an image"),
    Row("D18 a hair", "labels that are whole up to rounding",
        values.label(LABEL * np.float32(1.0002))),
    Row("D19", "Analyze 7.5", values.patched(values.MAGIC, "4s", bytes(4)),
        refused="{folder}/flair.nii: not a NIfTI file but Analyze 7.5, which does not say which "
        "side is left; expected NIfTI; export it again from its source"),
    Row("D19 magic", "a magic that is none", values.patched(values.MAGIC, "4s", b"abcd"),
        refused="{folder}/flair.nii: not a NIfTI file; expected NIfTI (.nii, .nii.gz, or .hdr "
        "with .img), NRRD or MetaImage; export the scan as one of them"),
    Row("D20", "NIfTI-2", values.flair(FLAIR, kind=nib.Nifti2Image)),
)  # fmt: skip
VALUES = Group(
    "Axes, types and values",
    "What a header claims is held against the size of its file before any memory is taken.",
    ROWS,
)
