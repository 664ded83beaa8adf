"""Label maps as DICOM: masks that are series, and DICOM-SEG; prepared, judged and drawn."""

import json
import os
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

import pydicom

from tests.pairs import evaluate_pairs
from vol3dseg.cli.main import cli
from vol3dseg.config import Config, ModelConfig, load_config
from vol3dseg.datasets.checks import check_case
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_segmentation, read_volume
from vol3dseg.datasets.sources import read_grid
from vol3dseg.errors import DatasetError, FileFormatError, GridError, LabelError
from vol3dseg.formats import read_labels
from vol3dseg.formats.dicom import seg_reading
from vol3dseg.formats.dicom.dicom_volume import place_series, read_stack
from vol3dseg.formats.dicom.seg_reading import (
    classes_by_name,
    classes_by_number,
    read_seg,
)
from vol3dseg.formats.dicom.seg_writing import Algorithm, write_seg
from vol3dseg.formats.dicom.series import choose, find_series
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.quality.contents import read_contents
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet, Segmentation

SHAPE = (16, 12, 9)
MODEL = Algorithm("tiny", "0123")
BACKGROUND = Label(name="background", read=(0,), write=0)


def a_mask(values=(0, 1, 2, 4)):
    """A label map whose first and last slices are empty."""
    array = np.random.default_rng(0).choice(np.array(values, np.int16), SHAPE)
    array[..., (0, -1)] = 0
    return array


def classes(*named):
    """Classes by name and the values that are read, the first of which is written."""
    return LabelSet(
        classes=(
            BACKGROUND,
            *(
                Label(name=n, **{"read_either" if read[1:] else "read": tuple(read)}, write=read[0])
                for n, *read in named
            ),
        )
    )


@pytest.fixture
def patient(tmp_path, dicom_series):
    """A folder with two images and a mask, all series of one grid."""
    folder = tmp_path / "patient"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number, name in ((3, "FLAIR axial"), (4, "T1 axial"), (5, "Mask")):
        array = a_mask() if name == "Mask" else rng.integers(1, 999, SHAPE).astype(np.int16)
        named = {"SeriesNumber": number, "SeriesDescription": name}
        slices = dicom_series(array, step=(0, 0, 6.5), SeriesInstanceUID=f"1.2.3.{number}", **named)
        for k, slice_ in enumerate(slices):
            slice_.save_as(folder / f"{number}-{k}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture
def table(patient, labels):
    """Write a table of the patient with some label; gives its path."""
    series = choose(find_series(patient), "FLAIR*")
    grid = place_series(series).geometry
    segmentation = Segmentation(labels.encode(a_mask(), "mask"), grid, labels)
    places = {"series": ("patient", "Mask"), "seg": ("seg.dcm", ""), "nifti": ("seg.nii.gz", "")}
    write_seg(patient.parent / "seg.dcm", segmentation, series, MODEL)
    nifti.write(patient.parent / "seg.nii.gz", a_mask().astype(np.uint8), grid)

    def write(kind):
        path = patient.parent / f"{kind}.csv"
        path.write_text(
            "id,flair,flair_series,t1,t1_series,label,label_series\n"
            f"x,patient,FLAIR*,patient,4,{','.join(places[kind])}\n"
        )
        return path

    return write


KINDS = ("series", "seg", "nifti")


def run(*words):
    return CliRunner().invoke(cli, list(map(str, words)))


# ---------------------------------------------------------------- segments and classes


@given(st.permutations(["Edema", "necrotic core", "ENHANCING", "edema"]), st.randoms())
def test_names_say_which_class_whatever_case_and_number(labels, names, random):
    spelled = [random.choice([str, str.upper, str.title])(name) for name in names]
    found = classes_by_name(dict(enumerate(spelled, start=1)), labels)
    lower = [name.lower() for name in names]
    assert [labels.names[found[n]] for n in (1, 2, 3, 4)] == lower


def test_where_classes_differ_in_case_alone_it_counts():
    labels = classes(("a", 1), ("A", 2))
    assert classes_by_name({1: "A", 2: "a"}, labels) == {1: 2, 2: 1}
    other = classes(("ab", 1), ("AB", 2))
    assert classes_by_name({1: "Ab"}, other) is None  # nothing is guessed


@given(st.permutations([1, 2, 4]))
def test_numbers_say_which_class_where_no_name_does(labels, numbers):
    segments = {number: f"lesion {number}" for number in numbers}
    assert classes_by_name(segments, labels) is None
    assert classes_by_number(segments, labels) == {1: 1, 2: 2, 4: 3}


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        pytest.param(
            {1: "edema", 2: "liver", 3: "spleen"},
            "segments 2, 3 are not among the classes necrotic core, edema, enhancing; expected "
            "the name of a class for each, in upper or lower case; name segments and classes "
            "alike; their names are 2 'liver', 3 'spleen'",
            id="names of which some are known",
        ),
        pytest.param(
            {1: "liver", 7: "spleen"},
            "segments 7 are not among the classes necrotic core, edema, enhancing, nor their "
            "numbers among the values to read [1, 2, 3, 4]; expected the name of a class "
            "for each, in upper or lower case; name segments and classes alike; their names are "
            "7 'spleen'",
            id="numbers of which some are known",
        ),
        pytest.param(
            {1: "liver", 3: "spleen", 4: "kidney"},
            "holds [4, 3], of which either is 'enhancing'; expected one of them; give each its own "
            "class in labels.classes (BraTS 2024 uses 4 for a resection cavity and 3 for "
            "enhancing tumour), or give both to its `read`",
            id="numbers that are alternatives",
        ),
    ],
)
def test_a_segment_that_is_no_class_is_refused(labels, segments, message):
    def classes_of():
        return classes_by_name(segments, labels) or classes_by_number(segments, labels)

    with pytest.raises(LabelError) as caught:
        classes_of()
    assert str(caught.value) == message


