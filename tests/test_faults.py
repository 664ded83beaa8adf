"""Calls that are made to fail: the shim, and a few of the tries of `make trial-faults`."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest

from benchmarks.faults.comparing import differences
from benchmarks.faults.control import FAULTS, VARIABLE, Control, Fault, Kind, Mode, build_shim
from benchmarks.faults.injecting import inject
from benchmarks.faults.judging import broken, complaint
from benchmarks.faults.line import Line
from benchmarks.faults.outcome import Outcome, load, save, table
from vol3dseg.config import load_config
from vol3dseg.files import write_json, write_text
from vol3dseg.model.model_file import with_manifest

BY_NAME = {fault.name: fault for fault in FAULTS}
# Writes, syncs, renames, makes, reads and removes; says which of these failed, and how.
CODE = """
import os, sys
from pathlib import Path

def note(name, work):
    try:
        print(name, work() or "done")
    except OSError as error:
        print(name, error.errno)

place = Path(sys.argv[1])
note("mkdir", (place / "made").mkdir)
with (place / "made" / "x").open("wb", buffering=0) as file:
    note("write", lambda: file.write(b"12345678"))
    note("write", lambda: file.write(b"12345678"))
    note("write", lambda: file.write(b"12345678"))
    note("fsync", lambda: os.fsync(file.fileno()))
note("rename", lambda: (place / "made" / "x").rename(place / "y") and None)
note("read", lambda: len((place / "y").read_bytes()))
note("list", lambda: len(os.listdir(place)))
note("create", lambda: (place / "z").touch())
note("remove", (place / "z").unlink)
"""
UNDISTURBED = [
    *("mkdir done", "write 8", "write 8", "write 8", "fsync done", "rename done"),
    *("read 24", "list 2", "create done", "remove done"),
]


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The shim, where it can be compiled and loaded."""
    if sys.platform != "linux":
        pytest.skip("calls are made to fail by LD_PRELOAD, which Linux has")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: install gcc to make calls fail")
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def failing(shim, tmp_path):
    """Run Python where the N-th call of a fault fails; gives exit code, lines, and the control."""
    root = tmp_path / "root"
    root.mkdir()
    control = Control(tmp_path / "control", root)

    def run(fault, nth, code=CODE, place=root, log=None):
        shutil.rmtree(root)
        root.mkdir()
        control.arm(fault, nth, log)
        environment = os.environ | {"LD_PRELOAD": str(shim), VARIABLE: str(control.path)}
        done = subprocess.run(
            [sys.executable, "-u", "-c", code, str(place)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.splitlines(), control

    return run


@pytest.mark.parametrize(
    ("kind", "nth", "what"),
    [
        (Kind.WRITE, 2, 2),
        (Kind.FSYNC, 1, 4),
        (Kind.RENAME, 1, 5),
        (Kind.READ, 1, 6),
        (Kind.REMOVE, 1, 9),
        (Kind.OPEN, 3, 7),
        (Kind.CREATE, 2, 8),
    ],
)
def test_one_call_fails_as_asked_and_no_other(failing, kind, nth, what):
    _, lines, control = failing(Fault("none", kind), 0)
    assert lines == UNDISTURBED
    assert control.count >= nth
    code, lines, control = failing(Fault("x", kind, error=errno.EDQUOT), nth)
    assert control.hit
    assert code == 0
    failed = [n for n, line in enumerate(lines) if line.endswith(f" {errno.EDQUOT}")]
    assert failed == [what]


def test_a_full_disk_writes_half_and_then_nothing(failing):
    fault = BY_NAME["disk full from then on"]
    _, lines, control = failing(fault, 4)  # folder, file, a write, and then
    assert lines[:4] == ["mkdir done", "write 8", "write 4", f"write {errno.ENOSPC}"]
    assert lines[6] == "read 12"
    assert lines[8] == f"create {errno.ENOSPC}"
    assert control.hit.startswith("write ")


def test_half_a_write_is_no_error(failing):
    _, lines, _ = failing(BY_NAME["write: half of it"], 1)
    assert lines[1:4] == ["write 4", "write 8", "write 8"]


def test_a_kill_is_one_and_comes_before_the_call(failing, tmp_path):
    code, lines, _ = failing(Fault("killed", Kind.WRITE, Mode.KILL), 2)
    assert code == -signal.SIGKILL
    assert lines == UNDISTURBED[:2]
    assert (tmp_path / "root" / "made" / "x").read_bytes() == b"12345678"


def test_calls_elsewhere_are_not_counted(failing, tmp_path):
    (tmp_path / "rooted").mkdir()  # its name begins as that of the root
    _, lines, control = failing(Fault("x", Kind(511), error=5), 1, place=tmp_path / "rooted")
    assert lines == UNDISTURBED
    assert control.count == 0


def test_processes_that_are_started_count_together(failing):
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CODE!r}, sys.argv[1]])"
    _, lines, control = failing(Fault("x", Kind.WRITE, error=errno.EIO), 3, code=code)
    assert lines[3] == f"write {errno.EIO}"
    assert control.count == 3


