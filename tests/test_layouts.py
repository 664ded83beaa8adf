import json

import pytest

from vol3dseg.datasets.layouts import find_cases
from vol3dseg.errors import DatasetError

KINDS = ("flair", "t1", "t1ce", "t2", "seg")
KINDS_2023 = ("t1n", "t1c", "t2w", "t2f", "seg")
ONE = {
    "modality": {"0": "MRI"},
    "training": [
        {"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"},
        {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"},
    ],
    "test": ["./imagesTs/c.nii.gz"],
}
FILES = ("imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "labelsTr/a.nii.gz", "labelsTr/b.nii.gz")


def add_case(folder, kinds=KINDS, separator="_", suffix=".nii.gz"):
    folder.mkdir(parents=True)
    for kind in kinds:
        (folder / f"{folder.name}{separator}{kind}{suffix}").touch()
    return folder


def add_decathlon(folder, description, files=()):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


class TestBrats:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
    def test_modalities_by_name(self, tmp_path, suffix):
        add_case(tmp_path / "BraTS20_Training_001", suffix=suffix)
        (case,) = find_cases(tmp_path)
        assert case.id == case.subject == "BraTS20_Training_001"
        assert list(case.images) == ["flair", "t1", "t1ce", "t2"]
        assert case.images["t1ce"].path.name == f"BraTS20_Training_001_t1ce{suffix}"
        assert case.images["t1ce"].channel is None
        assert case.label is not None
        assert case.label.name == f"BraTS20_Training_001_seg{suffix}"

    def test_names_of_2023_are_the_same_modalities(self, tmp_path):
        add_case(tmp_path / "BraTS-GLI-00000-000", KINDS_2023, "-")
        (case,) = find_cases(tmp_path)
        endings = {m: s.path.name.removesuffix(".nii.gz")[-3:] for m, s in case.images.items()}
        assert endings == {"flair": "t2f", "t1": "t1n", "t1ce": "t1c", "t2": "t2w"}

    def test_names_of_2024_radiotherapy(self, tmp_path):
        for scan in ("0000-1", "0000-2", "0001-1"):
            add_case(tmp_path / f"BraTS-MEN-RT-{scan}", ("t1c", "gtv"))
        cases = find_cases(tmp_path)
        assert [case.subject[-4:] for case in cases] == ["0000", "0000", "0001"]
        assert list(cases[0].images) == ["t1ce"]
        assert cases[0].label == tmp_path / "BraTS-MEN-RT-0000-1/BraTS-MEN-RT-0000-1_gtv.nii.gz"

    def test_names_of_2024_glioma_after_treatment(self, tmp_path):
        for scan in ("00005-100", "00005-101"):
            add_case(tmp_path / f"BraTS-GLI-{scan}", KINDS_2023, "-")
        assert {case.subject for case in find_cases(tmp_path)} == {"BraTS-GLI-00005"}

    def test_two_kinds_of_label(self, tmp_path):
        add_case(tmp_path / "x_001", ("t1c", "gtv", "seg"))
        with pytest.raises(
            DatasetError, match=r"case x_001 has several files for seg: x_001/x_001_gtv.*x_001_seg"
        ):
            find_cases(tmp_path)

    def test_scans_of_one_subject(self, tmp_path):
        for scan in ("00000-000", "00000-001", "00002-000"):
            add_case(tmp_path / f"BraTS-GLI-{scan}", KINDS_2023, "-")
        subjects = [case.subject for case in find_cases(tmp_path)]
        assert subjects == ["BraTS-GLI-00000", "BraTS-GLI-00000", "BraTS-GLI-00002"]

    def test_grades(self, tmp_path):
        add_case(tmp_path / "LGG" / "Brats18_a_1")
        add_case(tmp_path / "HGG" / "Brats18_b_1")
        (tmp_path / "survival_data.csv").touch()
        assert [case.id for case in find_cases(tmp_path)] == ["Brats18_a_1", "Brats18_b_1"]

    def test_one_case_in_two_grades(self, tmp_path):
        for grade in ("HGG", "LGG"):
            add_case(tmp_path / grade / "x")
        with pytest.raises(DatasetError, match=r"case x is there twice: HGG/x/.*LGG/x/"):
            find_cases(tmp_path)

    def test_stray_label(self, tmp_path):
        folder = add_case(tmp_path / "BraTS20_Training_355", KINDS[:4], suffix=".nii")
        (folder / "W39_1998.09.19_Segm.nii").touch()
        (case,) = find_cases(tmp_path)
        assert case.label == folder / "W39_1998.09.19_Segm.nii"

    def test_no_label_goes_before_another(self, tmp_path):
        folder = add_case(tmp_path / "BraTS20_Training_355", suffix=".nii")
        (folder / "W39_1998.09.19_Segm.nii").touch()
        with pytest.raises(DatasetError, match=r"several files for seg: .*_355_seg.nii, .*_Segm"):
            find_cases(tmp_path)

    def test_what_is_no_image_is_passed_over(self, tmp_path):
        folder = add_case(tmp_path / "a_001")
        for name in ("._a_001_flair.nii.gz", ".DS_Store", "a_001.csv", "a_001_otsu.nii.gz"):
            (folder / name).touch()
        (tmp_path / ".hidden").mkdir()
        (tmp_path / "notes").mkdir()
        (case,) = find_cases(tmp_path)
        assert len(case.paths) == 5

    def test_without_label(self, tmp_path):
        add_case(tmp_path / "a_001", KINDS[:4])
        (case,) = find_cases(tmp_path)
        assert case.label is None

    def test_lacking_modality_is_named_when_asked_for(self, tmp_path):
        add_case(tmp_path / "a_001", ("flair", "seg"))
        (case,) = find_cases(tmp_path)
        with pytest.raises(DatasetError, match=r"a_001: modality t1, t2 is missing; found flair"):
            case.select(["flair", "t1", "t2"])

    def test_an_empty_case_is_not_passed_over(self, tmp_path):
        add_case(tmp_path / "BraTS20_Training_001")
        (tmp_path / "BraTS20_Training_002").mkdir()
        cases = find_cases(tmp_path)
        assert [len(case.images) for case in cases] == [4, 0]

    def test_the_folder_of_one_case(self, tmp_path, monkeypatch):
        folder = add_case(tmp_path / "a_001")
        (case,) = find_cases(folder)
        assert case.id == "a_001"
        monkeypatch.chdir(folder)
        (here,) = find_cases(folder.relative_to(folder))
        assert here.id == "a_001"

    def test_all_duplicate_modalities_are_listed(self, tmp_path):
        first = add_case(tmp_path / "a_001")
        (first / "a_001_t1.nii").touch()
        second = add_case(tmp_path / "a_002")
        (second / "a_002-t2f.nii.gz").touch()
        with pytest.raises(DatasetError, match="several") as caught:
            find_cases(tmp_path)
        assert "several files for t1: a_001/a_001_t1.nii, a_001/a_001_t1.nii.gz" in str(
            caught.value
        )
        assert "several files for flair: a_002/a_002-t2f.nii.gz, a_002/a_002_flair.nii" in str(
            caught.value
        )

    def test_real_cases(self, shared_data):
        cases = find_cases(shared_data / "brats")
        assert [case.id for case in cases] == ["BraTS2021_00495", "Brats18_2013_2_1"]
        assert all(len(case.paths) == 5 for case in cases)


class TestDecathlon:
    def test_one_modality(self, tmp_path):
        add_decathlon(tmp_path, ONE, FILES)
        first, second = find_cases(tmp_path)
        assert (first.id, second.id) == ("a", "b")
        assert first.images["MRI"].path == tmp_path / "imagesTr/a.nii.gz"
        assert first.images["MRI"].channel is None
        assert first.label == tmp_path / "labelsTr/a.nii.gz"

    def test_test_images_have_no_label(self, tmp_path):
        add_decathlon(tmp_path, ONE, (*FILES, "imagesTs/c.nii.gz"))
        assert [case.label is None for case in find_cases(tmp_path)] == [False, False, True]

    def test_modalities_are_channels_in_order_of_numbers(self, tmp_path):
        names = {str(n): f"m{n}" for n in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
        add_decathlon(tmp_path, {**ONE, "modality": names}, FILES)
        case = find_cases(tmp_path)[0]
        assert [(m, s.channel) for m, s in case.images.items()] == [(f"m{n}", n) for n in range(11)]
        assert len(case.paths) == 2

    def test_all_missing_files_are_listed(self, tmp_path):
        add_decathlon(tmp_path, ONE, FILES[:2])
        with pytest.raises(DatasetError, match=r"2 missing: .*labelsTr/b.*labelsTr/a"):
            find_cases(tmp_path)

    @pytest.mark.parametrize("path", ["../x.nii.gz", "/etc/x.nii.gz", "imagesTr/../../x.nii.gz"])
    def test_paths_stay_in_the_folder(self, tmp_path, path):
        add_decathlon(tmp_path / "d", {**ONE, "training": [{"image": path}]})
        (tmp_path / "x.nii.gz").touch()
        with pytest.raises(DatasetError, match="1 outside of the folder"):
            find_cases(tmp_path / "d")

    def test_other_formats(self, tmp_path):
        add_decathlon(tmp_path, {**ONE, "training": [{"image": "a.mha"}]}, ["a.mha"])
        with pytest.raises(
            DatasetError, match=r"1 of another format: a.mha; .* with .nii or .nii.gz files"
        ):
            find_cases(tmp_path)

    def test_a_case_listed_twice(self, tmp_path):
        twice = [ONE["training"][0]] * 2
        add_decathlon(tmp_path, {**ONE, "training": twice}, FILES)
        with pytest.raises(
            DatasetError, match=r"case b is there twice: imagesTr/b.*expected each case once"
        ):
            find_cases(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"modality": {}}, "modality", id="no modality"),
            pytest.param({"modality": {"x": "T1"}}, "modality", id="no number"),
            pytest.param({"modality": {"0": "T1", "2": "T2"}}, "without a gap", id="gap"),
            pytest.param({"modality": {"0": "T1", "1": "T1"}}, "used twice", id="name twice"),
            pytest.param({"training": []}, "training", id="no training"),
            pytest.param({"training": [{"label": "a"}]}, "training.0.image", id="no image"),
        ],
    )
    def test_a_description_of_something_else(self, tmp_path, change, message):
        add_decathlon(tmp_path, {**ONE, **change}, FILES)
        with pytest.raises(DatasetError, match=message) as caught:
            find_cases(tmp_path)
        assert "dataset.json" in str(caught.value)

    def test_damaged_json(self, tmp_path):
        (tmp_path / "dataset.json").write_text('{"modality": ')
        with pytest.raises(DatasetError, match=r"dataset.json: is damaged.*expected JSON with"):
            find_cases(tmp_path)

    def test_a_description_that_was_not_fetched_is_not_passed_over(self, tmp_path):
        add_decathlon(tmp_path, ONE, FILES)
        (tmp_path / "dataset.json").unlink()
        (tmp_path / "dataset.json").symlink_to("nowhere")
        with pytest.raises(DatasetError, match=r"dataset.json: "):
            find_cases(tmp_path)

    def test_real_cases(self, shared_data):
        cases = find_cases(shared_data / "hippocampus")
        assert len(cases) == 208
        assert list(cases[0].images) == ["MRI"]