def test_without_a_config_segments_are_called_by_their_numbers():
    labels, classes, _ = seg_reading._classes({3: "DOE^JOHN", 1: "x"}, None)
    assert labels.names == ("background", "segment 1", "segment 3")
    assert classes == {1: 1, 3: 2}
    for count in (0, 255):
        with pytest.raises(
            LabelError,
            match=f"^holds {count} segments; expected 1 to 254 besides the background; export",
        ):
            seg_reading._classes(dict.fromkeys(range(1, count + 1), "x"), None)


def renamed(path, names):
    seg = pydicom.dcmread(path)
    for segment, name in zip(seg.SegmentSequence, names, strict=True):
        segment.SegmentLabel = name
    seg.save_as(path)


def test_a_class_may_have_several_segments(table, labels, tmp_path):
    case = find_cases(table("seg"))[0]
    grid = read_grid(case)
    renamed(case.label, ["Edema", "edema", "enhancing"])
    expected = np.array([0, 2, 2, 0, 3])[a_mask()]  # 1 and 2 are both edema now
    np.testing.assert_array_equal(read_segmentation(case, labels, grid).array, expected)


def test_numbers_are_taken_with_a_note_that_quotes_no_header(table, labels):
    case = find_cases(table("seg"))[0]
    renamed(case.label, ["A", "B", "DOE^JOHN"])
    found = read_segmentation(case, labels, read_grid(case))
    np.testing.assert_array_equal(found.array, labels.encode(a_mask(), "mask"))
    assert [str(note) for note in found.notes] == [
        "no segment has the name of a class; read by number: 1 is necrotic core, 2 is edema, "
        "3 is enhancing"
    ]


# ---------------------------------------------------------------- onto the grid of the image


def test_frames_of_some_slices_come_onto_the_grid_of_the_image(tmp_path, dicom_series):
    """A DICOM-SEG that refers to three slices of nine; the others have no voxels."""
    slices = dicom_series(np.zeros(SHAPE, np.int16), (10, 20, 30), (0, 0, 2.5))
    labels = classes(("tumour", 1))
    for folder, some in (("all", slices), ("some", slices[3:6])):
        (tmp_path / folder).mkdir()
        for k, one in enumerate(some):
            one.save_as(tmp_path / folder / f"{k}.dcm", enforce_file_format=True)
    few = choose(find_series(tmp_path / "some"))
    grid = place_series(few).geometry
    array = np.minimum(a_mask()[..., 3:6], 1).astype(np.uint8)
    write_seg(tmp_path / "seg.dcm", Segmentation(array, grid, labels), few, MODEL)
    whole = place_series(choose(find_series(tmp_path / "all"))).geometry
    found = read_labels(tmp_path / "seg.dcm", labels, whole).array
    np.testing.assert_array_equal(found[..., 3:6], array)
    assert not found[..., (0, 1, 2, 6, 7, 8)].any()


