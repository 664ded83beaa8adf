"""A1: where voxels lie."""

import numpy as np

from tests.catalogue import geometry
from tests.catalogue.row import Group, Row

ROWS = (
    Row("G1", "sform and qform of codes above 0 that place voxels 50 mm apart", geometry.two_places,
        refused="{folder}/flair.nii: sform and qform place the volume up to 50 mm apart; "
        "expected one place; set the wrong one's code to 0"),
    Row("G2", "the codes of sform and qform both 0", geometry.no_orientation,
        refused="{folder}/flair.nii: header says nothing of orientation: the codes of sform and "
        "qform are both 0; expected a code of 1 or more; export it again with its orientation, "
        "or give --repair: it is then read as LAS, with the spacing of pixdim",
        repaired="repaired: flair: header says nothing of orientation: the codes of sform and "
        "qform are both 0; read as LAS, with the spacing of pixdim",
        like=geometry.as_nibabel_guesses),
    Row("G2 NRRD", "NRRD with spacings and no space", geometry.nrrd_without_space,
        refused="{folder}/flair.nrrd: header says nothing of orientation; expected the space "
        "that its directions are meant in; export it again with its orientation, or give "
        "--repair: it is then read as LPS",
        repaired="repaired: flair: header says nothing of orientation; read as LPS"),
    Row("G3", "an sform of zeros", geometry.flat_sform,
        refused="{folder}/flair.nii: the affine's axes [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, "
        "0.0, 0.0]] do not span a volume; expected three of some length, in different "
        "directions; mend the header"),
    Row("G4", "NaN in the sform", geometry.sform_of_nan,
        refused="{folder}/flair.nii: the affine is [[nan, nan, nan, nan], [0.0, -1.0, 0.0, 0.0], "
        "[0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]]; expected a finite 4 x 4 matrix; mend the "
        "header"),
    Row("G5", "axes that lean by 0.3 mm per mm (a tilted gantry)", geometry.lean(0.3),
        refused="{folder}/flair.nii: two axes stand at 81.5 degrees; expected right angles (the "
        "gantry was tilted?); resample it onto a straight grid first, or onto another modality's "
        "with the dataset table's column <modality>_resample\n"
        "{folder}/t1.nii: two axes stand at 81.5 degrees; expected right angles (the gantry was "
        "tilted?); resample it onto a straight grid first, or onto another modality's with the "
        "dataset table's column <modality>_resample"),
    Row("G5 a hair", "axes that lean by 0.0005 mm per mm", geometry.lean(0.0005),
        result="read as straight"),
    Row("G5 asked", "one that leans, with `t1_resample` in the table",
        geometry.brought_onto_the_first, result="read, brought onto the grid of the first",
        like=None, needs=("SimpleITK",), check=geometry.is_whole),
    Row("G6", "oblique axes", geometry.everywhere(geometry.tilted())),
    Row("G6 predict", "the same, segmented", geometry.everywhere(geometry.tilted()), predict=True,
        result="read; the segmentation lies on the grid of the file"),
    Row("G7", "axes in another order and direction", geometry.turned),
    Row("G7 predict", "the same, segmented", geometry.turned, predict=True,
        result="read; the segmentation lies on the grid of the file"),
    Row("G8", "modalities of different shapes", geometry.other_shape,
        refused="flair and t1 lie on different grids: {folder}/flair.nii has 12x10x8 voxels of "
        "1x1x2 mm, axes LPS from (0, 0, 0) mm, {folder}/t1.nii has 11x10x8 voxels of 1x1x2 mm, "
        "axes LPS from (0, 0, 0) mm; expected one grid; bring t1 onto that of flair with yes in "
        "the column t1_resample of a dataset table, or mend the header"),
    Row("G9", "modalities 1 mm apart", geometry.other_place,
        refused="flair and t1 lie on different grids: {folder}/flair.nii has 12x10x8 voxels of "
        "1x1x2 mm, axes LPS from (0, 0, 0) mm, {folder}/t1.nii has 12x10x8 voxels of 1x1x2 mm, "
        "axes LPS from (1, 0, 0) mm; expected one grid; bring t1 onto that of flair with yes in "
        "the column t1_resample of a dataset table, or mend the header"),
    Row("G9 a hair", "modalities 0.02 mm apart", geometry.a_hair_beside),
    Row("G10", "a label map 1 mm beside its images", geometry.label_beside,
        refused="flair and label lie on different grids: {folder}/flair.nii has 12x10x8 voxels "
        "of 1x1x2 mm, axes LPS from (0, 0, 0) mm, {folder}/label.nii has 12x10x8 voxels of 1x1x2 "
        "mm, axes LPS from (1, 0, 0) mm; expected one grid; bring label onto that of flair with "
        "yes in the column label_resample of a dataset table, or mend the header"),
    Row("G11 zero", "pixdim 0, the sform is good", geometry.pixdim(0),
        refused="{folder}/flair.nii: header says that voxels are [1.0, 0.0, 2.0] mm apart; "
        "expected positive numbers; mend pixdim, or export it again, or give --repair: it is "
        "then taken from the sform",
        repaired="repaired: flair: header says that voxels are [1.0, 0.0, 2.0] mm apart; taken "
        "from the sform"),
    Row("G11 negative", "pixdim -1, the sform is good", geometry.pixdim(-1),
        refused="{folder}/flair.nii: header says that voxels are [1.0, -1.0, 2.0] mm apart; "
        "expected positive numbers; mend pixdim, or export it again, or give --repair: it is "
        "then taken from the sform",
        repaired="repaired: flair: header says that voxels are [1.0, -1.0, 2.0] mm apart; taken "
        "from the sform"),
    Row("G11 NaN", "pixdim NaN, the sform is good", geometry.pixdim(np.nan),
        refused="{folder}/flair.nii: header says that voxels are [1.0, nan, 2.0] mm apart; "
        "expected positive numbers; mend pixdim, or export it again, or give --repair: it is "
        "then taken from the sform",
        repaired="repaired: flair: header says that voxels are [1.0, nan, 2.0] mm apart; taken "
        "from the sform"),
    Row("G11 alone", "pixdim 0 and no sform", geometry.pixdim_alone,
        refused="{folder}/flair.nii: header says that voxels are [0.0, 1.0, 2.0] mm apart; "
        "expected positive numbers; mend pixdim, or export it again"),
    Row("G11 metres", "lengths in metres, as the header says", geometry.in_unit(1, 1000),
        said="note: flair: header gives lengths in metres; voxels are read as 1 to 2 mm apart\n"
        "note: t1: header gives lengths in metres; voxels are read as 1 to 2 mm apart\n"
        "note: label: header gives lengths in metres; voxels are read as 1 to 2 mm apart"),
    Row("G11 micrometres", "lengths in micrometres, as the header says",
        geometry.in_unit(3, 0.001),
        said="note: flair: header gives lengths in micrometres; voxels are read as 1 to 2 mm "
        "apart\nnote: t1: header gives lengths in micrometres; voxels are read as 1 to 2 mm apart"
        "\nnote: label: header gives lengths in micrometres; voxels are read as 1 to 2 mm apart"),
    Row("G11 not metres", "lengths in mm, and a header that says metres", geometry.unit_alone(1),
        refused="{folder}/flair.nii: header says that voxels are 1 to 2 metres apart; expected "
        "distances of a scan; mend xyzt_units, or the lengths, or give --repair: it is then read "
        "as millimetres",
        repaired="repaired: flair: header says that voxels are 1 to 2 metres apart; read as "
        "millimetres"),
    Row("G11 no unit", "lengths in mm, and a header that names no unit", geometry.unit_alone(0)),
    Row("G11 which unit", "lengths in micrometres, and a header that names no unit",
        geometry.in_unit(0, 0.001),
        said="note: flair: header names no unit of length; voxels are 1000 to 2000 apart; read "
        "as mm\n"
        "note: t1: header names no unit of length; voxels are 1000 to 2000 apart; read as mm\n"
        "note: label: header names no unit of length; voxels are 1000 to 2000 apart; read as mm"),
    Row("G11 rounded", "a quaternion whose squares sum to 1.0000005, and no sform",
        geometry.long_quaternion(1 + 5e-7, 0)),
    Row("G11 long", "one whose squares sum to 1.2, and no sform", geometry.long_quaternion(1.2, 0),
        refused="{folder}/flair.nii: qform is not usable (its quaternion has the length 1.09545); "
        "expected a length of at most 1; export it again"),
    Row("G11 long beside", "the same, and the sform is good", geometry.long_quaternion(1.2, 1),
        refused="{folder}/flair.nii: qform is not usable (its quaternion has the length 1.09545); "
        "expected a length of at most 1; export it again, or give --repair: it is then placed by "
        "the sform alone",
        repaired="repaired: flair: qform is not usable (its quaternion has the length 1.09545); "
        "placed by the sform alone"),
    Row("G12 slice", "a volume of one slice", geometry.cut(..., geometry.MIDDLE), like=None,
        check=geometry.is_one_slice),
    Row("G12 thick", "slices 12 mm apart", geometry.cut(..., affine=geometry.THICK)),
    Row("G12 voxel", "a volume of one voxel",
        geometry.cut(geometry.MIDDLE, geometry.MIDDLE, geometry.MIDDLE),
        said="warning: all voxels of flair have one value (and 1 more, in predictions.json)",
        predict=True, like=None),
)  # fmt: skip
GEOMETRY = Group(
    "Geometry",
    "Spacing comes from the affine in use, never from beside it. Grids that differ by less than a "
    "tenth of a voxel at their corners are one.",
    ROWS,
)
