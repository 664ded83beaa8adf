"""Who is judged: every case that is meant has both a prediction and a reference, or is named."""

import json

import numpy as np
import pytest

from vol3dseg.errors import EvaluationError
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.record import CaseRecord, Record
from vol3dseg.reporting.matching import WORTH
from vol3dseg.reporting.score_predictions import evaluate
from vol3dseg.space.geometry import Geometry

GRID = Geometry((2, 2, 3), np.eye(4))


@pytest.fixture
def score(tmp_path, labels):
    """Score label maps of these names, with what predictions.json says, if anything.

    Of a case that is its error, if it has one, or more of what is recorded.
    """

    def score(predictions, references, made=None, parts=None, split=None, **options):
        for folder, names in (("p", predictions), ("r", references)):
            for name in names:
                nifti.write(tmp_path / folder / f"{name}.nii.gz", np.ones(GRID.shape, "u1"), GRID)
        if made is not None:
            cases = {
                name: CaseRecord(error=error)
                if isinstance(error, str) and error
                else CaseRecord(file=f"{name}.nii.gz", **(error or {}))
                for name, error in made.items()
            }
            facts = dict.fromkeys(("model_sha256", "fingerprint", "provider"), "x")
            record = Record(**facts, labels=labels, channels=(), versions={}, cases=cases)
            record.with_parts(parts or {}).save(tmp_path / "p")
        if split is not None:
            (tmp_path / "split.json").write_text(json.dumps(split))
            options["split"] = tmp_path / "split.json"
        found = evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "s", "crops32", **options)
        summary = tmp_path / "s" / "summary.json"
        return found, json.loads(summary.read_text()) if summary.exists() else None

    return score


MISSING = [
    pytest.param("ab", "abc", {}, {"c": "no prediction"}, id="no prediction"),
    pytest.param("abx", "ab", {}, {"x": "no reference"}, id="no reference"),
    pytest.param(
        "ax", "ab", {}, {"x": "no reference", "b": "no prediction"}, id="names differ"
    ),
    pytest.param(
        "a", "ab", {"made": {"a": "", "b": "is damaged"}}, {"b": "prediction failed"}, id="failed"
    ),
    pytest.param(
        "ab", "ab", {"made": {"a": "", "b": "of an older model"}},
        {"b": "prediction failed"}, id="failed beside an older file",
    ),
    pytest.param("a", "abc", {"made": {"a": ""}}, dict.fromkeys("bc", "no prediction"),
                 id="not asked of predict"),
    pytest.param("ab", "ab", {"made": {"a": ""}}, {"b": "not in predictions.json"}, id="foreign"),
    pytest.param(
        "ab", "abc", {"made": dict.fromkeys("abc", "")}, {"c": "no prediction"}, id="file is gone"
    ),
    pytest.param(
        "a", "abd", {"split": {"train": ["a", "b", "c"], "test": ["d"]}},
        {"b": "no prediction", "c": "neither prediction nor reference"}, id="in the part",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("predictions", "references", "options", "missing"), MISSING)
def test_a_case_that_lacks_either_is_refused_or_named(
    score, tmp_path, predictions, references, options, missing
):
    with pytest.raises(EvaluationError, match=r"not every case can be scored .*--only-common") as e:
        score(predictions, references, **options)
    assert not (tmp_path / "s").exists()
    for case, why in missing.items():
        assert case in e.value.found.split(f"{why}: ")[1]
    found, summary = score(predictions, references, **options, only_common=True)
    assert found.cohort.not_scored == missing
    total = len(missing) + sum(summary.cases for summary in found.summaries.values())
    assert f"{len(missing)} of {total} cases are not scored" in " ".join(found.notes)
    if summary:
        assert summary["not_scored"] == missing
        assert (
            f"Scores over {total - len(missing)} of {total} cases"
            in (tmp_path / "s" / "summary.md").read_text()
        )


def test_with_nothing_in_common_nothing_is_scored(score):
    with pytest.raises(EvaluationError, match="no case can be scored"):
        score("a", "b", only_common=True)


@pytest.mark.parametrize("made", [None, {"a": "", "b_probabilities": ""}], ids=str)
def test_a_name_of_ours_is_free(score, made):
    names = ("a", "b_probabilities")
    found, _ = score(names, names, made)
    assert [case.case_id for case in found.cases["all"]] == list(names)


def test_probabilities_that_predict_wrote_are_no_label_maps(score):
    made = {"a": {"beside": {"a_probabilities.nii.gz": "", "a.png": ""}}}
    found, _ = score(("a", "a_probabilities"), "a", made)
    assert [case.case_id for case in found.cases["all"]] == ["a"]


PARTS = {"train": ("a",), "test": ("b",)}
MIXED = "The means mix parts of a split (1 train, 1 test)"


def test_training_cases_among_those_scored_are_said(score, tmp_path):
    found, summary = score("ab", "abc", dict.fromkeys("ab", ""), PARTS)
    others, mixed = found.notes
    assert others.startswith("1 of the references are not of the parts of the split")
    assert mixed.startswith(MIXED)
    assert summary["parts"] == {"train": ["a"], "test": ["b"]}
    assert MIXED in (tmp_path / "s" / "summary.md").read_text().replace("\\", "")


def test_one_part_is_said_to_be_that(score):
    assert score("a", "a", {"a": ""}, {"train": "a"})[0].notes == (WORTH["train"],)
    assert score("a", "a", {"a": ""}, {"test": "a"})[0].notes == ()


def test_another_split_than_that_of_predict_is_refused(score):
    made = dict.fromkeys("ab", "")
    with pytest.raises(EvaluationError, match=r"split\.json: puts b into train, not test"):
        score("ab", "ab", made, PARTS, split={"train": ["b"], "test": ["a"]})
    found, _ = score("ab", "ab", made, PARTS, split=PARTS)
    assert found.cohort_of("train").parts == {"train": ("a",)}


def test_a_file_that_the_record_does_not_name_is_passed_over_aloud(score, tmp_path):
    nifti.write(tmp_path / "p" / "a.nii", np.zeros(GRID.shape, "u1"), GRID)
    found, summary = score("a", "a", {"a": ""})
    note = "a.nii is passed over: predictions.json names another"
    assert note in found.notes
    assert note in summary["notes"]


def test_what_the_model_was_trained_on_is_known_without_a_split(score):
    made = {"a": {"part": "train"}, "b": {"part": "test"}, "c": {}}
    with pytest.raises(EvaluationError, match="no prediction: d"):  # no split said who is meant
        score("abc", "abcd", made)
    found, summary = score("abc", "abc", made, only_common=True)
    assert "(1 train, 1 test, 1 others)" in found.notes[-1]
    assert summary["parts"] == {"train": ["a"], "test": ["b"]}
    with pytest.raises(EvaluationError, match="puts b into train, not test"):
        score("abc", "abc", made, split={"train": ["b", "c"], "test": ["a"]}, only_common=True)
