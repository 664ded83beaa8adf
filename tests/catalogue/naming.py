"""A5: which file is what, and whose, by names and places."""

import os

from tests.catalogue.data import DataSet

ANNEX = "../.git/annex/objects/aB/cD/MD5E-s1--0.nii/MD5E-s1--0.nii"


def placed(flair="one/one_flair.nii", t1="one/one_t1.nii", label="one/one_seg.nii"):
    """Give the files in a folder, under these names."""

    def make(data: DataSet) -> None:
        for name, place in (("flair.nii", flair), ("t1.nii", t1), ("label.nii", label)):
            (data.folder / place).parent.mkdir(parents=True, exist_ok=True)
            (data.folder / name).rename(data.folder / place)
        data.given.unlink()
        data.given = data.folder

    return make


def instead_of_t1(put):
    """Put something in the place of a file, as tools do that fetch files later."""

    def make(data: DataSet) -> None:
        placed()(data)
        path = data.folder / "one/one_t1.nii"
        path.unlink()
        put(path)

    return make


def called(*ids):
    """Give several cases of these ids, of several subjects, with the same images."""

    def make(data: DataSet) -> None:
        rows = []
        for number, name in enumerate(ids):
            images = {m: f"{number}_{m}.nii" for m in ("flair", "t1")}
            for modality, file in images.items():
                (data.folder / file).write_bytes((data.folder / f"{modality}.nii").read_bytes())
            rows.append({"id": name, **images})
        data.rows(*rows)

    return make


def a_link(path) -> None:
    path.symlink_to(ANNEX)


def an_annex_pointer(path) -> None:
    path.write_text(f"/annex/objects/{ANNEX.rpartition('/')[2]}\n")


def an_lfs_pointer(path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def a_link_to_the_case(data: DataSet) -> None:
    """Keep the case in a store whose folders are all called alike."""
    placed(*(f"store/nifti/scan_{kind}.nii" for kind in ("flair", "t1", "seg")))(data)
    data.given = data.folder / "cases"
    data.given.mkdir()
    (data.given / "one").symlink_to(data.folder / "store/nifti")


def two_label_maps(data: DataSet) -> None:
    places = ("sub-one/anat/sub-one_FLAIR.nii", "sub-one/anat/sub-one_T1w.nii")
    placed(*places, "derivatives/manual/sub-one/anat/sub-one_label-lesion_mask.nii")(data)
    tissue = data.folder / "derivatives/fmriprep/sub-one/anat/sub-one_dseg.nii"
    tissue.parent.mkdir(parents=True)
    tissue.write_bytes(b"")


def ids_in_capitals(data: DataSet) -> None:
    data.rows(data.row, {**data.row, "id": "ONE", "flair": "t1.nii", "t1": "flair.nii"})


def bytes_for_a_name(data: DataSet) -> None:
    name = os.fsdecode(b"M\xfcller")
    placed(*(f"{name}/{name}_{kind}.nii" for kind in ("flair", "t1", "seg")))(data)
