"""Whatever goes wrong with one case, foreseen or not: it is named, and the others are done."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from vol3dseg import errors
from vol3dseg.cli import main as command_line
from vol3dseg.datasets import checks
from vol3dseg.datasets.case import ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.over_cases import Workers
from vol3dseg.errors import MemoryLimitError, UnexpectedError, failing_alone
from vol3dseg.inference import batch
from vol3dseg.inference.predicting import predict
from vol3dseg.planning.fingerprint import take_fingerprint
from vol3dseg.preprocessing import prepare_case
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.quality import case_facts
from vol3dseg.reporting import score_predictions
from vol3dseg.reporting.inspection.inspection_report import inspect
from vol3dseg.reporting.score_predictions import evaluate


class Unforeseen(type(Path())):
    """The path of a file that nobody can open, for a reason that nobody has thought of."""

    reason = ZeroDivisionError, "of a library"

    def open(self, *_, **__):
        kind, said = self.reason
        raise kind(said)


class Large(Unforeseen):
    """The path of a file for which there is no memory."""

    reason = MemoryError, "Unable to allocate 3 TiB"


KINDS = pytest.mark.parametrize(
    ("kind", "said"),
    [
        pytest.param(
            Unforeseen,
            r"case Case_002: .* failed \(ZeroDivisionError: of a library; test_one_case_fails.py, "
            r"line \d+\); .*report it",
            id="bug",
        ),
        pytest.param(
            Large, "case Case_002: scan and results .*do not fit into memory", id="memory"
        ),
    ],
)


@pytest.fixture
def spoilt(brats_folder):
    """Return the cases of a folder, in the second of which an image lies at such a path."""

    def spoil(kind):
        first, second, third = find_cases(brats_folder)
        flair = ImageSource(kind(second.images["flair"].path))
        return [first, replace(second, images={**second.images, "flair": flair}), third]

    return spoil


@KINDS
def test_preprocess(kind, said, spoilt, config_path, tmp_path):
    made = preprocess(spoilt(kind), tmp_path / "out", config_path)
    assert [entry.id for entry in made.cases] == ["Case_001", "Case_003"]
    assert made.failed.keys() == {"Case_002"}
    assert_said(said, made.failed["Case_002"])
    found = load_index(tmp_path / "out").tracebacks
    assert found == made.tracebacks
    assert ("line" in found.get("Case_002", "")) == (kind is Unforeseen)


@KINDS
def test_predict(kind, said, spoilt, model_path, tmp_path):
    made = predict(model_path, spoilt(kind), tmp_path / "out")
    assert [bool(of.file) for of in made.cases.values()].count(True) == 2
    assert_said(said, made.cases["Case_002"].error)
    kept = json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]["Case_002"]
    assert ("ZeroDivisionError" in kept["traceback"]) == (kind is Unforeseen)


@KINDS
def test_check(kind, said, spoilt):
    found = checks.check(spoilt(kind), ("flair", "t1"))
    (finding,) = [each for each in found if each.severity == "error"]
    assert_said(said, str(finding))
    assert ("ZeroDivisionError" in finding.traceback) == (kind is Unforeseen)


def test_in_workers(spoilt, config_path, tmp_path):
    cases = [*spoilt(Unforeseen), replace(spoilt(Large)[1], id="Case_004")]
    with Workers(2) as workers:
        made = preprocess(cases, tmp_path / "out", config_path, workers)
        found = checks.check(cases, ("flair", "t1"), executor=workers)
    assert [entry.id for entry in made.cases] == ["Case_001", "Case_003"]
    assert made.failed.keys() == {"Case_002", "Case_004"}
    assert "in open" in made.tracebacks["Case_002"]
    assert [each.case for each in found if each.severity == "error"] == ["Case_002", "Case_004"]


@KINDS
def test_what_a_plan_is_made_from(kind, said, spoilt):
    pytest.importorskip("scipy")
    found = take_fingerprint(spoilt(kind))
    assert [case.case_id for case in found.cases] == ["Case_001", "Case_003"]
    (note,) = [note for note in found.notes if "passed over" in note]
    assert_said(said, note.removeprefix("case Case_002 was passed over: "))


def assert_said(pattern, text):
    (line,) = text.splitlines()
    assert re.match(pattern, line), line


def of_second(function, of):
    """Return the function, but for a case for which it divides by 0."""

    def call(first, *rest, **named):
        if of(first) == "Case_002":
            raise ZeroDivisionError("deep inside")
        return function(first, *rest, **named)

    return call


def test_preprocess_where_it_is_not_for_a_file(brats_folder, config_path, tmp_path, monkeypatch):
    spoilt = of_second(prepare_case._prepared, lambda case: case.id)
    monkeypatch.setattr(prepare_case, "_prepared", spoilt)
    made = preprocess(brats_folder, tmp_path / "out", config_path)
    assert len(made.cases) == 2
    assert "deep inside" in made.failed["Case_002"]
    monkeypatch.undo()
    again = preprocess(brats_folder, tmp_path / "out", config_path)
    assert (len(again.cases), again.failed, again.tracebacks) == (3, {}, {})


def test_predict_where_it_is_not_for_a_file(brats_folder, model_path, tmp_path, monkeypatch):
    spoilt = of_second(batch._predict_case, lambda case: case.id)
    monkeypatch.setattr(batch, "_predict_case", spoilt)
    made = predict(model_path, brats_folder, tmp_path / "out")
    assert "deep inside" in made.cases["Case_002"].traceback
    assert [bool(case.error) for case in made.cases.values()].count(False) == 2


def test_inspect(brats_folder, tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    spoilt = of_second(case_facts.measure_contents, lambda case_id: case_id)
    monkeypatch.setattr(case_facts, "measure_contents", spoilt)
    found = inspect(brats_folder, tmp_path / "out")
    assert found.failed.keys() == {"Case_002"}
    kept = json.loads((tmp_path / "out" / "suspects.json").read_text())
    assert kept["suspects"][0]["case"] == "Case_002"
    assert "deep inside" in kept["tracebacks"]["Case_002"]


@pytest.mark.parametrize("workers", [1, None])
def test_evaluate(workers, brats_folder, model_path, tmp_path, monkeypatch):
    predict(model_path, brats_folder, tmp_path / "P")
    spoilt = of_second(score_predictions.evaluate_case, lambda case_id: case_id)
    monkeypatch.setattr(score_predictions, "evaluate_case", spoilt)
    found = evaluate(tmp_path / "P", brats_folder, tmp_path / "R", workers=workers)
    assert found.cohort.failed.keys() == {"Case_002"}
    kept = json.loads((tmp_path / "R" / "summary.json").read_text())
    assert (kept["cases"], list(kept["not_scored"])) == (2, ["Case_002"])
    assert "deep inside" in kept["tracebacks"]["Case_002"]
    assert "1 of 3 cases are not scored" in (tmp_path / "R" / "summary.md").read_text()
    monkeypatch.setattr(score_predictions, "evaluate_case", lambda *_: 1 / 0)
    with pytest.raises(UnexpectedError, match=r"case Case_001: .*ZeroDivisionError"):
        evaluate(tmp_path / "P", brats_folder, tmp_path / "R", workers=workers)


def test_what_the_command_line_returns(brats_folder, config_path, tmp_path, monkeypatch, capsys):
    spoilt = of_second(prepare_case._prepared, lambda case: case.id)
    monkeypatch.setattr(prepare_case, "_prepared", spoilt)
    words = ["preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", "1"]
    assert ended(words, monkeypatch) == 1
    assert "2 cases prepared, 0 left out, 1 failed" in capsys.readouterr().out


def ended(words, monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # which it sets, and which shall not stay
    monkeypatch.setattr("sys.argv", ["vol3dseg", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return ended.value.code


def test_memory_that_is_used_up_outside_of_any_case_is_one_line(monkeypatch, capsys):
    def lack():
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr(command_line, "cli", lack)
    assert ended([], monkeypatch) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: memory is used up (Unable to allocate 3 TiB); {errors.LESS_MEMORY}"


def test_room_is_given_back_before_it_is_told_that_there_is_none(monkeypatch):
    happened = []

    class Room:
        def __init__(self, *_):
            happened.append("kept")

        def close(self):
            happened.append("given back")

    def lack():
        happened.append("lacks")
        raise MemoryError

    def tell(error):
        happened.append("told")
        raise SystemExit(1)

    monkeypatch.setattr(command_line, "mmap", Room)
    monkeypatch.setattr(command_line, "cli", lack)
    monkeypatch.setattr(command_line, "_fail", tell)
    assert ended([], monkeypatch) == 1
    assert happened == ["kept", "lacks", "given back", "told"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
        ImportError("libx.so: failed to map segment from shared object"),
        SystemError("<ufunc 'not_equal'> returned NULL without setting an exception"),
        SystemError("error return without exception set"),
    ],
    ids=str,
)
def test_memory_that_a_thread_a_process_or_a_library_lacks_is_memory(error):
    with pytest.raises(MemoryLimitError) as raised, failing_alone("case X", "reading"):
        raise error
    assert str(raised.value).startswith("case X: scan and results (reading) do not fit into memory")
    assert raised.value.__cause__ is error


def test_what_is_ours_stays_what_it_is():
    error = MemoryLimitError("too large")
    with pytest.raises(MemoryLimitError) as raised, failing_alone("case X", "reading"):
        raise error
    assert raised.value is error
    assert (error.where, error.traceback) == ("", "")


def test_a_case_may_be_stopped():
    for end in (KeyboardInterrupt, SystemExit):
        with pytest.raises(end), failing_alone("case X", "reading"):
            raise end
