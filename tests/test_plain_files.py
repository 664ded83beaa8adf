"""Own data without ceremony: a folder of images, or one of images beside one of label maps."""

import shutil

import numpy as np
import pytest
import yaml

from vol3dseg.datasets.layouts import find_cases, layout_of
from vol3dseg.datasets.selection import gather_cases, reference_cases
from vol3dseg.errors import DatasetError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder, *modalities):
    """Return what is found: the images of each case by modality, and its label map."""
    return {
        case.id: {
            **{m: s.path.relative_to(folder).as_posix() for m, s in case.images.items()},
            **({"label": case.label.relative_to(folder).as_posix()} if case.label else {}),
        }
        for case in find_cases(folder, modalities)
    }


@pytest.mark.parametrize(
    ("files", "wanted", "cases"),
    [
        pytest.param(["a.nii.gz"], [], {"a": {"image": "a.nii.gz"}}, id="nobody says what it is"),
        pytest.param(["a_001.nii.gz", "a_002.mha"], ["MRI"],
                     {"a_001": {"MRI": "a_001.nii.gz"}, "a_002": {"MRI": "a_002.mha"}},
                     id="the one that is wanted"),
        pytest.param(["a_flair.nii", "a-T1.nii", "b_flair.nii", "b-T1.nii"], ["flair", "t1"],
                     {"a": {"t1": "a-T1.nii", "flair": "a_flair.nii"},
                      "b": {"t1": "b-T1.nii", "flair": "b_flair.nii"}}, id="several"),
        pytest.param(["a_ADC.nii", "a_T2.nii"], ["T2", "ADC"],
                     {"a": {"T2": "a_T2.nii", "ADC": "a_ADC.nii"}}, id="names of the config"),
        pytest.param(["a_T1w.nii", "a_FLAIR.nii"], [], {"a": {"flair": "a_FLAIR.nii",
                     "t1": "a_T1w.nii"}}, id="names that are known"),
        pytest.param(["a_flair.nii", "a_t1.nii"], ["t1"],
                     {"a": {"flair": "a_flair.nii", "t1": "a_t1.nii"}}, id="not another"),
        pytest.param(["a_T1w.nii"], ["MRI"], {"a_T1w": {"MRI": "a_T1w.nii"}}, id="any MRI"),
        pytest.param(["a.nii", "a_seg.nii"], ["MRI"],
                     {"a": {"MRI": "a.nii", "label": "a_seg.nii"}}, id="a label map beside it"),
        pytest.param(["a.nii", "a_brain_mask.nii", "a_lesion.nii"], ["MRI"],
                     {"a": {"MRI": "a.nii"}}, id="no image, and no label map either"),
        pytest.param(["images/a.nii", "images/b.nii", "labels/a.nii"], ["CT"],
                     {"a": {"CT": "images/a.nii", "label": "labels/a.nii"},
                      "b": {"CT": "images/b.nii"}}, id="pair"),
        pytest.param(["imagesTr/a_0001.nii", "labelsTr/a_0001.nii", "imagesTs/c.nii"], ["CT"],
                     {"a_0001": {"CT": "imagesTr/a_0001.nii", "label": "labelsTr/a_0001.nii"},
                      "c": {"CT": "imagesTs/c.nii"}}, id="of a Decathlon without its list"),
        pytest.param(["images/a_t1.nii", "images/a_t2.nii", "masks/a_seg.nii"], ["t1", "t2"],
                     {"a": {"t1": "images/a_t1.nii", "t2": "images/a_t2.nii",
                            "label": "masks/a_seg.nii"}}, id="pair of several modalities"),
        pytest.param(["images/a_t1.nii", "labels/a_t1.nii"], ["t1"],
                     {"a": {"t1": "images/a_t1.nii", "label": "labels/a_t1.nii"}},
                     id="label maps named as images are"),
        pytest.param(["a/imaging.nii", "a/segmentation.nii", "b/imaging.nii"], ["CT"],
                     {"a": {"CT": "a/imaging.nii", "label": "a/segmentation.nii"},
                      "b": {"CT": "b/imaging.nii"}}, id="folders of cases"),
        pytest.param(["a/T1w.nii", "a/FLAIR.nii", "a/Seg.nii", "a/notes.nii"], ["t1", "flair"],
                     {"a": {"flair": "a/FLAIR.nii", "t1": "a/T1w.nii", "label": "a/Seg.nii"}},
                     id="folders of cases of several modalities"),
        pytest.param(["a/t1.nii"], ["MRI"], {"a": {"MRI": "a/t1.nii"}}, id="any MRI in a folder"),
        pytest.param(["a/ct.nii", "b/pet.nii"], ["MRI"],
                     {"a": {"ct": "a/ct.nii"}, "b": {"pet": "b/pet.nii"}}, id="no MRI"),
        pytest.param(["a/ct.nii", "b/seg.nii"], ["CT"],
                     {"a": {"CT": "a/ct.nii"}, "b": {"label": "b/seg.nii"}}, id="no image"),
        pytest.param(["images/a.nii", "labels/a.nii", "labels/b.nii"], ["CT"],
                     {"a": {"CT": "images/a.nii", "label": "labels/a.nii"},
                      "b": {"label": "labels/b.nii"}},
                     id="a label map without its image is not passed over"),
    ],
)  # fmt: skip
def test_what_is_found(tmp_path, files, wanted, cases):
    touch(tmp_path, *files)
    assert found(tmp_path, *wanted) == cases


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(["images/a.nii", "labels/a.nii", "masks/a.nii"],
                     "there are several folders of label maps: labels, masks", id="folders"),
        pytest.param(["images/a.nii", "images/a.nii.gz", "labels/a.nii"],
                     "case a has several files for CT: images/a.nii, images/a.nii.gz", id="images"),
        pytest.param(["images/a.nii", "labels/a.nii", "labels/a_seg.nii"],
                     "case a has several files for its label map: labels/a.nii, labels/a_seg.nii",
                     id="label maps"),
        pytest.param(["a.nii", "a_seg.nii", "a_mask.nii"],
                     "case a has several files for its label map: a_mask.nii, a_seg.nii",
                     id="label maps beside the image"),
        pytest.param(["images/a.nii", "images/a_seg.nii", "labels/a.nii"],
                     "case a has several files for its label map: labels/a.nii, images/a_seg.nii",
                     id="label maps in both folders"),
        pytest.param(["images/img_1.nii", "labels/label_1.nii"],
                     "no label map is called after an image: there are label_1, and images img_1",
                     id="two ways to call a case"),
        pytest.param(["a/ct.nii", "a/seg.nii", "a/label.nii"],
                     "case a has several files for its label map: a/label.nii, a/seg.nii",
                     id="label maps in a folder of a case"),
        pytest.param(["volume-1.nii", "segmentation-1.nii"],
                     "segmentation-1.nii look like label maps that are not called after their "
                     "images: call them <id>_seg", id="label maps with another beginning"),
        pytest.param(["a.nii", "old/a_flair.nii"],
                     "holds images itself, a.nii, beside the folders old", id="folders too"),
    ],
)  # fmt: skip
def test_what_is_not_clear(tmp_path, files, message):
    touch(tmp_path, *files)
    with pytest.raises(DatasetError) as caught:
        find_cases(tmp_path, ["CT"])
    assert message in str(caught.value)


