"""A3: files that are damaged, named otherwise, or not there."""

import gzip

from tests.catalogue import files
from tests.catalogue.data import FLAIR
from tests.catalogue.row import Group, Row

ROWS = (
    Row("F1", "half of a large .nii.gz", files.cut_gzip(files.LARGE, 0.5),
        refused="{folder}/flair.nii.gz: truncated or damaged gzip stream (Compressed file ended "
        "before the end-of-stream marker was reached); expected a whole one; copy or export it "
        "again"),
    Row("F2", "half of a small .nii.gz", files.cut_gzip(FLAIR, 0.5),
        refused="{folder}/flair.nii.gz: truncated or damaged gzip stream (Compressed file ended "
        "before the end-of-stream marker was reached); expected a whole one; copy or export it "
        "again"),
    Row("F2 start", "the first bytes of a .nii.gz", files.cut_gzip(FLAIR, 0.02),
        refused="{folder}/flair.nii.gz: truncated or damaged gzip stream (Compressed file ended "
        "before the end-of-stream marker was reached); expected a whole one; copy or export it "
        "again"),
    Row("F3 lost", "a .nii.gz without its checksum", files.packed(lambda content: content[:-8]),
        refused="{folder}/flair.nii.gz: truncated or damaged gzip stream (Compressed file ended "
        "before the end-of-stream marker was reached); expected a whole one; copy or export it "
        "again"),
    Row("F3 wrong", "a .nii.gz with another checksum",
        files.packed(lambda content: content[:-8] + bytes(4) + content[-4:]),
        refused="{folder}/flair.nii.gz: truncated or damaged gzip stream (CRC check failed 0 != "
        "404577136); expected a whole one; copy or export it again"),
    Row("F3 behind", "another checksum, two megabytes behind the last voxel",
        files.wrong_behind_the_voxels,
        refused="{folder}/flair.nii.gz: truncated or damaged gzip stream (CRC check failed 0 != "
        "649714671); expected a whole one; copy or export it again"),
    Row("F3 bit", "one bit of a .nii.gz turned over", files.packed(files.one_bit),
        refused="{folder}/flair.nii.gz: truncated or damaged gzip stream (CRC check failed "
        "404577136 != 2035251239); expected a whole one; copy or export it again"),
    Row("F4", "half of a .nii", files.plain(lambda content: content[: len(content) // 2]),
        refused="{folder}/flair.nii: truncated: header promises 2272 bytes, the file can hold at "
        "most 1136; expected all of them; copy or export it again"),
    Row("F4 header", "the header of a .nii alone", files.plain(lambda content: content[:352]),
        refused="{folder}/flair.nii: truncated: header promises 2272 bytes, the file can hold at "
        "most 352; expected all of them; copy or export it again"),
    Row("F4 NRRD", "an NRRD, cut at its end", files.nrrd_cut,
        refused="{folder}/flair.nrrd: truncated: header promises 1920 bytes of voxels, "
        "flair.nrrd can hold at most 1911; expected all of them; copy or export it again"),
    Row("F4 MetaImage", "a compressed MetaImage, cut at its end", files.mha_cut,
        refused="{folder}/flair.mha: truncated or damaged voxels in flair.mha (the stream ends "
        "before its end is marked); expected all of them; copy or export it again"),
    Row("F5", "an empty file", files.plain(lambda content: b""),
        refused="{folder}/flair.nii: the file is empty; expected an image; copy or export it "
        "again"),
    Row("F6", "a plain NIfTI named .nii.gz", files.renamed("plain.nii.gz"),
        said="note: flair: is named .gz but not compressed; read as it is"),
    Row("F7", "a compressed NIfTI named .nii", files.renamed("packed.nii", gzip.compress),
        said="note: flair: is compressed with gzip but not named .gz; decompressed"),
    Row("F8 page", "a web page named .nii.gz", files.instead("page.nii.gz", files.PAGE),
        refused="{folder}/page.nii.gz: is a page of the web; expected NIfTI (.nii, .nii.gz, or "
        ".hdr with .img), NRRD or MetaImage; download it again: instead of it came an answer of "
        "the server"),
    Row("F8 text", "a text without a suffix", files.instead("notes", b"to be done\n" * 40),
        refused="{folder}/notes: not a NIfTI file; expected NIfTI (.nii, .nii.gz, or .hdr with "
        ".img), NRRD or MetaImage; export the scan as one of them"),
    Row("F9", "a name in capitals", files.renamed("FLAIR.NII.GZ", gzip.compress)),
    Row("F10", "a name with spaces, accents and #", files.renamed("ünï codé/flair #1 (b).nii")),
    Row("F11 .img", "the voxels of a pair without their header", files.pair("flair.img"),
        refused="{folder}/flair.img: .hdr is missing beside this .img; expected both of a NIfTI "
        "pair; copy flair.hdr into the same folder"),
    Row("F11 .hdr", "the header of a pair without its voxels", files.pair("flair.hdr"),
        refused="{folder}/flair.hdr: .img is missing beside this .hdr; expected both of a NIfTI "
        "pair; copy flair.img into the same folder"),
    Row("F11 both", "a pair", files.pair("flair.hdr", "flair.img")),
    Row("F13 missing", "a file that is not there", files.missing,
        refused="{folder}/cases.csv: row 2: flair: nowhere.nii is not there; correct the table"),
    Row("F13 folder", "an empty folder", files.an_empty_folder,
        refused="{folder}/folder: holds no DICOM images; expected a series; name a folder "
        "with one", needs=("pydicom",)),
    Row("F13 pipe", "a named pipe, which would block", files.a_pipe,
        refused="{folder}/cases.csv: row 2: flair: pipe.nii is no file; correct the table"),
    Row("F14", "an id twice and a missing file in one table", files.several_faults,
        refused="{folder}/cases.csv: row 3: id 'one' is that of row 2; row 5: flair: nowhere.nii "
        "is not there; correct the table"),
    Row("F14 cell", "an empty cell: a modality that the config needs is missing",
        files.an_empty_cell,
        refused="modality t1 is missing; found flair; expected flair, t1; add the file, or choose "
        "other modalities"),
    Row("F14 model", "the same, of `predict`: one that the model never saw missing",
        files.an_empty_cell, predict=True,
        refused="modality t1 is missing; found flair; expected flair, t1; add the file, or choose "
        "other modalities"),
    Row("F14 class", "annotated classes that are not in the config", files.a_strange_class,
        refused="label_classes names liver, which is no class of the config; expected classes of "
        "necrotic core, edema, enhancing; correct it, or add the class to labels.classes"),
    Row("F14 partial", "a value of a class that nobody is said to have looked for",
        files.classes_left_out,
        refused="{folder}/label.nii: holds label values 1, 4 (24 voxels); expected those of "
        "label_classes, 'edema'; name there what they mean as well, such as 7=edema, or mend the "
        "file"),
    Row("F14 image", "one file as two images of a case", files.one_image_as_two,
        refused="{folder}/cases.csv: row 2: flair and t1 are the same image; correct the table"),
    Row("F14 scan", "one scan as two cases", files.one_scan_as_two,
        refused="{folder}/cases.csv: cases one and two have the same images, and need one "
        "subject; correct the table"),
    Row("F14 key", "a key twice in a table of JSON", files.one_key_as_two,
        refused="{folder}/cases.json: not valid JSON ('id' is there twice); expected a list "
        "with an object for each case; correct it"),
    Row("F15", "an output that cannot be written", files.a_file_as_the_output,
        refused="{out}: cannot be written (File exists); expected a writable place with room; "
        "make room there, or choose another", checked=False),
    Row("F15 predict", "the same, of `predict`", files.a_file_as_the_output,
        refused="{out}: cannot be written (File exists); expected a writable place with room; "
        "make room there, or choose another", predict=True),
    Row("F16", "another file under the name of a prepared case",
        files.somebodys_own("cases/one.h5"),
        refused="{out}/cases: would replace one.h5, which vol3dseg did not write or which changed "
        "since; expected new names, or files as .vol3dseg-files lists them; choose another output, "
        "or move what is there elsewhere", checked=False),
    Row("F16 mask", "a mask of one's own under the name of a segmentation, a picture beside it",
        files.somebodys_own("one.nii.gz", "one.png"),
        refused="{out}: would replace, or write beside, one.nii.gz, one.png, which vol3dseg did "
        "not write or which changed since; expected new names, or files as .vol3dseg-files lists "
        "them; choose another output, or move what is there elsewhere", predict=True),
    Row("F16 list", "another file under the name of the list of what was written",
        files.somebodys_own(".vol3dseg-files"),
        refused="{out}/.vol3dseg-files: is not of vol3dseg; expected its list of what it has "
        "written there; choose another output, or move the file elsewhere", checked=False),
)  # fmt: skip
FILES = Group(
    "Files",
    "A file is what its content says, whatever its name. The checksum of a compressed file is "
    "verified.",
    ROWS,
)
