"""A5: names and places of files."""

from tests.catalogue import naming
from tests.catalogue.row import Group, Row

FETCH = (
    "expected an image file, such as .nii.gz; fetch it (datalad get, git annex get, git lfs pull), "
    "or copy it here"
)
UNLABELLED = "note: 1 of 1 prepared cases has no label map, and is not learned from: one"
_BIDS = ("--layout", "bids")
ROWS = (
    Row("N1", "files in one folder, `<id>_<modality>` and `<id>_seg`",
        naming.placed("one_flair.nii", "one_t1.nii", "one_seg.nii")),
    Row("N2", "a folder of images beside one of label maps",
        naming.placed("images/one_flair.nii", "images/one_T1.nii", "labels/one.nii")),
    Row("N3", "a data set that is all that a folder holds",
        naming.placed("data/one/one_flair.nii", "data/one/one_t1.nii", "data/one/one_seg.nii")),
    Row("N4", "a folder of a case that is a link to one of another name",
        naming.a_link_to_the_case),
    Row("N5 link", "a link to a file that was not fetched, of DataLad",
        naming.instead_of_t1(naming.a_link),
        refused="{folder}/one/one_t1.nii: is a link to a file that is not there; " + FETCH),
    Row("N5 annex", "a placeholder of git-annex", naming.instead_of_t1(naming.an_annex_pointer),
        refused="{folder}/one/one_t1.nii: is a placeholder for a file that was not fetched; "
        + FETCH),
    Row("N5 LFS", "a placeholder of Git LFS", naming.instead_of_t1(naming.an_lfs_pointer),
        refused="{folder}/one/one_t1.nii: is a placeholder for a file that was not fetched; "
        + FETCH),
    Row("N6", "a label map that is not named as the layout has it",
        naming.placed(label="one/one_lesion.nii"), like=None,
        said=UNLABELLED + "; one/one_lesion.nii may be meant, but must be named as the layout has "
        "it, or in the column label of a dataset table", result="read without a label map"),
    Row("N7", "tissue classes of fMRIPrep beside a lesion mask", naming.two_label_maps,
        refused="{folder}: case sub-one has several label maps: "
        "derivatives/fmriprep/sub-one/anat/sub-one_dseg.nii, "
        "derivatives/manual/sub-one/anat/sub-one_label-lesion_mask.nii; expected one of each; move "
        "the others away, or name the files in a dataset table"),
    Row("N8", "two ids that differ in capitals", naming.ids_in_capitals,
        refused="{folder}/cases.csv: cases ONE and one differ only in capitals or in how letters "
        "are encoded: t1.nii, flair.nii; correct the table"),
    Row("N9", "a case whose name is no UTF-8", naming.bytes_for_a_name,
        refused="case M\\udcfcller: its name cannot become that of other files; expected text in "
        "UTF-8 with no slash, no dot at its beginning and nothing invisible; rename its folder or "
        "files"),
    Row("N10", "`predict --layout bids`: ids that BIDS does not tell apart",
        naming.called("a_1", "a-1"), predict=True, options=_BIDS,
        refused="--layout bids: one name would be made of a-1 and a_1; expected ids that differ in "
        "letters or digits, which is all that BIDS allows; rename one of them, or leave out "
        "--layout"),
    Row("N10 none", "`predict --layout bids`: an id without a letter or digit of ASCII",
        naming.called("__"), predict=True, options=_BIDS,
        refused="--layout bids: no name can be made of __; expected ids with letters from A to Z "
        "or digits, which is all that BIDS allows; rename these cases, or leave out --layout"),
    Row("N10 format", "`predict --layout bids --format nrrd`", naming.called("one"), predict=True,
        options=(*_BIDS, "--format", "nrrd"),
        refused="--layout bids: the format nrrd; expected nifti; leave out --format, or --layout"),
)  # fmt: skip
NAMING = Group(
    "Names and places",
    "A case is called as its folder or file is where it is given. Nothing chooses among files that "
    "could be meant.",
    ROWS,
)