@pytest.mark.parametrize("times", [2, 0.5])
def test_frames_of_larger_or_smaller_voxels_are_refused(table, labels, times):
    """Every second voxel of a finer grid lies where one of a frame does, but is none of it."""
    case = find_cases(table("seg"))[0]
    grid = read_grid(case)
    scaled = grid.affine @ np.diag([times, times, 1, 1])
    other = Geometry(tuple(np.multiply(SHAPE, (4, 4, 1))), scaled)
    with pytest.raises(GridError, match=r"seg\.dcm: frame \d+ does not lie on the grid"):
        read_seg(case.label, labels, other)


def test_alone_it_has_no_grid(table, labels):
    path = find_cases(table("seg"))[0].label
    with pytest.raises(GridError) as caught:
        read_labels(path, labels)
    assert str(caught.value) == (
        f"{path}: is a DICOM-SEG, which does not tell all of its grid; expected the image that it "
        "was drawn on beside it; name both in a dataset table: the image, and the DICOM-SEG as its "
        "label"
    )


def test_a_case_without_images_has_no_grid(table):
    with pytest.raises(DatasetError, match=r"^case x: has no image; expected one, whose grid"):
        read_grid(replace(find_cases(table("seg"))[0], images={}))


def test_a_series_of_several_dicom_seg_is_refused(table, tmp_path, labels):
    path = find_cases(table("seg"))[0].label
    (tmp_path / "segs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "segs" / f"{name}.dcm").write_bytes(path.read_bytes())
    with pytest.raises(FileFormatError, match=r"segs: series 1000: has 2 DICOM-SEG"):
        read_labels(tmp_path / "segs", labels)


# ---------------------------------------------------------------- cases with such labels


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_has_the_same_classes_whatever_its_label_is_kept_in(table, labels, kind):
    case = find_cases(table(kind))[0]
    volume = read_volume(case, ("flair", "t1"))
    found = read_segmentation(case, labels, volume.geometry)
    np.testing.assert_array_equal(found.array, labels.encode(a_mask(), "mask"))
    resampled = read_segmentation(replace(case, label_resampled=True), labels, volume.geometry)
    np.testing.assert_array_equal(resampled.array, found.array)
    contents = read_contents(case, ("flair", "t1"), labels)
    assert (contents.problems, contents.names) == ((), labels.foreground)
    np.testing.assert_array_equal(contents.classes, found.array)


@pytest.mark.parametrize(
    ("kind", "names"),
    [("series", "value"), ("seg", "segment")],
)
def test_inspect_without_a_config(table, kind, names):
    case = find_cases(table(kind))[0]
    contents = read_contents(case, ("flair",), None)
    expected = (1, 2, 3) if kind == "seg" else (1, 2, 4)
    assert contents.names == tuple(f"{names} {n}" for n in expected)
    np.testing.assert_array_equal(np.array([0, *(1, 2, 0, 3)])[a_mask()], contents.classes)


def test_inspect_says_what_is_wrong_with_a_label(table):
    case = replace(find_cases(table("seg"))[0], images={})
    problems = read_contents(case, (), None).problems
    assert "seg.dcm: is a DICOM-SEG, which does not tell all of its grid" in problems[-1]
    several = replace(find_cases(table("series"))[0], label_series=None)
    (problem,) = read_contents(several, ("flair",), None).problems
    assert "patient: holds 3 series; expected one; name it by UID, number or a pattern" in problem


@pytest.mark.parametrize("kind", KINDS)
def test_prepared_alike_whatever_the_label_is_kept_in(table, labels, recipe, tmp_path, kind):
    index = preprocess(
        find_cases(table(kind)),
        tmp_path / "P",
        Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
    )
    assert not index.failed
    (entry,) = index.cases
    counts = np.bincount(labels.encode(a_mask(), "mask").ravel())
    assert list(entry.class_voxels.values()) == counts.tolist()
    with h5py.File(tmp_path / "P" / entry.file) as file:
        assert np.bincount(file["label"][...].ravel()).tolist() == counts.tolist()


def test_a_changed_cell_of_the_label_is_prepared_again(table, labels, recipe, tmp_path):
    cases = find_cases(table("series"))
    done = []
    for series in ("Mask", "Mask", "5"):
        changed = [replace(cases[0], label_series=series)]
        index = preprocess(
            changed,
            tmp_path / "P",
            Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
        )
        done.append((tmp_path / "P" / index.cases[0].file).stat().st_mtime_ns)
    assert done[0] == done[1] < done[2]


@pytest.mark.parametrize("kind", KINDS)
def test_check_finds_nothing_wrong_with_them(table, labels, kind):
    case = find_cases(table(kind))[0]
    assert check_case(case, ("flair", "t1"), voxels=False) == []
    assert check_case(case, ("flair", "t1"), labels) == []
    assert check_case(case, ("flair", "t1"), None) == []


def test_check_says_what_is_wrong_with_them(table, labels, patient, tmp_path):
    path = table("seg")
    renamed(tmp_path / "seg.dcm", ["edema", "liver", "enhancing"])
    case = find_cases(path)[0]
    (finding,) = check_case(case, ("flair", "t1"), labels)
    assert (finding.severity, finding.where) == ("error", str(tmp_path / "seg.dcm"))
    assert finding.found.startswith("segments 2 are not among the classes necrotic core")
    several = replace(case, label=patient)
    (finding,) = check_case(several, ("flair", "t1"), voxels=False)
    assert finding.found.startswith("holds 3 series")


@pytest.fixture
def tumour(shared_data, tmp_path):
    """A real patient in a table, with the mask as one of its series, and as a DICOM-SEG."""
    found = find_series(shared_data / "dicom/glioblastoma")
    placed = place_series(choose(found, "Mask_Tumor"))
    mask, grid = read_stack(placed, "mask"), placed.geometry
    labels = classes(("tumour", 1))
    segmentation = Segmentation(labels.encode(mask, "mask"), grid, labels)
    write_seg(tmp_path / "seg.dcm", segmentation, choose(found, "FLAIR*"), MODEL)
    folder = os.path.relpath(found.folder, tmp_path)
    (tmp_path / "cases.csv").write_text(
        "id,subject,flair,flair_series,t1ce,t1ce_series,label,label_series\n"
        f"a,s,{folder},FLAIR*,{folder},T1post*,{folder},Mask_Tumor\n"
        f"b,s,{folder},FLAIR*,{folder},T1post*,seg.dcm,\n"
    )
    return find_cases(tmp_path / "cases.csv"), labels


def test_a_real_tumour_mask_is_prepared_from_a_table(tumour, tmp_path):
    """Four images and the mask in one folder, slices 6.5 mm apart; the SEG lacks empty slices."""
    cases, labels = tumour
    recipe = Recipe(
        modalities=("flair", "t1ce"), normalisation={"method": "zscore"}, patch_size=(32, 32, 16)
    )
    index = preprocess(
        cases, tmp_path / "P", Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1))
    )
    assert index.failed == {}
    stored = []
    for entry in index.cases:
        assert entry.class_voxels["tumour"] == 6809
        assert entry.source_spacing_mm[2] == pytest.approx(6.5)
        assert (entry.labels_outside, entry.labels_changed) == (0, 0)
        with h5py.File(tmp_path / "P" / entry.file) as file:
            stored.append(file["label"][...])
    assert (stored[0] == 1).sum() == 6809
    np.testing.assert_array_equal(stored[0], stored[1])