class TestCountsDoNotMatter:
    """One file means what it would mean among several."""

    def test_images(self, tmp_path):
        touch(tmp_path, "a_flair.nii")
        one = found(tmp_path)
        assert gather_cases([tmp_path / "a_flair.nii"], ["flair"]) == find_cases(tmp_path)
        touch(tmp_path, "b_flair.nii")
        assert found(tmp_path) == {**one, "b": {"flair": "b_flair.nii"}}

    def test_a_folder_that_is_called_like_its_case(self, tmp_path):
        touch(tmp_path / "a", "a_flair.nii", "a_seg.nii")
        one = found(tmp_path / "a")
        touch(tmp_path / "a", "b_flair.nii")
        assert found(tmp_path / "a") == {**one, "b": {"flair": "b_flair.nii"}}

    def test_the_folder_of_a_case(self, tmp_path):
        touch(tmp_path, "a/ct.nii", "a/seg.nii", "b/ct.nii")
        assert find_cases(tmp_path / "a") == find_cases(tmp_path)[:1]

    def test_references(self, tmp_path):
        touch(tmp_path, "a_seg.nii")
        one = reference_cases(tmp_path)
        touch(tmp_path, "b_seg.nii")
        assert list(one) == ["a_seg"]
        assert list(reference_cases(tmp_path)) == ["a_seg", "b_seg"]

    def test_references_with_images(self, tmp_path):
        touch(tmp_path, "a_flair.nii", "a_seg.nii")
        assert reference_cases(tmp_path)["a"].label == tmp_path / "a_seg.nii"
        touch(tmp_path / "d", "images/a.nii", "labels/a.nii")
        assert reference_cases(tmp_path / "d")["a"].label == tmp_path / "d/labels/a.nii"

    def test_series_where_one_modality_is_wanted(self, tmp_path, dicom_slice):
        (tmp_path / "P1").mkdir()
        dicom_slice(np.zeros((4, 4), np.int16)).save_as(
            tmp_path / "P1/1.dcm", enforce_file_format=True
        )
        one = found(tmp_path, "MRI")
        assert one == found(tmp_path / "P1", "MRI") | {"P1": {"MRI": "P1"}}
        shutil.copytree(tmp_path / "P1", tmp_path / "P2")
        assert found(tmp_path, "MRI") == {**one, "P2": {"MRI": "P2"}}