def test_the_folder_may_be_text(tmp_path):
    add_case(tmp_path / "a_001")
    assert find_cases(str(tmp_path)) == find_cases(tmp_path)


class TestUnknown:
    def test_missing_folder(self, tmp_path):
        with pytest.raises(DatasetError, match="does not exist"):
            find_cases(tmp_path / "nowhere")

    def test_a_name_that_no_folder_can_have(self, tmp_path):
        with pytest.raises(
            DatasetError, match=r"cannot be the name of a file or folder \(File name"
        ):
            find_cases(tmp_path / ("x" * 300))

    def test_a_file(self, tmp_path):
        (tmp_path / "x.nii").touch()
        with pytest.raises(DatasetError, match="is no folder and no table"):
            find_cases(tmp_path / "x.nii")

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(
            DatasetError, match=r"in no known layout: found nothing; expected that of table, "
        ):
            find_cases(tmp_path)

    def test_what_was_found_is_said(self, tmp_path):
        for n in range(7):
            (tmp_path / f"f{n}").touch()
        with pytest.raises(DatasetError, match="found f0, f1, f2, f3, f4 and 2 more"):
            find_cases(tmp_path)

    def test_a_name_alone_makes_no_data_set(self, tmp_path):
        (tmp_path / "BraTS_2020" / "notes").mkdir(parents=True)
        with pytest.raises(DatasetError) as caught:
            find_cases(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}: is in no known layout: found BraTS_2020; expected that of table, nnU-Net "
            "raw, Decathlon, BIDS, images and labels, BraTS, DICOM, case folders, files "
            "(docs/datasets.md); give the folder that the cases lie in, or name their files in a "
            "table"
        )