def test_a_real_tumour_as_dicom_seg_is_judged_by_the_mask(tumour, tmp_path):
    cases, labels = tumour
    pairs = [(case.id, tmp_path / "seg.dcm", case) for case in cases]
    for scores in evaluate_pairs(pairs, labels):
        found = scores.structures["tumour"]
        assert found["dice"] == found["specificity"] == 1
        assert scores.matrix.tolist() == [[320 * 260 * 24 - 6809, 0], [0, 6809]]


# ---------------------------------------------------------------- scores and pictures


@pytest.fixture
def predictions(table, model_path, tmp_path):
    """Predictions of the patient as DICOM-SEG and as NIfTI."""
    pytest.importorskip("onnxruntime")
    for kind in ("dicom-seg", "nifti"):
        words = ("-o", tmp_path / kind, "--device", "cpu", "--format", kind)
        done = run("predict", model_path, table("nifti"), *words)
        assert done.exit_code == 0, done.output
    return tmp_path


@pytest.mark.parametrize("kind", [*KINDS, "folder"])
def test_dicom_seg_is_judged_as_nifti_is(predictions, table, tmp_path, kind):
    reference = table(kind) if kind in KINDS else tmp_path / "references"
    if kind == "folder":
        reference.mkdir()
        (tmp_path / "seg.nii.gz").rename(reference / "x.nii.gz")
    for made in ("dicom-seg", "nifti"):
        report = tmp_path / f"report-{made}"
        done = run("evaluate", predictions / made, reference, "-o", report)
        assert done.exit_code == 0, done.output
    for name in ("cases.csv", "summary.json", "summary.md"):
        seg, plain = (tmp_path / f"report-{made}" / name for made in ("dicom-seg", "nifti"))
        assert seg.read_bytes() == plain.read_bytes()
    scores = json.loads((tmp_path / "report-nifti/summary.json").read_text())
    assert 0 < scores["mean_foreground_dice"] < 1


