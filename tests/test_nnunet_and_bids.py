"""nnU-Net raw and BIDS: which file is what, and everything that is wrong at once."""

import json

import pytest

from vol3dseg.datasets.layouts import find_cases, layout_of
from vol3dseg.errors import DatasetError

CHANNELS = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "PZ": 1}}
EXPECTED = (
    "expected the channels that dataset.json names of each case, a label map of each in imagesTr; "
    "add the files, or move the others away"
)

DESCRIPTION = (
    'expected JSON with channel_names, such as {"0": "T1"}, which say what the numbers of images '
    "mean; add or correct it"
)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def nnunet(folder, description=CHANNELS, names=("a", "b"), channels=("0000", "0001")):
    """Make a data set with two channels of each case, and its labels."""
    touch(folder, *(f"imagesTr/{name}_{c}.nii.gz" for name in names for c in channels))
    touch(folder, *(f"labelsTr/{name}.nii.gz" for name in names))
    if description is not None:
        (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def refusal(folder):
    with pytest.raises(DatasetError) as caught:
        find_cases(folder)
    return str(caught.value)


class TestNnunet:
    def test_numbers_are_names(self, tmp_path):
        first, second = find_cases(nnunet(tmp_path))
        assert layout_of(tmp_path).name == "nnU-Net raw"
        assert (first.id, first.subject, second.id) == ("a", "a", "b")
        assert {m: s.path.name for m, s in first.images.items()} == {
            "T2": "a_0000.nii.gz", "ADC": "a_0001.nii.gz",
        }  # fmt: skip
        assert all(source.channel is None for source in first.images.values())
        assert first.label == tmp_path / "labelsTr/a.nii.gz"

    def test_the_order_is_that_of_the_numbers(self, tmp_path):
        description = {"channel_names": {"1": "ADC", "0": "T2"}}
        assert list(find_cases(nnunet(tmp_path, description))[0].images) == ["T2", "ADC"]

    def test_version_1(self, tmp_path):
        """Its list of files names cases without the numbers; the Decathlon's has whole names."""
        description = {
            "modality": {"0": "T2", "1": "ADC"},
            "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        }
        cases = find_cases(nnunet(tmp_path, description, names=["a"]))
        assert [list(case.images) for case in cases] == [["T2", "ADC"]]

    def test_the_decathlon_may_end_names_in_four_digits(self, tmp_path):
        description = {
            "modality": {"0": "MRI"},
            "training": [{"image": "./imagesTr/a_0000.nii.gz", "label": "labelsTr/a_0000.nii.gz"}],
        }
        touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a_0000.nii.gz")
        (tmp_path / "dataset.json").write_text(json.dumps(description))
        assert layout_of(tmp_path).name == "Decathlon"
        assert [case.id for case in find_cases(tmp_path)] == ["a_0000"]

    def test_test_images_have_no_label(self, tmp_path):
        touch(nnunet(tmp_path), "imagesTs/c_0000.nii.gz", "imagesTs/c_0001.nii.gz")
        assert [case.label is None for case in find_cases(tmp_path)] == [False, False, True]

    def test_what_is_no_image_is_passed_over(self, tmp_path):
        touch(nnunet(tmp_path), "imagesTr/._a_0000.nii.gz", "imagesTr/a_0000.json",
              "imagesTr/notes.txt", "labelsTr/.DS_Store", "labelsTr/readme.md")  # fmt: skip
        assert [len(case.paths) for case in find_cases(tmp_path)] == [3, 3]

    @pytest.mark.parametrize(
        ("add", "remove", "message"),
        [
            pytest.param([], ["imagesTr/b_0001.nii.gz"], "case b lacks 0001 (ADC)", id="channel"),
            pytest.param(
                [], ["imagesTr/a_0001.nii.gz", "imagesTr/b_0001.nii.gz"],
                "no image in imagesTr is 0001 (ADC)",
                id="a channel that no file has",
            ),
            pytest.param(
                ["imagesTr/a_0002.nii.gz"], [],
                "case a has a_0002.nii.gz beside the channels 0000 T2, 0001 ADC",
                id="a number without a name",
            ),
            pytest.param([], ["labelsTr/a.nii.gz"], "case a lacks labelsTr/a.nii.gz", id="label"),
            pytest.param(
                ["labelsTr/c.nii.gz"], [], "case c lacks 0000 (T2), 0001 (ADC)", id="images"
            ),
            pytest.param(
                ["imagesTs/a_0000.nii.gz", "imagesTs/a_0001.nii.gz"], [],
                "case a is there twice: imagesTr/a_0000.nii.gz, imagesTs/a_0000.nii.gz",
                id="case twice",
            ),
            pytest.param(
                ["imagesTr/c_0000.mha"], [],
                "imagesTr/c_0000.mha does not end in .nii.gz, the file_ending",
                id="another ending",
            ),
            pytest.param(
                ["imagesTr/a_0002.nii.gz"],
                ["imagesTr/b_0001.nii.gz", "labelsTr/a.nii.gz"],
                "case a has a_0002.nii.gz beside the channels 0000 T2, 0001 ADC; "
                "case a lacks labelsTr/a.nii.gz; case b lacks 0001 (ADC)",
                id="all at once",
            ),
        ],
    )  # fmt: skip
    def test_files_that_do_not_fit(self, tmp_path, add, remove, message):
        touch(nnunet(tmp_path), *add)
        for name in remove:
            (tmp_path / name).unlink()
        assert refusal(tmp_path) == f"{tmp_path}: {message}; {EXPECTED}"

    def test_no_images(self, tmp_path):
        (tmp_path / "dataset.json").write_text(json.dumps(CHANNELS))
        assert refusal(tmp_path) == (
            f"{tmp_path}: imagesTr holds no file <id>_0000.nii.gz; {EXPECTED}"
        )

    def test_numbers_alone_are_never_guessed(self, tmp_path):
        nnunet(tmp_path, description=None)
        assert refusal(tmp_path) == (f"{tmp_path}/dataset.json: is missing; {DESCRIPTION}")

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            pytest.param("[", "not valid JSON (Expecting value, line 1)", id="cut off"),
            pytest.param("{}", "channel_names is missing", id="no names"),
            pytest.param('{"channel_names": {"x": "T2"}}', "channel_names.x.[key]: expected a "
                         "whole number, found 'x'", id="no number"),
            pytest.param('{"channel_names": {"0": "T2", "1": "T2"}, "file_ending": 3}',
                         "channel_names: names are used twice: ['T2', 'T2']; "
                         "file_ending: expected text, found 3", id="all at once"),
            pytest.param('{"channel_names": {"10000": "T2"}}',
                         "channel_names: numbers must have four digits at most, found [10000]",
                         id="five digits"),
        ],
    )  # fmt: skip
    def test_a_description_of_something_else(self, tmp_path, content, found):
        nnunet(tmp_path, description=None)
        (tmp_path / "dataset.json").write_text(content)
        assert refusal(tmp_path) == (
            f"{tmp_path}/dataset.json: is damaged or of another version ({found}); {DESCRIPTION}"
        )

    @pytest.mark.parametrize("content", ['{"training": 5}', '{"training": [3, {"image": 4}]}', "7"])
    def test_whatever_a_description_is(self, tmp_path, content):
        nnunet(tmp_path, description=None)
        (tmp_path / "dataset.json").write_text(content)
        assert "dataset.json: is damaged or of another version" in refusal(tmp_path)