def test_a_log_says_what_was_called(failing, tmp_path):
    failing(Fault("none", Kind.WRITE | Kind.RENAME), 0, log=tmp_path / "log")
    root = tmp_path / "root"
    written = [f"write {root}/made/x"] * 3
    assert (tmp_path / "log").read_text().splitlines() == [*written, f"rename {root}/y"]


def test_outcomes_are_saved_and_shown(tmp_path):
    outcomes = [Outcome("a", "train", 3, ("2 (write x): gone",)), Outcome("b", "predict", 4)]
    save(outcomes, tmp_path / "outcomes.json")
    assert load(tmp_path / "outcomes.json") == outcomes
    shown = table(outcomes)
    assert "| a | train | 3 | 2 | 1 |" in shown
    assert "| all |  | 7 | 6 | 1 |" in shown
    assert "- lost: train, a: 2 (write x): gone" in shown


def test_times_are_no_difference_and_all_else_is(tmp_path):
    for name, made in (("one", "today"), ("two", "tomorrow")):
        write_json(tmp_path / name / "x.json", {"created": made, "kept": 1})
    assert differences(tmp_path / "one", tmp_path / "two") == []
    write_json(tmp_path / "two" / "x.json", {"created": "today", "kept": 2})
    write_text(tmp_path / "one" / "y.md", "text\n")
    (tmp_path / "two" / "z.md").write_text("text\n")
    assert differences(tmp_path / "one", tmp_path / "two") == [
        "y.md is missing",
        "z.md is too many",
        f"{tmp_path}/two/z.md is not in the list of its folder",
        "x.json is another",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.json", '{"a"'), ("x.csv", "a,b\n1\n"), ("x.html", "<html>"), ("x.nii.gz", "\x1f")],
)
def test_a_broken_file_is_found(tmp_path, name, content):
    write_text(tmp_path / name, content)
    (found,) = broken(tmp_path)
    assert found.startswith(f"{name} is broken")
    (tmp_path / name).write_text("changed")
    assert f"{name} is not as it was written" in list(broken(tmp_path))


@pytest.mark.parametrize(
    ("code", "said", "wrong"),
    [
        pytest.param(1, "error: x: cannot be written (No space)", [], id="as it should be"),
        pytest.param(0, "No space", ["exit code 0: No space"], id="no failure"),
        pytest.param(1, "error: x", ["does not say 'No space': error: x"], id="no cause"),
        pytest.param(-11, "", ["its process died by signal 11: "], id="a crash"),
        pytest.param(None, "", ["hangs"], id="no end"),
        pytest.param(1, "x Traceback y", ["a bug: x Traceback y", "Traceback y"], id="a bug"),
    ],
)
def test_how_a_command_ends_is_judged(code, said, wrong):
    assert complaint(code, said, "No space") == wrong


@pytest.fixture(scope="session")
def line(tmp_path_factory, shim, manifest_of, graph_of):
    """The line as far as it goes without TensorFlow, with a model that was not trained."""
    folder = tmp_path_factory.mktemp("faults") / "line"
    Line.make(folder, ())
    config = load_config(folder / "config.yaml")
    manifest = manifest_of(config.recipe, config.labels)
    graph = graph_of(len(config.recipe.modalities), len(config.labels.classes))
    model = folder / "export-onnx" / "out" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(with_manifest(graph, manifest))
    return Line.make(folder, ("preprocess", "predict", "evaluate"))


@pytest.mark.parametrize(
    ("command", "every", "faults"),
    [
        ("preprocess", 4, ("write: no space", "rename: no permission", "fsync: I/O error")),
        ("preprocess", 40, ("open: no permission", "killed")),
        ("predict", 3, ("write: half of it", "rename: I/O error")),
        ("predict", 25, ("disk full from then on", "read: I/O error")),
        ("evaluate", 4, ("write: no space", "fsync: no space")),
        ("evaluate", 15, ("killed",)),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, tuple) else None,
)
def test_nothing_is_lost(line, command, every, faults):
    for outcome in inject(line, [command], [BY_NAME[name] for name in faults], every):
        assert outcome.injected >= 2
        assert outcome.lost == ()


def test_what_is_lost_is_said(line, monkeypatch, tmp_path):
    """A harness that cannot find anything would be worth nothing."""
    fault = Fault("write: none", Kind.WRITE, error=errno.ENODEV)
    monkeypatch.setattr(Fault, "cause", "another cause")
    (outcome,) = inject(line, ["preprocess"], [fault], every=9)
    assert len(outcome.lost) == outcome.injected > 0
    assert "does not say 'another cause'" in outcome.lost[0]
