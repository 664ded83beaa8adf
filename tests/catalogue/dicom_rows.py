"""A4: DICOM series."""

from dataclasses import replace

from tests.catalogue import dicom, dicom_files, geometry
from tests.catalogue.row import Group, Row

ROWS = (
    Row("DICOM gap", "a slice is missing", dicom.series(dicom.drop_one),
        refused="{folder}/flair: series 7: slices are missing between 2.dcm at 2 mm and 3.dcm at "
        "6 mm along the normal; expected one every 2 mm; copy or export the series again"),
    Row("DICOM duplicate", "two slices at one position", dicom.series(dicom.repeat),
        refused="{folder}/flair: series 7: 2.dcm and 9.dcm lie at the same position, 2 mm along "
        "the normal (1 of 8 positions hold several slices); expected one slice at each; move "
        "the duplicates to another folder"),
    Row("DICOM copy", "a slice twice, the same in every byte", dicom.series(dicom.repeat_alike),
        refused="{folder}/flair: series 7: holds copies of slices: 9.dcm of 2.dcm; expected each "
        "slice once; move the copies to another folder, or give --repair: it is then read "
        "without them",
        repaired="repaired: flair: holds copies of slices: 9.dcm of 2.dcm; read without them"),
    Row("DICOM copies", "every slice twice, the same in every byte", dicom.series(dicom.repeat_all),
        refused="{folder}/flair: series 7: holds copies of slices: 2.dcm of 10.dcm, 3.dcm of "
        "11.dcm, 4.dcm of 12.dcm, 5.dcm of 13.dcm, 6.dcm of 14.dcm and 3 more; expected each "
        "slice once; move the copies to another folder, or give --repair: it is then read "
        "without them",
        repaired="repaired: flair: holds copies of slices: 2.dcm of 10.dcm, 3.dcm of 11.dcm, "
        "4.dcm of 12.dcm, 5.dcm of 13.dcm, 6.dcm of 14.dcm and 3 more; read without them"),
    Row("DICOM same UID", "two slices with one SOP Instance UID and other voxels",
        dicom.series(dicom.repeat_uid),
        refused="{folder}/flair: series 7: 2.dcm and 9.dcm lie at the same position, 2 mm along "
        "the normal (1 of 8 positions hold several slices); expected one slice at each; move "
        "the duplicates to another folder"),
    Row("DICOM tilt", "a tilted gantry", dicom.series(dicom.tilt),
        refused="{folder}/flair: two axes stand at 76.0 degrees; expected right angles (the "
        "gantry was tilted?); resample it onto a straight grid first, or onto another modality's "
        "with the dataset table's column <modality>_resample"),
    Row("DICOM tilt asked", "the same as the second modality, with `t1_resample` in the table",
        dicom.tilted_second, result="read, brought onto the grid of the first", like=None,
        needs=("SimpleITK",), check=geometry.is_whole),
    Row("DICOM tilt a hair", "positions that lean by 0.0005 mm per mm",
        dicom.series(dicom.tilt_a_hair),
        said="note: flair: slices lean by 0.0005 mm per mm; read as straight"),
    Row("DICOM beside", "a slice that lies beside the others", dicom.series(dicom.beside),
        refused="{folder}/flair: series 7: 3.dcm lies 0.5 mm to the side of the others; expected "
        "slices in one line; export the series again"),
    Row("DICOM localizer", "a localizer among the slices", dicom.series(dicom.localizer),
        refused="{folder}/flair: series 7: slices have several orientations: 7 like 2.dcm, but "
        "not 1.dcm; expected one; move the localizer to another folder"),
    Row("DICOM order", "files in another order than slices", dicom.series(dicom.backwards)),
    Row("DICOM predict", "a series, segmented", dicom.series(), predict=True,
        result="read; the segmentation lies on the grid of the series"),
    Row("DICOM uneven", "slices at uneven distances", dicom.series(dicom.uneven),
        refused="{folder}/flair: series 7: slices lie 1.4 to 2.6 mm apart; expected even "
        "spacing; resample the series, or move the odd slices to another folder"),
    Row("DICOM truncated", "voxels of a file cut short", dicom_files.cut,
        refused="{folder}/flair/3.dcm: truncated: 24 bytes of its voxels are missing; expected "
        "all of them; copy or export it again"),
    Row("DICOM same place", "all slices at the same position", dicom.series(dicom.same_place),
        refused="{folder}/flair: series 7: all 8 slices lie at the same position; expected a "
        "stack of slices; export the series again with the position of each"),
    Row("DICOM no place", "a slice without a position", dicom.series(dicom.no_place),
        refused="{folder}/flair/2.dcm: has no ImagePositionPatient; expected the place of every "
        "slice; export the series again"),
    Row("DICOM place of NaN", "a position that is no number", dicom.series(dicom.place_of_nan),
        refused="{folder}/flair/2.dcm: ImagePositionPatient is not usable; expected 3 finite "
        "numbers; export the series again"),
    Row("DICOM crooked", "directions of rows and columns that stand aslant",
        dicom.series(dicom.crooked),
        refused="{folder}/flair/1.dcm: ImageOrientationPatient is not usable; expected two "
        "perpendicular directions of length 1; export the series again"),
    Row("DICOM references", "a slice of another frame of reference",
        dicom.series(dicom.two_references),
        refused="{folder}/flair: series 7: slices have several frames of reference: 7 like "
        "2.dcm, but not 1.dcm; expected one; choose the slices of one, since places of different "
        "ones cannot be compared"),
    Row("DICOM two echoes", "two volumes in one series", dicom.series(dicom.two_echoes),
        refused="{folder}/flair: series 7: holds 2 volumes of 8 slices at the same positions, "
        "told apart by echo time (12, 80.5); expected one volume; put the files of one of them "
        "into a folder of their own"),
    Row("DICOM interleaved", "T1 and T2 in turn, at positions of their own, in one series",
        dicom.series(dicom.interleaved),
        refused="{folder}/flair: series 7: holds several acquisitions, which differ in series "
        "description, echo time (12, 90), repetition time (500, 4000): 4 like 1.dcm, but not "
        "2.dcm, 4.dcm, 6.dcm, 8.dcm; expected one; put the files of one of them into a folder of "
        "their own; series description: 'T1 axial', 'T2 axial'"),
    Row("DICOM two alike", "two volumes in one series, which nothing but voxels tells apart",
        dicom.series(dicom.repeat_all_places),
        refused="{folder}/flair: series 7: holds 2 volumes of 8 slices at the same positions, "
        "told apart by nothing that is known here; expected one volume; put the files of one of "
        "them into a folder of their own"),
    Row("DICOM two series", "two series in the folder", dicom.two_series,
        refused="{folder}/scans: holds 2 series; expected one; name it by UID, number or a "
        "pattern of its description in the column <modality>_series or label_series of a dataset "
        "table; there are 7 'T1 axial' (MR, 8 images, UID 1.2.3.4); 8 'T2 [fs]' (MR, 8 images, "
        "UID 1.2.3.8)"),
    Row("DICOM chosen", "the same, with `T1*` in the column `flair_series`", dicom.chosen,
        result="read, the series that was named"),
    Row("DICOM one slice", "one slice", dicom.one_slice,
        said="note: flair: holds one slice; read as 2 mm thick", like=dicom.slice_of_all),
    Row("DICOM slopes", "slope and intercept that differ from slice to slice",
        dicom.series(dicom_files.slopes), result="read, each slice with its own"),
    Row("DICOM slope 0", "a slope of 0", dicom.series(dicom_files.slope_of_zero),
        refused="{folder}/flair/1.dcm: slope 0 and intercept 0 cannot be applied; expected "
        "finite numbers, and a slope other than 0; export it again"),
    Row("DICOM slope NaN", "a slope that is no number", dicom.series(dicom_files.slope_of_nan),
        refused="{folder}/flair/1.dcm: slope nan and intercept 0 cannot be applied; expected "
        "finite numbers, and a slope other than 0; export it again"),
    Row("DICOM slope large", "a slope of 1e38", dicom.series(dicom_files.large_slope),
        refused="{folder}/flair/1.dcm: 119 voxels are NaN or infinite; expected finite "
        "intensities; replace them in a copy of the file"),
    Row("DICOM junk", "an empty file and a text among the slices", dicom_files.with_junk,
        said="note: flair: beside the slices: 2 other files; passed over"),
    Row("DICOM junk predict", "the same, segmented", dicom_files.with_junk, predict=True,
        said="note: flair: beside the slices: 2 other files; passed over"),
    Row("DICOM nothing", "a folder with nothing else", dicom_files.nothing_but_junk,
        refused="{folder}/flair: holds no DICOM images, but 2 other files; expected a series; "
        "name a folder with one"),
    Row("DICOM no preamble", "files that begin with their elements, without DICM",
        dicom_files.without_preamble(*[f"{n}.dcm" for n in range(1, 9)]),
        refused="{folder}/flair/1.dcm: is DICOM without its preamble; expected 128 bytes and the "
        "letters DICM at its start; write it again, as dcmconv of DCMTK does, or convert its "
        "series to NIfTI, as dcm2niix does"),
    Row("DICOM one without", "the same, of the last slice alone",
        dicom_files.without_preamble("8.dcm"),
        refused="{folder}/flair/8.dcm: is DICOM without its preamble; expected 128 bytes and the "
        "letters DICM at its start; write it again, as dcmconv of DCMTK does, or convert its "
        "series to NIfTI, as dcm2niix does"),
    Row("DICOM lost", "an empty file, named as a slice", dicom_files.lost_slice,
        refused="{folder}/flair/8.dcm: the file is empty; expected an image; copy or export it "
        "again"),
    Row("DICOM contours", "an RTSTRUCT as the label map", dicom_files.contours,
        refused="{folder}/contours.dcm: holds no DICOM images, but 1 other file (1 RT Structure "
        "Set); expected a series; convert its contours to DICOM-SEG or NIfTI, as 3D Slicer does"),
    Row("DICOM other size", "a slice of another size", dicom.series(dicom.other_size),
        refused="{folder}/flair: series 7: slices have several sizes: 7 like 1.dcm, but not "
        "4.dcm; expected one; move the odd ones to another folder"),
    Row("DICOM other spacing", "a slice of another spacing", dicom.series(dicom.other_spacing),
        refused="{folder}/flair: series 7: slices have several spacings: 7 like 1.dcm, but not "
        "4.dcm; expected one; move the odd ones to another folder"),
    Row("DICOM no spacing", "a spacing of 0", dicom.series(dicom.flat_spacing),
        refused="{folder}/flair/1.dcm: PixelSpacing is (0.0, 1.0); expected lengths above 0; "
        "export the series again"),
    Row("DICOM lying", "60000 rows and columns, with 240 bytes of voxels",
        dicom.series(dicom_files.lying_rows),
        refused="{folder}/flair/1.dcm: truncated: header promises 7200000000 bytes of voxels, "
        "the file can hold at most 876; expected all of them; copy or export it again"),
    Row("DICOM no rows", "an image without rows", dicom.series(dicom_files.no_rows),
        refused="{folder}/flair/1.dcm: is an image without Rows and Columns; expected its size; "
        "copy or export it again"),
    Row("DICOM no series", "a slice that belongs to no series", dicom.series(dicom.no_series),
        refused="{folder}/flair/3.dcm: has no SeriesInstanceUID; expected the series that it "
        "belongs to; export it again, or move it to another folder"),
    Row("DICOM frames", "several frames without a position of each",
        dicom.series(dicom_files.several_frames),
        refused="{folder}/flair/1.dcm: 2 frames without a position of each; expected enhanced "
        "DICOM with per-frame functional groups; export it as such, or as single slices"),
    Row("DICOM reports", "structured reports, no images", dicom.series(dicom_files.reports),
        refused="{folder}/flair: holds no DICOM images, but 8 other files (8 Enhanced SR); "
        "expected a series; name a folder with one"),
    Row("DICOM colours", "colours", dicom.series(dicom_files.colours),
        refused="{folder}/flair/1.dcm: holds colours; expected one grey value in each voxel; "
        "choose another series"),
    Row("DICOM palette", "colours of a palette", dicom.series(dicom_files.palette),
        refused="{folder}/flair/1.dcm: holds colours; expected one grey value in each voxel; "
        "choose another series"),
    Row("DICOM table", "values that go through a lookup table",
        dicom.series(dicom_files.lookup_table),
        refused="{folder}/flair/1.dcm: its values go through a lookup table; expected a slope "
        "and an intercept; export it with the table applied"),
    Row("DICOM mosaic", "images whose tiles are slices", dicom.series(dicom_files.mosaic),
        refused="{folder}/flair/1.dcm: is a mosaic: the tiles of one image are the slices of a "
        "volume; expected a file for each slice, or an enhanced one; convert it to NIfTI, as "
        "dcm2niix does, or export it as enhanced DICOM"),
    Row("DICOM inverted", "an inverted grey scale (MONOCHROME1)",
        dicom.series(dicom_files.inverted),
        said="note: flair: small values are meant to be bright (MONOCHROME1); read as stored"),
    Row("DICOM codec", "JPEG that no installed decoder reads", dicom.series(dicom_files.no_codec),
        refused="{folder}/flair/1.dcm: is compressed (JPEG Lossless, Non-Hierarchical, "
        "First-Order Prediction (Process 14 [Selection Value 1])); expected a compression that "
        "an installed decoder reads, or none; install a decoder with: pip install "
        "'pylibjpeg[all]', or store the series uncompressed"),
    Row("DICOM film", "a film", dicom.series(dicom_files.a_film),
        refused="{folder}/flair/1.dcm: is compressed (MPEG2 Main Profile / Main Level); expected "
        "a compression that an installed decoder reads, or none; install a decoder with: pip "
        "install 'pylibjpeg[all]', or store the series uncompressed"),
    Row("DICOM syntax", "an unknown transfer syntax", dicom_files.unknown_syntax,
        refused="{folder}/flair/1.dcm: is compressed (in an unknown way); expected a compression "
        "that an installed decoder reads, or none; install a decoder with: pip install "
        "'pylibjpeg[all]', or store the series uncompressed"),
    Row("DICOM RLE", "voxels packed by run lengths", dicom_files.packed("RLELossless")),
    Row("DICOM deflated", "deflated files", dicom_files.packed("DeflatedExplicitVRLittleEndian")),
    Row("DICOM implicit", "implicit types", dicom_files.packed("ImplicitVRLittleEndian")),
    Row("DICOM enhanced", "one file of several frames", dicom.series(dicom_files.enhanced)),
)  # fmt: skip
DICOM = Group(
    "DICOM series",
    "The place of each slice comes from its position; see [dicom.md](dicom.md).",
    tuple(replace(row, needs=("pydicom",)) for row in ROWS),
)
