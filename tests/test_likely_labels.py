"""Label maps that are there but not found: what looks like one is named."""

import pytest

from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.layouts.likely_labels import looks_like_label


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "name", ["a_seg2", "GTV-1", "lesion", "sub-01_label-stroke_roi", "ground_truth", "rtstruct"]
)
def test_what_may_be_a_label_map(name):
    assert looks_like_label(name)


@pytest.mark.parametrize("name", ["t1", "desc-brain_mask", "label-GM_probseg", "otsu", "flair"])
def test_what_is_none(name):
    assert not looks_like_label(name)


JSON = '{"channel_names": {"0": "T1"}, "training": []}'


@pytest.mark.parametrize(
    ("files", "likely"),
    [
        pytest.param(["a/a_t1.nii.gz"], [], id="nothing"),
        pytest.param(["a/a_t1.nii.gz", "a/a_lesionmask.nii"], ["a/a_lesionmask.nii"], id="beside"),
        pytest.param(["a/a_t1.nii.gz", "a/a_seg.dcm"], ["a/a_seg.dcm"], id="DICOM-SEG"),
        pytest.param(["a/a_t1.nii.gz", "b/b_t1.nii.gz", "labels/a.nii.gz"], ["labels/a.nii.gz"],
                     id="in a folder of label maps"),
        pytest.param(["a/a_t1.nii.gz", "labels/a_seg.nii.gz"], ["labels/a_seg.nii.gz"],
                     id="in a folder of label maps that are named as BraTS has them"),
        pytest.param(["a/a_t1.nii.gz", "a/masks/tumour.mha"], ["a/masks/tumour.mha"],
                     id="in a folder of the case"),
        pytest.param(["sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_label-lesion_roi.nii"],
                     ["sub-1/anat/sub-1_label-lesion_roi.nii"], id="BIDS, not in derivatives"),
        pytest.param(["sub-1/anat/sub-1_T1w.nii", "derivatives/x/sub-1/dwi/sub-1_mask.nii"],
                     ["derivatives/x/sub-1/dwi/sub-1_mask.nii"], id="BIDS, not in anat"),
        pytest.param(["sub-1/ses-2/anat/sub-1_ses-2_T1w.nii",
                      "derivatives/sub-1/anat/sub-1_mask.nii",
                      "derivatives/sub-1/ses-1/anat/sub-1_ses-1_mask.nii"],
                     ["derivatives/sub-1/anat/sub-1_mask.nii"], id="BIDS, of no session"),
        pytest.param(["dataset.json", "imagesTs/a_0000.nii.gz", "labelsTs/a.nii.gz"],
                     ["labelsTs/a.nii.gz"], id="of test cases"),
    ],
)  # fmt: skip
def test_it_is_named(tmp_path, files, likely):
    touch(tmp_path, *files)
    if files[0] == "dataset.json":
        (tmp_path / "dataset.json").write_text(JSON)
    case = find_cases(tmp_path)[0]
    assert case.label is None
    assert [path.relative_to(tmp_path).as_posix() for path in case.likely_labels] == likely


def test_a_column_of_a_table(tmp_path):
    touch(tmp_path, "a.nii", "s.nii")
    (tmp_path / "t.csv").write_text("id,t1,Mask\na,a.nii,s.nii\n")
    assert find_cases(tmp_path / "t.csv")[0].likely_labels == (tmp_path / "s.nii",)


def test_one_id_is_no_beginning_of_another(tmp_path):
    touch(tmp_path, "a1/a1_t1.nii", "a10/a10_t1.nii", "labels/a10.nii")
    assert [len(case.likely_labels) for case in find_cases(tmp_path)] == [0, 1]
