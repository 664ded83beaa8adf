"""Scores by part of a split: who is in which part, and two tables that nobody takes for one."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.datasets.splits import PARTS, Split
from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.scoring import evaluate_case, summarise
from vol3dseg.reporting.matching import Cohort, group_by_part
from vol3dseg.reporting.score_report import (
    NOT_COMPARABLE,
    Evaluation,
    case_table,
    parts_markdown,
    pooled_table,
    write_evaluation,
    write_report,
)
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Segmentation

GRID = Geometry((2, 2, 3), np.eye(4))
SPLIT = Split(train=("a", "b", "c"), validation=("d",), test=("e",))


def judged(name, found, labels):
    """Edema of four voxels, of which `found` are found."""
    maps = np.zeros((2, 12), np.uint8)
    maps[0, :4] = maps[1, :found] = 2
    pair = (Segmentation(m.reshape(GRID.shape), GRID, labels) for m in maps)
    return evaluate_case(name, *pair)


@pytest.fixture
def cases(labels):
    """Two of three training cases, and the validation case."""
    return {
        "train": [judged("a", 4, labels), judged("b", 2, labels)],
        "validation": [judged("d", 1, labels)],
    }


@pytest.fixture
def found(cases):
    parts = {"train": ("a", "b"), "validation": ("d",)}
    cohort = Cohort({"c": "no prediction"}, parts)
    return Evaluation(cases, {part: summarise(of) for part, of in cases.items()}, SPLIT, cohort)


@given(st.lists(st.sampled_from("abcde"), unique=True, min_size=1))
def test_each_case_is_in_its_part_in_the_order_given(names):
    groups = group_by_part(names, SPLIT, "split.json")
    assert [part for part in PARTS if part in groups] == list(groups)
    for part, found in groups.items():
        assert list(found) == [name for name in names if name in SPLIT.part(part)]
        assert found
    assert sum(map(len, groups.values())) == len(names)


def test_a_prediction_in_no_part_is_named():
    with pytest.raises(EvaluationError, match=r"split\.json: .* in no part: x, y; .*--split"):
        group_by_part(["a", "x", "y"], SPLIT, "split.json")


def test_a_part_without_predictions_is_left_out_and_said(found):
    assert found.without_predictions == ("test",)
    assert "left out: test." in parts_markdown(found)
    whole = replace(found, split=Split(train=SPLIT.train, validation=SPLIT.validation))
    assert whole.without_predictions == ()
    assert "left out: " not in parts_markdown(whole)
    assert replace(found, split=None).without_predictions == ()


def test_scores_per_case_side_by_side(found):
    rows = {name: cells for name, *cells in case_table(found).rows}
    assert rows["cases"] == ["2 of 3", "1"]
    spread = ((1 - 2 / 3) / 2) * 2**0.5
    both, one = rows["Dice, edema"]
    assert both == f"{(1 + 2 / 3) / 2:.4f} ± {spread:.4f} [{2 / 3:.4f}, {1:.4f}]"
    assert one == "0.4000"
    assert rows["Dice, enhancing"] == ["- (0)", "- (0)"]
    assert rows["sensitivity, mean of classes"] == [
        "0.7500 (1 of 3 classes)",
        "0.2500 (1 of 3 classes)",
    ]
    whole = replace(found, split=None, cohort=Cohort())
    assert case_table(whole).rows[0] == ("cases", "2", "1")


def test_pooled_scores_have_names_of_their_own(found):
    rows = {name: cells for name, *cells in pooled_table(found.summaries).rows}
    assert rows.pop("cases") == ["2", "1"]
    assert all(name.startswith("pooled_") for name in rows)
    assert rows["pooled_accuracy"] == [f"{22 / 24:.4f}", f"{9 / 12:.4f}"]
    assert rows["pooled_dice_edema"] == [f"{12 / 14:.4f}", "0.4000"]


def test_the_report_says_that_the_tables_are_not_comparable(found):
    text = parts_markdown(found)
    assert (
        text.index("## Scores per case") < text.index("## Pooled scores") < text.index("| pooled_")
    )
    assert NOT_COMPARABLE in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {4}
    assert "| score | train | validation |" in tables


def test_files_of_an_evaluation_without_parts_are_not_left_beside_them(cases, found, tmp_path):
    write_report(tmp_path, cases["train"], found.summaries["train"])
    write_evaluation(tmp_path, found)
    assert {p.name for p in tmp_path.glob("[!.]*")} == {"summary.md", "train", "validation"}


def test_each_part_has_a_report_of_its_own(cases, found, tmp_path):
    write_evaluation(tmp_path, found)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*") if path.is_file()}
    names = ("cases.csv", "summary.json", "summary.md")
    assert files == {"summary.md"} | {f"{p}/{n}" for p in ("train", "validation") for n in names}
    with (tmp_path / "train" / "cases.csv").open(newline="") as file:
        assert {row["case"] for row in csv.DictReader(file)} == {"a", "b"}
