import csv
import json
import math
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.pairs import evaluate_pairs
from vol3dseg.datasets.case import Case
from vol3dseg.errors import (
    DatasetError,
    EvaluationError,
    FileFormatError,
    GridError,
    LabelError,
    MemoryLimitError,
    MissingExtraError,
)
from vol3dseg.evaluation.judging import Judging
from vol3dseg.evaluation.overlap import METRICS
from vol3dseg.evaluation.scoring import describe, evaluate_case, summarise
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.reporting import score_predictions
from vol3dseg.reporting.score_files import read_part
from vol3dseg.reporting.score_predictions import evaluate
from vol3dseg.reporting.score_report import Evaluation, case_table, write_report
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation

GRID = Geometry((2, 2, 3), np.diag([1.0, 2.0, 5.0, 1.0]))  # voxels of 10 mm^3 = 0.01 ml
CORE, EDEMA, RIM = 1, 2, 3


def segmentation(values, labels, grid=GRID):
    return Segmentation(np.array(values, np.uint8).reshape(grid.shape), grid, labels)


def judged(name, reference, prediction, labels, empty="undefined"):
    maps = (segmentation(values, labels) for values in (reference, prediction))
    return evaluate_case(name, *maps, Judging(empty))


@pytest.fixture
def case_a(labels):
    reference = [0, 0, 0, 0, CORE, CORE, EDEMA, EDEMA, EDEMA, EDEMA, RIM, RIM]
    prediction = [0, 0, 0, 0, CORE, RIM, EDEMA, EDEMA, EDEMA, 0, RIM, RIM]
    return judged("A", reference, prediction, labels)


@pytest.fixture
def case_b(labels):
    """No core anywhere; edema missed; rim found."""
    return judged("B", [0] * 10 + [EDEMA, RIM], [0] * 11 + [RIM], labels)


def test_classes_and_regions_by_hand(case_a):
    dice = {name: structure["dice"] for name, structure in case_a.structures.items()}
    assert dice == {
        "necrotic core": 2 / 3,
        "edema": 6 / 7,
        "enhancing": 4 / 5,
        "whole tumour": 14 / 15,
        "tumour core": 1,  # core taken for rim is still core and rim together
        "enhancing tumour": 4 / 5,
    }


def test_volumes_are_in_ml(case_a):
    edema = case_a.structures["edema"]
    assert edema["reference_ml"] == pytest.approx(0.04)
    assert edema["prediction_ml"] == pytest.approx(0.03)


def test_volumes_do_not_depend_on_obliqueness(labels):
    turn = np.array([[0.6, -0.8, 0, 7], [0.8, 0.6, 0, -3], [0, 0, 1, 4], [0, 0, 0, 1]])
    grid = Geometry(GRID.shape, turn @ GRID.affine)
    one = segmentation([EDEMA] * 12, labels, grid)
    assert evaluate_case("x", one, one).structures["edema"]["reference_ml"] == pytest.approx(0.12)


@given(hnp.arrays(np.uint8, (2, 12), elements=st.integers(0, 3)), st.integers(0, 2))
def test_flipping_both_with_their_affine_leaves_scores(labels, maps, axis):
    flipped = np.eye(4)
    flipped[axis, axis], flipped[axis, 3] = -1, GRID.shape[axis] - 1
    grid = Geometry(GRID.shape, GRID.affine @ flipped)
    here = [segmentation(m, labels) for m in maps]
    there = [segmentation(np.flip(s.array, axis), labels, grid) for s in here]
    one, other = evaluate_case("x", *here), evaluate_case("x", *there)
    for name in one.structures:
        ours, theirs = one.structures[name], other.structures[name]
        np.testing.assert_allclose(_numbers(ours), _numbers(theirs), rtol=1e-12)


def _numbers(structure):
    return list(structure.values())


def _moved(x_mm):
    affine = GRID.affine.copy()
    affine[0, 3] += x_mm
    return affine


