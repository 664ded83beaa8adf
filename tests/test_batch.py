"""What a prediction may write over, and what it may not."""

import errno
import os
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from vol3dseg.cli.main import cli
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.signature import Signature, is_current, signature
from vol3dseg.errors import MemoryLimitError, OutputError
from vol3dseg.inference import batch
from vol3dseg.inference import predictor as predictor_module
from vol3dseg.inference.batch import predict_cases
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.output_files import PredictOptions
from vol3dseg.inference.prediction import Origin
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import CaseRecord, Record, load_record
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.model.model_file import read_model

MODALITIES = ("flair", "t1")


@pytest.fixture
def predictor(manifest):
    def background(patches):
        score = np.zeros((len(patches), len(manifest.labels.names), *patches.shape[2:]), np.float32)
        score[:, 0] = 1
        return score

    return Predictor(background, manifest)


@pytest.mark.parametrize("name", ["{}.nii.gz", "{}_probabilities.nii.gz", "{}.png"])
def test_a_scan_is_never_written_over(name, predictor, record, brats_folder):
    case = find_cases(brats_folder)[0]
    scan = case.images["flair"].path
    taken = scan.rename(scan.with_name(name.format(case.id)))
    images = {**case.images, "flair": type(case.images["flair"])(taken)}
    content = taken.read_bytes()
    moved = type(case)(case.id, case.subject, images)
    with pytest.raises(OutputError, match=f"{taken.name}, which inputs.*another output"):
        predict_cases([moved], predictor, scan.parent, record)
    assert taken.read_bytes() == content


def test_a_new_segmentation_keeps_no_picture_of_an_older_one(
    predictor, record, brats_folder, tmp_path
):
    folder = tmp_path / "out"
    cases = find_cases(brats_folder)[:1]
    options = PredictOptions(probabilities=True, draw=lambda path, *_: path.write_bytes(b"") or "")
    predict_cases(cases, predictor, folder, record, options)
    names = {path.name.removeprefix(cases[0].id) for path in folder.glob("[!.]*")}
    assert names == {".nii.gz", "_probabilities.nii.gz", ".png", "predictions.json"}
    predict_cases(cases, predictor, folder, record)
    names = {path.name.removeprefix(cases[0].id) for path in folder.glob("[!.]*")}
    assert names == {".nii.gz", "predictions.json"}


def test_a_case_for_which_no_memory_is_left_fails_before_it_is_read(
    predictor, record, brats_folder, tmp_path, monkeypatch
):
    refused = [False, True, False]

    def require_memory():
        if refused.pop(0):
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(batch, "require_memory", require_memory)
    found = predict_cases(find_cases(brats_folder), predictor, tmp_path / "out", record)
    one, two, three = (case.error for case in found.cases.values())
    assert (one, three, refused) == ("", "", [])
    assert two.startswith("case Case_002: scan and results (reading) do not fit into memory")


def test_a_case_that_fails_is_named_and_the_rest_goes_on(predictor, record, brats_folder, tmp_path):
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(b"")
    cases = find_cases(brats_folder)
    found = predict_cases(cases, predictor, tmp_path / "out", record)
    assert [bool(found.cases[case.id].error) for case in cases] == [False, True, False]
    assert "the file is empty" in found.cases["Case_002"].error
    assert load_record(tmp_path / "out") == found


@pytest.mark.parametrize("ahead", [True, False])
def test_reading_ahead_changes_nothing(ahead, predictor, record, brats_folder, tmp_path):
    cases, planner = find_cases(brats_folder), Planner(predictor.manifest, bytes_per_voxel=1)
    limit_mb = None if ahead else 1e5
    predictor = Predictor(predictor.backend, predictor.manifest, planner, limit_mb)
    found = predict_cases(cases, predictor, tmp_path, record)
    assert list(found.cases) == [case.id for case in cases]
    for case in cases:
        assert found.is_complete(case, tmp_path, MODALITIES)


def test_complete_is_what_is_there_byte_for_byte(predictor, record, brats_folder, tmp_path):
    cases = find_cases(brats_folder)
    found = predict_cases(cases, predictor, tmp_path, record)
    (tmp_path / "Case_001.nii.gz").unlink()
    (tmp_path / "Case_002.nii.gz").write_bytes(b"else")
    complete = [found.is_complete(case, tmp_path, MODALITIES) for case in cases]
    assert complete == [False, False, True]
    assert not found.is_complete(replace(cases[2], id="Case_004"), tmp_path, MODALITIES)
    assert load_record(tmp_path).is_complete(cases[2], tmp_path, MODALITIES)