class TestBids:
    def test_modalities_by_suffix(self, tmp_path):
        touch(tmp_path, *(f"sub-01/anat/sub-01_{name}.nii.gz" for name in (
            "T1w", "ce-gadolinium_T1w", "T2w", "FLAIR", "PDw", "T2starw", "inv-1_MP2RAGE",
        )), "sub-01/anat/sub-01_T1w.json", "sub-01/func/sub-01_task-rest_bold.nii.gz")  # fmt: skip
        (case,) = find_cases(tmp_path)
        assert layout_of(tmp_path).name == "BIDS"
        assert (case.id, case.subject, case.label) == ("sub-01", "sub-01", None)
        assert {m: s.path.name.split("sub-01_")[1] for m, s in case.images.items()} == {
            "t1": "T1w.nii.gz", "t1ce": "ce-gadolinium_T1w.nii.gz", "t2": "T2w.nii.gz",
            "flair": "FLAIR.nii.gz", "pd": "PDw.nii.gz", "t2star": "T2starw.nii.gz",
        }  # fmt: skip

    def test_a_case_is_a_session(self, tmp_path):
        for session in ("ses-pre", "ses-post"):
            touch(tmp_path, f"sub-01/{session}/anat/sub-01_{session}_T1w.nii")
        touch(tmp_path, "sub-02/anat/sub-02_T1w.nii", "sub-03/func/sub-03_bold.nii", "README")
        assert [(case.id, case.subject) for case in find_cases(tmp_path)] == [
            ("sub-01_ses-post", "sub-01"), ("sub-01_ses-pre", "sub-01"), ("sub-02", "sub-02"),
        ]  # fmt: skip

    def test_the_folder_of_one_subject(self, tmp_path, monkeypatch):
        touch(tmp_path, "sub-01/anat/sub-01_T1w.nii", "sub-02/anat/sub-02_T1w.nii")
        touch(tmp_path, "derivatives/sub-01/anat/sub-01_dseg.nii")
        (case,) = find_cases(tmp_path / "sub-01")
        assert case.label == tmp_path / "derivatives/sub-01/anat/sub-01_dseg.nii"
        monkeypatch.chdir(tmp_path / "sub-01")
        (here,) = find_cases(type(tmp_path)())
        assert here == case

    @pytest.mark.parametrize(
        ("names", "label"),
        [
            pytest.param(["raters/sub-01/anat/sub-01_space-T1w_dseg.nii.gz"], 0, id="pipeline"),
            pytest.param(["sub-01/anat/sub-01_label-lesion_mask.nii.gz"], 0, id="no pipeline"),
            pytest.param(["x/sub-01/anat/sub-01_desc-brain_mask.nii.gz"], None, id="brain mask"),
            pytest.param(["x/sub-01/anat/sub-01_label-GM_probseg.nii.gz"], None, id="probability"),
            pytest.param(["x/sub-02/anat/sub-02_dseg.nii.gz"], None, id="of somebody else"),
        ],
    )  # fmt: skip
    def test_labels_in_derivatives(self, tmp_path, names, label):
        touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", *(f"derivatives/{n}" for n in names))
        (case,) = find_cases(tmp_path)
        assert case.label == (None if label is None else tmp_path / "derivatives" / names[label])

    def test_derivatives_beside_the_raw_data(self, tmp_path):
        touch(tmp_path, "rawdata/sub-01/anat/sub-01_T1w.nii", "rawdata/sub-02/anat/sub-02_T1w.nii")
        touch(tmp_path, *(f"derivatives/x/sub-01/anat/sub-01_{k}.nii" for k in ("dseg",)))
        first, second = find_cases(tmp_path)
        assert first.label == tmp_path / "derivatives/x/sub-01/anat/sub-01_dseg.nii"
        assert second.label is None

    def test_labels_of_sessions(self, tmp_path):
        for session in ("ses-1", "ses-2"):
            touch(tmp_path, f"sub-01/{session}/anat/sub-01_{session}_T1w.nii")
        name = "derivatives/seg/sub-01/ses-2/anat/sub-01_ses-2_dseg.nii"
        touch(tmp_path, name)
        assert [case.label for case in find_cases(tmp_path)] == [None, tmp_path / name]

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            pytest.param(
                "derivatives/fmriprep/sub-01/anat/sub-01_dseg.nii.gz",
                "derivatives/manual/sub-01/anat/sub-01_label-lesion_mask.nii.gz", id="two pipelines"
            ),
            pytest.param(
                "derivatives/fmriprep/sub-01/anat/sub-01_dseg.nii.gz",
                "sub-01/anat/sub-01_label-lesion_roi.nii.gz", id="beside the image"
            ),
            pytest.param(
                "derivatives/fmriprep/sub-01/anat/sub-01_dseg.nii.gz",
                "derivatives/lesions/sub-01/anat/sub-01_label-lesion_roi.nii.gz", id="other suffix"
            ),
            pytest.param(
                "derivatives/fmriprep/sub-01/anat/sub-01_desc-aseg_dseg.nii.gz",
                "derivatives/fmriprep/sub-01/anat/sub-01_dseg.nii.gz", id="one pipeline"
            ),
        ],
    )  # fmt: skip
    def test_nothing_chooses_among_label_maps(self, tmp_path, first, second):
        touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", first, second)
        touch(tmp_path, "derivatives/fmriprep/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
        assert f"case sub-01 has several label maps: {first}, {second}; exp" in refusal(tmp_path)

    def test_nothing_chooses_among_kinds_of_label_maps(self, tmp_path):
        """One of each case, but tissue of one and lesions of the other."""
        touch(tmp_path, *(f"sub-0{n}/anat/sub-0{n}_T1w.nii" for n in (1, 2, 3)))
        touch(tmp_path, *(f"derivatives/lesion/sub-0{n}/anat/sub-0{n}_mask.nii" for n in (1, 3)))
        touch(tmp_path, "derivatives/fmriprep/sub-02/anat/sub-02_dseg.nii")
        assert (
            "label maps are of 2 kinds: derivatives/lesion/*_mask of sub-01, sub-03; "
            "derivatives/fmriprep/*_dseg of sub-02; expected one of each; move the others away"
        ) in refusal(tmp_path)

    def test_acquisitions_are_named_where_they_are_needed(self, tmp_path):
        touch(tmp_path, *(f"sub-01/anat/sub-01_acq-{a}_T1w.nii" for a in ("mprage", "space")))
        touch(tmp_path, "sub-01/anat/sub-01_acq-fast_T2w.nii")
        (case,) = find_cases(tmp_path)
        assert list(case.images) == ["t1_acq-mprage", "t1_acq-space", "t2"]

    def test_an_image_without_acquisition_does_not_go_before_one_with(self, tmp_path):
        touch(tmp_path, "sub-02/anat/sub-02_T1w.nii", "sub-02/anat/sub-02_acq-space_T1w.nii")
        assert "case sub-02 has several images t1: " in refusal(tmp_path)

    @pytest.mark.parametrize("hollow", ["folder", "link"])
    def test_a_subject_that_was_not_fetched_is_not_passed_over(self, tmp_path, hollow):
        touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
        if hollow == "folder":
            (tmp_path / "sub-02").mkdir()
        else:
            (tmp_path / "sub-02").symlink_to("nowhere")
        assert [len(case.images) for case in find_cases(tmp_path)] == [1, 0]

    def test_everything_that_is_not_clear_at_once(self, tmp_path):
        touch(
            tmp_path,
            "sub-01/anat/sub-01_run-1_T1w.nii.gz",
            "sub-01/anat/sub-01_run-2_T1w.nii.gz",
            "sub-02/anat/sub-03_T1w.nii.gz",
            "sub-04/anat/sub-04_T1w.nii.gz",
            "derivatives/a/sub-04/anat/sub-04_dseg.nii.gz",
            "derivatives/b/sub-04/anat/sub-04_dseg.nii.gz",
        )
        assert refusal(tmp_path) == (
            f"{tmp_path}: case sub-01 has several images t1: "
            "sub-01/anat/sub-01_run-1_T1w.nii.gz, sub-01/anat/sub-01_run-2_T1w.nii.gz; "
            "sub-02/anat/sub-03_T1w.nii.gz is not named after its folders; "
            "case sub-04 has several label maps: derivatives/a/sub-04/anat/sub-04_dseg.nii.gz, "
            "derivatives/b/sub-04/anat/sub-04_dseg.nii.gz; "
            "expected one of each; move the others away, or name the files in a dataset table"
        )

    def test_a_link_to_nothing_is_not_passed_over(self, tmp_path):
        touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
        (tmp_path / "sub-01/anat/sub-01_T2w.nii.gz").symlink_to(tmp_path / "not/fetched")
        assert list(find_cases(tmp_path)[0].images) == ["t1", "t2"]

    def test_a_session_without_its_name(self, tmp_path):
        touch(tmp_path, "sub-01/ses-1/anat/sub-01_T1w.nii.gz")
        assert "sub-01/ses-1/anat/sub-01_T1w.nii.gz is not named after its" in refusal(tmp_path)

    def test_one_id_is_no_beginning_of_another(self, tmp_path):
        touch(tmp_path, "sub-1/anat/sub-12_T1w.nii.gz")
        assert "sub-1/anat/sub-12_T1w.nii.gz is not named after its" in refusal(tmp_path)