def test_other_grids_are_refused_naming_both(labels):
    moved = Geometry(GRID.shape, _moved(9))
    one, other = segmentation([0] * 12, labels), segmentation([0] * 12, labels, moved)
    with pytest.raises(GridError, match=r"case X: .*from \(9, 0, 0\) mm.*from \(0, 0, 0\) mm"):
        evaluate_case("X", one, other)


def test_rounding_of_affines_in_files_is_no_other_grid(labels):
    one = segmentation([EDEMA] * 12, labels)
    other = segmentation([EDEMA] * 12, labels, Geometry(GRID.shape, _moved(1e-4)))
    assert evaluate_case("x", one, other).structures["edema"]["dice"] == 1


def test_other_classes_are_refused(labels):
    swapped = labels.model_copy(update={"classes": tuple(labels.classes[n] for n in (0, 2, 1, 3))})
    with pytest.raises(EvaluationError, match=r"case X: .*read both with one label set"):
        evaluate_case("X", segmentation([0] * 12, labels), segmentation([0] * 12, swapped))


def test_a_region_that_bears_the_name_of_another_class_is_refused():
    labels = LabelSet(
        classes=[{"name": n, "read": [v], "write": v} for v, n in enumerate(["bg", "rim", "core"])],
        regions={"rim": ("rim", "core")},
    )
    with pytest.raises(EvaluationError, match=r"'rim'.*name of its own"):
        judged("X", [0] * 12, [0] * 12, labels)


def test_summary_leaves_out_what_is_undefined(case_a, case_b, labels):
    summary = summarise([case_a, case_b])
    assert summary.cases == 2
    assert summary.foreground == ("necrotic core", "edema", "enhancing")
    core, edema = (summary.statistics[n]["dice"] for n in ("necrotic core", "edema"))
    assert (core.cases, core.mean) == (1, 2 / 3)
    assert math.isnan(core.std)
    assert (edema.cases, edema.mean, edema.median) == (2, 3 / 7, 3 / 7)
    assert edema.std == pytest.approx((6 / 7) / math.sqrt(2))
    assert summary.statistics["edema"]["precision"].cases == 1  # of A alone: B predicts none
    assert summary.mean_foreground_dice == pytest.approx((2 / 3 + 3 / 7 + 9 / 10) / 3)


def test_summary_by_the_rule_one(labels):
    case = judged("B", [0] * 10 + [EDEMA, RIM], [0] * 11 + [RIM], labels, empty="one")
    summary = summarise([case])
    assert summary.empty == "one"
    assert summary.mean_dice("necrotic core") == 1
    assert summary.mean_dice("edema") == 0
    assert math.isnan(summary.pooled["pooled_dice_necrotic_core"])


def test_a_class_that_no_case_has_has_no_mean(case_b):
    summary = summarise([case_b])
    assert summary.mean_dice("necrotic core") is None
    assert summary.mean_foreground_dice == pytest.approx((0 + 1) / 2)


def test_without_any_class_there_is_no_mean(labels):
    assert summarise([judged("E", [0] * 12, [0] * 12, labels)]).mean_foreground_dice is None


def test_a_summary_of_nothing_is_refused():
    with pytest.raises(EvaluationError, match="no cases"):
        summarise([])


def test_cases_by_different_rules_are_not_summed_up(case_a, labels):
    other = judged("O", [0] * 12, [0] * 12, labels, empty="one")
    with pytest.raises(EvaluationError, match=r"A and O .*alike"):
        summarise([case_a, other])


STATISTICS = [
    pytest.param([1.0, 2.0, 6.0], (3, 3, 2, math.sqrt(7)), id="three"),
    pytest.param([0.5, math.nan], (1, 0.5, 0.5, math.nan), id="one is defined"),
    pytest.param([math.nan], (0, math.nan, math.nan, math.nan), id="none is defined"),
    pytest.param([], (0, math.nan, math.nan, math.nan), id="none"),
]