@pytest.mark.parametrize(("given", "other"), [("x.hdr", "x.img"), ("x.img", "x.hdr"),
                                              ("x.mhd", "x.raw"), ("x.nhdr", "y.raw")])  # fmt: skip
def test_a_file_in_two_parts_is_made_of_both(tmp_path, given, other):
    texts = {
        "x.mhd": "NDims = 3\nDimSize = 1 1 1\nElementType = MET_UCHAR\nBinaryData = True\n"
        "ElementDataFile = x.raw\n",
        "x.nhdr": "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 1 1 1\nencoding: raw\n"
        "data file: y.raw\n",
    }
    for name in (given, other):
        (tmp_path / name).write_text(texts.get(name, "0"))
    case = Case("x", "x", {"flair": ImageSource(tmp_path / given)}, tmp_path / given)

    def now():
        image = signature(case, ("flair",), with_label=False)
        label = signature(case, (), with_label=True)
        return [image, label, signature(case, ("flair",), with_label=True)]

    before = now()
    assert now() == before

    def several(*signatures):
        return [len({getattr(each, of) for each in signatures}) for of in ("seen", "content")]

    assert several(*before, Signature()) == [4, 4]
    (tmp_path / other).write_text("other")
    assert several(*now(), *before, Signature()) == [7, 7]
    (tmp_path / other).unlink()
    assert now() == [Signature()] * 3