def test_that_numbers_were_taken_is_noted_with_the_case(
    predictions, table, recipe, labels, tmp_path
):
    renamed(tmp_path / "seg.dcm", "ABC")
    taken = "1 is necrotic core, 2 is edema, 3 is enhancing"
    words = f"no segment has the name of a class; read by number: {taken}"
    done = run("evaluate", predictions / "nifti", table("nifti"), "-o", tmp_path / "report")
    assert words not in done.output
    path = tmp_path / "other.csv"
    path.write_text(table("nifti").read_text().replace("seg.nii.gz", "seg.dcm"))
    done = run("evaluate", predictions / "nifti", path, "-o", tmp_path / "report")
    assert f"\nnote: case x: reference: {words}\n" in done.output
    index = preprocess(
        find_cases(path),
        tmp_path / "P",
        Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
    )
    assert [note for note in index.cases[0].notes if words in note] != []


def test_two_dicom_seg_without_an_image_are_refused(predictions, tmp_path):
    (tmp_path / "R").mkdir()
    (tmp_path / "seg.dcm").rename(tmp_path / "R/x.dcm")
    done = run("evaluate", predictions / "dicom-seg", tmp_path / "R", "-o", tmp_path / "report")
    assert isinstance(done.exception, GridError)
    said = str(done.exception)
    assert said.startswith(f"{tmp_path}/R/x.dcm: is a DICOM-SEG, which does not tell all of its")
    assert not (tmp_path / "report").exists()


def test_pictures_of_dicom(predictions, table, model_path, patient, tmp_path):
    pytest.importorskip("matplotlib")
    seg = predictions / "dicom-seg/x.dcm"
    words = ("show", patient, seg, tmp_path / "seg.dcm")
    done = run(*words, "-o", tmp_path / "a.png", "--series", "FLAIR*")
    assert done.exit_code == 0, done.output
    several = run(*words, "-o", tmp_path / "b.png")
    assert isinstance(several.exception, FileFormatError)
    assert "patient: holds 3 series; expected one" in str(several.exception)
    assert not (tmp_path / "b.png").exists()
    plain = ("show", patient, predictions / "nifti/x.nii.gz", tmp_path / "seg.nii.gz")
    assert run(*plain, "-o", tmp_path / "c.png", "--series", "FLAIR*").exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    for kind in ("seg", "series"):
        words = ("-o", tmp_path / kind, "--device", "cpu", "--picture", "--format", "dicom-seg")
        done = run("predict", model_path, table(kind), *words)
        assert done.exit_code == 0, done.output
        record = json.loads((tmp_path / kind / "predictions.json").read_text())["cases"]["x"]
        assert (record["picture"], record["picture_note"]) == ("x.png", "")
    assert (tmp_path / "seg/x.png").read_bytes() == (tmp_path / "series/x.png").read_bytes()


def test_resume_notices_another_series_and_a_changed_file(predictions, table, model_path, tmp_path):
    path, made = table("nifti"), ("-o", tmp_path / "dicom-seg", "--format", "dicom-seg")

    def complete(*more):
        done = run("predict", model_path, path, *made, "--device", "cpu", "--resume", *more)
        assert done.exit_code == 0, done.output
        return re.search(r"(\d) of 1 cases are complete", done.output)[1]

    assert complete() == "1"
    before = (tmp_path / "dicom-seg/x.dcm").read_bytes()
    path.write_text(path.read_text().replace("FLAIR*", "T1*"))
    assert [complete(), complete()] == ["0", "1"]
    assert (tmp_path / "dicom-seg/x.dcm").read_bytes() != before
    slice_ = tmp_path / "patient/4-0.dcm"
    os.utime(slice_, ns=(0, 2**62))
    assert complete() == "1"  # the time says nothing of the content
    content = slice_.read_bytes()
    slice_.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert [complete(), complete()] == ["0", "1"]
    assert [complete("--deidentify"), complete("--deidentify")] == ["0", "1"]
    assert b"DOE" not in (tmp_path / "dicom-seg/x.dcm").read_bytes()


def test_the_presets_classes_are_what_segments_are_called():
    for name in ("brats2020", "brats2023"):
        labels = load_config(name).labels
        segments = dict(enumerate(labels.foreground, start=1))
        assert classes_by_name(segments, labels) == {n: n for n in segments}