@pytest.mark.parametrize(("values", "expected"), STATISTICS)
def test_statistics(values, expected):
    statistics = describe(values)
    found = (statistics.cases, statistics.mean, statistics.median, statistics.std)
    np.testing.assert_allclose(found, expected)


def test_files_are_read_by_their_values(tmp_path, labels):
    """The prediction writes enhancing as 4, the reference as 3."""
    nifti.write(tmp_path / "p.nii.gz", np.full(GRID.shape, 4, np.uint8), GRID)
    nifti.write(tmp_path / "r.nii", np.full(GRID.shape, 3, np.float32), GRID)
    pairs = [("X", tmp_path / "p.nii.gz", Case("X", "X", {}, tmp_path / "r.nii"))]
    (case,) = evaluate_pairs(pairs, labels)
    assert case.structures["enhancing"]["dice"] == 1
    assert case.empty == "undefined"
    assert evaluate_pairs(pairs, labels, Judging("one"))[0].empty == "one"


def test_judging_files_takes_what_reading_them_takes(tmp_path, labels):
    """An int16 map on its way to uint8, beside one that was read: 4 bytes a voxel; it was 18."""
    grid = Geometry((96, 96, 128), np.eye(4))
    array = np.random.default_rng(0).integers(0, 4, grid.shape, np.uint8)
    nifti.write(tmp_path / "p.nii", array, grid)
    nifti.write(tmp_path / "r.nii", array[::-1].astype(np.int16), grid)
    pairs = [("X", tmp_path / "p.nii", Case("X", "X", {}, tmp_path / "r.nii"))]
    evaluate_pairs(pairs, labels)  # imports what reading needs
    tracemalloc.start()
    evaluate_pairs(pairs, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * array.size


def test_bad_files_are_named(tmp_path, labels):
    good, bad, none = (tmp_path / name for name in ("good.nii", "bad.nii", "none.nii"))
    nifti.write(good, np.zeros(GRID.shape, np.uint8), GRID)
    nifti.write(bad, np.full(GRID.shape, 9, np.uint8), GRID)
    with pytest.raises(LabelError, match=r"bad\.nii: holds label values 9 \("):
        evaluate_pairs([("X", good, Case("X", "X", {}, bad))], labels)
    with pytest.raises(FileFormatError, match=r"none\.nii: does not exist"):
        evaluate_pairs([("X", none, Case("X", "X", {}, good))], labels)
    with pytest.raises(
        DatasetError, match="case X: has no label map; expected one; add it, or leave"
    ):
        evaluate_pairs([("X", good, Case("X", "X", {}))], labels)


def test_a_pair_that_does_not_fit_into_memory_is_named(tmp_path, labels, monkeypatch):
    def full(*args):
        raise MemoryError

    monkeypatch.setattr(score_predictions, "_read_pair", full)
    pairs = [("X", tmp_path / "p.nii", Case("X", "X", {}, tmp_path / "r.nii"))]
    with pytest.raises(MemoryLimitError, match="case X: the two label maps do not fit into mem"):
        evaluate_pairs(pairs, labels)


def refuse_constants(name):
    raise AssertionError(f"JSON has no {name}")


def test_report(tmp_path, case_a, case_b):
    cases = [case_a, case_b]
    write_report(tmp_path / "report", cases, summarise(cases))
    folder = tmp_path / "report"
    assert {p.name for p in folder.glob("[!.]*")} == {"cases.csv", "summary.json", "summary.md"}

    with (folder / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["structure"]) for row in rows] == [
        (case.case_id, name) for case in cases for name in case.structures
    ]
    assert (rows[0]["dice"], rows[0]["reference_ml"]) == ("0.666667", "0.020000")
    assert rows[6]["dice"] == ""  # the core of B, which neither map has
    assert rows[7]["dice"] == "0.000000"  # its edema, which only the reference has

    text = (folder / "summary.json").read_text()
    summary = json.loads(text, parse_constant=refuse_constants)
    assert summary["cases"] == 2
    assert summary["scores"]["A"]["edema"]["dice"] == 6 / 7
    assert summary["scores"]["B"]["necrotic core"]["dice"] is None
    assert summary["empty_masks"]["rule"] == "undefined"
    assert summary["structures"]["edema"]["dice"]["cases"] == 2
    assert summary["mean_foreground"]["dice"] == summary["mean_foreground_dice"]
    assert summary["pooled"]["pooled_accuracy"] == 21 / 24

    table = (folder / "summary.md").read_text()
    assert "# Scores over 2 cases" in table
    assert "| necrotic core | 1 | 0.6667 |" in table
    assert summary["empty_masks"]["meaning"] in table
    assert "| pooled_accuracy | 0.8750 |" in table