class TestDeeper:
    def test_the_only_data_set_in_a_folder(self, tmp_path, caplog):
        """As Kaggle packs BraTS 2020."""
        inner = "BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData"
        touch(tmp_path, f"{inner}/BraTS20_Training_001/BraTS20_Training_001_flair.nii")
        for outer in (tmp_path / "BraTS2020_TrainingData", tmp_path):
            assert [case.id for case in find_cases(outer)] == ["BraTS20_Training_001"]
            assert layout_of(outer).name == "BraTS"
        assert caplog.messages[1] == f"{tmp_path} holds one data set, in {inner}: that is read"

    def test_one_of_several_is_not_chosen(self, tmp_path):
        touch(tmp_path, "a/x_1/x_1_flair.nii", "b/images/y.nii", "c/z.txt")
        with pytest.raises(DatasetError) as caught:
            find_cases(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}: has data sets in a (BraTS), b (images and labels); give one of them, or "
            "several to predict"
        )

    def test_files_in_a_folder_are_no_data_set_yet(self, tmp_path):
        touch(tmp_path, "labels/y.nii")
        with pytest.raises(DatasetError, match=r"has data sets in labels \(files\); give it$"):
            find_cases(tmp_path)


def test_from_files_to_a_segmentation(vol3dseg, shared_brats_folder, config_path, tmp_path):
    data = yaml.safe_load(config_path.read_text())
    data["recipe"] |= {"modalities": ["MRI"], "normalisation": {"method": "zscore"}}
    config_path.write_text(yaml.safe_dump(data))
    for case in find_cases(shared_brats_folder):
        for folder, path in (("images", case.images["t1"].path), ("labels", case.label)):
            (tmp_path / "own" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "own" / folder / f"{case.id}.nii.gz")
    done = vol3dseg("check", tmp_path / "own", "-c", config_path, "-j", 1)
    assert "images and labels layout, 3 cases, 3 with a label map: 0 refused" in done.stdout
    done = vol3dseg(
        "preprocess", tmp_path / "own", "-o", tmp_path / "P", "-c", config_path, "-j", 1
    )
    assert done.stdout.startswith("3 cases prepared, 0 left out, 0 failed")