def test_complete_is_what_is_made_of_the_same_files_read_alike(
    predictor, record, brats_folder, tmp_path
):
    case = find_cases(brats_folder)[0]
    found = predict_cases([case], predictor, tmp_path, record)

    def complete(changed=case):
        return found.is_complete(changed, tmp_path, MODALITIES)

    flair = case.images["flair"]
    for change in ({"nan": 0.0}, {"channel": 0}, {"series": "1"}, {"onto": case.images["t1"]}):
        other = replace(case, images={**case.images, "flair": replace(flair, **change)})
        assert not complete(other), change
    assert complete(replace(case, label=None))  # which no prediction looks at
    assert complete()
    assert flair.path.name not in (tmp_path / "predictions.json").read_text()
    elsewhere = tmp_path / "elsewhere" / flair.path.name
    elsewhere.parent.mkdir()
    shutil.copy(flair.path, elsewhere)  # the same scan, wherever it lies and however new it is
    moved = replace(flair, path=elsewhere)
    assert complete(replace(case, images={**case.images, "flair": moved}))
    times = flair.path.stat()
    content = bytearray(flair.path.read_bytes())
    content[-1] ^= 1
    flair.path.write_bytes(content)  # another one, though size and time of change are the same
    os.utime(flair.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not complete()
    flair.path.unlink()
    assert signature(case, MODALITIES, with_label=False) == Signature()
    assert not complete()


def test_what_was_made_by_a_repair_is_current_only_where_repairs_are_allowed(brats_folder):
    case = find_cases(brats_folder)[0]
    sources = signature(case, MODALITIES, with_label=True)
    for repairs, allowed in product(((), ("mended",)), (False, True)):
        now = replace(case, repair=allowed)
        current = is_current(sources, bool(repairs), now, MODALITIES, with_label=True)
        assert current == (allowed or not repairs)
    for path in case.paths:
        path.unlink()
    assert not is_current(Signature(), False, case, MODALITIES, with_label=True)


# --- one case that fails --------------------------------------------------------------------------


class KernelError(RuntimeError):
    """As OpenVINO raises, and others."""


FAILURES = [
    pytest.param(TypeError("a bug"), r"failed \(TypeError: a bug; .*report it", id="bug"),
    pytest.param(NotImplementedError(), r"failed \(NotImplementedError: ", id="not there"),
    pytest.param(KernelError("Failed:\n  broken kernel"), r"broken kernel", id="runtime"),
    pytest.param(MemoryError(), r"do not fit into memory", id="memory"),
    pytest.param(OSError(5, "Input/output error"), r"Input/output error", id="disk"),
]


def failing_once(function, error, number=2):
    """Return a function that raises at its second call."""
    calls = []

    def fail(*words, **named):
        calls.append(words)
        if len(calls) == number:
            raise error
        return function(*words, **named)

    return fail


@pytest.fixture(params=["reading", "preparing", "network", "restoring", "writing"])
def break_once(request, monkeypatch, predictor):
    """Let one stage fail at the second case."""

    def put(error):
        if request.param == "network":
            predictor.backend = failing_once(predictor.backend, error, number=3)
            return
        module, name = {
            "reading": (batch, "read_volume"),
            "preparing": (predictor_module, "prepare"),
            "restoring": (predictor_module, "Restorer"),
            "writing": (batch, "write_outputs"),
        }[request.param]
        monkeypatch.setattr(module, name, failing_once(getattr(module, name), error))

    return put


@pytest.mark.parametrize(("error", "message"), FAILURES)
def test_whatever_fails_of_one_case_is_recorded_and_the_rest_goes_on(
    error, message, break_once, predictor, record, brats_folder, tmp_path
):
    cases = find_cases(brats_folder)
    break_once(error)
    shown = []
    found = predict_cases(
        cases, predictor, tmp_path, record, progress=lambda case, *_: shown.append(case)
    )
    failed = [case.id for case in cases if found.cases[case.id].error]
    assert len(failed) == 1
    assert failed != ["Case_003"]
    said = found.cases[failed[0]].error
    assert re.search(message, said)
    assert said.startswith(f"case {failed[0]}: ")
    assert "\n" not in said
    assert len(said.split("; ")) >= 2, "a remedy"
    assert shown == [case.id for case in cases]
    kept = found.cases[failed[0]].traceback
    assert bool(kept) != isinstance(error, MemoryError)
    assert not kept or type(error).__name__ in kept
    assert load_record(tmp_path) == found


def test_who_stops_it_keeps_the_record_of_the_cases_before(
    break_once, predictor, record, brats_folder, tmp_path
):
    break_once(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        predict_cases(find_cases(brats_folder), predictor, tmp_path, record)
    assert not list(tmp_path.glob(".vol3dseg-tmp-*"))
    kept = load_record(tmp_path)
    assert [name for name in kept.cases if kept.cases[name].error] == []
    for name, case in kept.cases.items():
        assert name < "Case_003"
        assert (tmp_path / case.file).is_file()


def test_what_onnxruntime_says_of_itself_fails_one_case_only(
    monkeypatch, model_path, record, brats_folder, tmp_path
):
    """Its errors share no base but Exception."""
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    predictor = load_predictor(model_path, "cpu")
    run = failing_once(predictor.backend._session.run, Fail("Failed to allocate memory for x"))
    monkeypatch.setattr(predictor.backend, "_session", SimpleNamespace(run=run))
    found = predict_cases(find_cases(brats_folder), predictor, tmp_path, record)
    failed = [name for name, case in found.cases.items() if case.error]
    assert len(failed) == 1
    assert re.search(r"memory.*Failed to allocate.*--max-memory", found.cases[failed[0]].error)


def test_openvino_that_has_failed_is_opened_anew(model_path):
    """Once memory ran out in it, it fails with the smallest input."""
    pytest.importorskip("openvino")
    predictor = load_predictor(model_path, "openvino")
    patches = np.zeros((1, 2, 8, 8, 8), np.float32)
    expected = predictor.backend(patches).copy()
    broken = SimpleNamespace(infer=failing_once(None, RuntimeError("Failed to allocate"), 1))
    predictor.backend._request = broken
    with pytest.raises(MemoryLimitError, match="Failed to allocate"):
        predictor.backend(patches)
    np.testing.assert_array_equal(predictor.backend(patches), expected)


def test_a_record_begins_without_asking_git(monkeypatch, record, manifest, model_path):
    started = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: started.append(command))
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    again = Record.of(read_model(model_path).manifest, Origin())
    assert again.versions == record.versions
    assert started == []


def run_here(*words):
    done = CliRunner().invoke(cli, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_resuming_with_another_input_keeps_what_is_complete(brats_folder, model_path, tmp_path):
    out, cases = tmp_path / "O", [brats_folder / f"Case_00{n}" for n in (1, 2, 3)]
    words = ("-o", out, "--device", "cpu", "--resume")
    run_here("predict", model_path, cases[0], *words)
    said = run_here("predict", model_path, *cases[1:], *words)
    assert "2 cases segmented, 0 failed" in said
    assert set(load_record(out).cases) == {"Case_001", "Case_002", "Case_003"}
    # What is gone or not as it was written does not stay.
    (out / "Case_001.nii.gz").unlink()
    run_here("predict", model_path, *cases[1:], *words)
    assert set(load_record(out).cases) == {"Case_002", "Case_003"}


def test_further_cases_of_a_record_stand_in_place_of_its_own(tmp_path, record):
    own = record.with_cases({"a": CaseRecord(error="old"), "b": CaseRecord(error="kept")})
    own.save(tmp_path, {"a": CaseRecord(error="new").model_dump_json()})
    found = load_record(tmp_path).cases
    assert {name: made.error for name, made in found.items()} == {"b": "kept", "a": "new"}
    assert list(found) == ["b", "a"]