def test_every_metric_stands_in_every_table(tmp_path, case_a):
    summary = summarise([case_a])
    write_report(tmp_path, [case_a], summary)
    header = (tmp_path / "cases.csv").read_text().splitlines()[0].split(",")
    assert header == [
        "case", "structure", *(metric.name for metric in METRICS), "volume_error",
        "reference_ml", "prediction_ml",
    ]  # fmt: skip
    table = (tmp_path / "summary.md").read_text()
    data = json.loads((tmp_path / "summary.json").read_text())
    per_case = dict(case_table(Evaluation({"all": (case_a,)}, {"all": summary})).rows)
    for metric in METRICS:
        assert metric.title in table.splitlines()[2]
        assert f"| pooled_{metric.name} |" in table
        assert metric.name in data["structures"]["edema"]
        assert metric.name in data["scores"]["A"]["edema"]
        assert f"{metric.title}, mean of classes" in per_case


def test_report_of_undefined_scores_has_nulls_and_dashes(tmp_path, labels):
    case = judged("E", [0] * 12, [0] * 12, labels)
    write_report(tmp_path, [case], summarise([case]))
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse_constants)
    assert summary["mean_foreground_dice"] is None
    assert summary["structures"]["edema"]["dice"] == {
        "cases": 0, "mean": None, "median": None, "std": None, "low": None, "high": None,
    }  # fmt: skip
    table = (tmp_path / "summary.md").read_text()
    assert "# Scores over 1 case\n" in table
    assert "| edema | 0 | - | - |" in table
    assert "nan" not in table


def test_report_states_the_rule_one(tmp_path, labels):
    case = judged("E", [0] * 12, [0] * 12, labels, empty="one")
    write_report(tmp_path, [case], summarise([case]))
    rule = json.loads((tmp_path / "summary.json").read_text())["empty_masks"]
    assert rule["rule"] == "one"
    assert "sensitivity and surface Dice count as 1" in rule["meaning"]
    assert rule["meaning"] in (tmp_path / "summary.md").read_text()


def test_every_row_of_a_table_has_as_many_cells(tmp_path, case_a):
    write_report(tmp_path, [case_a], summarise([case_a]))
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert {line.count("|") for line in lines if line.startswith("|")} == {3, 9}


@pytest.fixture
def folders(tmp_path, labels):
    """Two predictions beside their references, and a config that names the labels."""
    for name, shift in (("a", 0), ("b", 1)):
        array = np.zeros(GRID.shape, np.uint8)
        array[0] = 2
        nifti.write(tmp_path / "references" / f"{name}.nii.gz", array, GRID)
        nifti.write(tmp_path / "predictions" / f"{name}.nii.gz", np.roll(array, shift, 0), GRID)
    return str(tmp_path / "predictions"), str(tmp_path / "references")


def test_folders_are_scored_from_python_and_nothing_is_written_unless_asked(folders, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    found = evaluate(*folders, config="crops32")
    assert sorted(tmp_path.rglob("*")) == before
    assert found.summaries["all"].statistics["edema"]["dice"].mean == 1 / 2
    assert [case.case_id for case in found.cases["all"]] == ["a", "b"]
    assert found.notes == ()
    evaluate(*folders, tmp_path / "report", config="crops32")
    assert (tmp_path / "report" / "summary.json").is_file()


def test_parts_are_scored_from_python(folders, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": ["a"], "test": ["b", "c"]}))
    split = str(tmp_path / "split.json")
    with pytest.raises(EvaluationError, match="neither prediction nor reference: c"):
        evaluate(*folders, config="crops32", split=split)
    found = evaluate(*folders, config="crops32", split=split, empty="one", only_common=True)
    dice = {part: s.statistics["edema"]["dice"].mean for part, s in found.summaries.items()}
    assert dice == {"train": 1, "test": 0}
    assert found.split.test == ("b", "c")
    assert found.summaries["train"].mean_dice("enhancing") == 1


def test_without_a_record_or_a_config_nobody_names_the_labels(folders):
    with pytest.raises(EvaluationError, match=r"predictions\.json: is missing; .*--config"):
        evaluate(*folders)


def test_scores_are_read_back_as_they_were_written(tmp_path, case_a, case_b):
    cases = [case_a, case_b]
    summary = summarise(cases)
    write_report(tmp_path, cases, summary)
    read = read_part(tmp_path, "test")
    assert (read.cases, read.structures) == (("A", "B"), summary.names)
    assert read.empty == summary.empty
    np.testing.assert_equal(dict(read.pooled), dict(summary.pooled))
    for name in summary.names:
        for case in cases:
            written = case.structures[name]["dice"]
            np.testing.assert_allclose(read.dice[name][case.case_id], written, atol=1e-6)


def test_without_what_measures_distances_there_is_overlap_and_a_note(
    folders, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "edt", None)
    found = evaluate(*folders, tmp_path / "out", config="crops32")
    scores = found.cases["all"][0].structures["edema"]
    assert "dice" in scores
    assert "hd95_mm" not in scores
    said = "Distances and surface Dice are left out: edt is not installed; install it with: pip"
    assert any(said in note for note in found.notes)
    assert said in (tmp_path / "out" / "summary.md").read_text()
    for asked in ({"surface": "area"}, {"lesions": "plain"}):
        with pytest.raises(MissingExtraError, match=r"vol3dseg\[evaluate\]"):
            evaluate(*folders, config="crops32", **asked)
    assert not evaluate(*folders, config="crops32", surface="none").notes


def test_lesions_are_counted_by_their_volume(folders, tmp_path):
    """Two of 0.06 ml, of which one was missed: its prediction lies beside it."""
    pytest.importorskip("edt")
    evaluate(*folders, tmp_path / "out", config="crops32", lesions="plain")
    table = (tmp_path / "out" / "summary.md").read_text()
    assert "| lesions found | 0 to 0.1 ml | 0.1 to 1 ml | 1 to 10 ml | above 10 ml |" in table
    assert "| edema | 1 of 2 | - | - | - |" in table


def test_a_rule_that_is_none_is_refused(folders):
    with pytest.raises(
        EvaluationError, match=r"empty='zero' is no rule for empty masks; expected undefined, one, "
    ):
        evaluate(*folders, config="crops32", empty="zero")


def test_a_reference_is_known_by_its_classes_however_its_axes_lie(labels):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 4, (5, 6, 7)).astype(np.uint8)
    grid = Geometry(array.shape, np.diag([1.0, 2.0, 3.0, 1.0]))
    affine = np.array([[0, -1.0, 0, 4], [2, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    turned = np.ascontiguousarray(np.flip(array, 0).swapaxes(0, 1))
    other = array.copy()
    other[0, 0, 0], other[4, 5, 6] = other[4, 5, 6], other[0, 0, 0] + 1 & 3

    def known(voxels, where):
        segmentation = Segmentation(voxels, where, labels)
        return evaluate_case("x", segmentation, segmentation).reference

    assert known(array, grid) == known(turned, Geometry(turned.shape, affine))
    assert known(other, grid) != known(array, grid)
