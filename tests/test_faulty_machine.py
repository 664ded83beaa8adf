"""Processes that are killed, share a folder, lack room: once what `trial-faults` does often."""

import random
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from benchmarks.faults.full_disk import may_mount, mounted
from benchmarks.faults.load import account_of, judged, many_cases
from vol3dseg.errors import OutputError
from vol3dseg.inference.predicting import predict
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.reporting.score_predictions import evaluate
from vol3dseg.working_folder import one_at_a_time, working_in
from vol3dseg.written import LIST_NAME

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")

KEEPING = """
import os, sys
from vol3dseg.files import atomic_path
from vol3dseg.working_folder import working_in
from pathlib import Path
with working_in(sys.argv[1]), atomic_path(Path(sys.argv[1]) / "x"):
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""
COMMAND = """
import sys
from vol3dseg.cli.main import main
from vol3dseg.inference import loading, predicting
from vol3dseg.preprocessing import prepare_dataset
print("ready", flush=True)
main()
"""


@contextmanager
def another(code, *words, around=()):
    """A process that has said a word."""
    command = [*around, sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            word = process.stdout.readline()
            if not word:
                pytest.skip(f"it may not be started: {process.stderr.read()}")
            yield process, word.strip()
        finally:
            process.kill()


@pytest.fixture
def work(brats_folder, config_path, model_path, tmp_path):
    """What three commands do, into a folder."""
    predictions = tmp_path / "predictions"
    predict(model_path, brats_folder, predictions)
    return {
        "preprocess": lambda out: preprocess(brats_folder, out, config_path),
        "predict": lambda out: predict(model_path, brats_folder, out),
        "evaluate": lambda out: evaluate(predictions, brats_folder, out),
    }


@pytest.mark.parametrize("command", ["preprocess", "predict", "evaluate"])
def test_a_second_process_is_refused_at_once_and_none_after_the_first_is_killed(
    command, work, tmp_path
):
    out = tmp_path / "out"
    with another(KEEPING, out) as (process, _):
        before = sorted(out.rglob("*"))
        with pytest.raises(OutputError, match="out: is being written by another process of vol3ds"):
            work[command](out)
        assert sorted(out.rglob("*")) == before
        process.kill()
        process.wait()
        work[command](out)
    assert len(list(out.iterdir())) > 1


def test_a_process_in_another_container_may_have_the_same_number(work, tmp_path):
    out = tmp_path / "out"
    container = ("unshare", "--pid", "--fork", "--kill-child")
    with another(KEEPING, out, around=container) as (first, number):
        assert number == "1"
        with another(KEEPING, tmp_path / "x", around=container) as (_, number):
            assert number == "1"
        with pytest.raises(OutputError, match="another process"):
            work["preprocess"](out)
        first.kill()
        first.wait()
        time.sleep(0.1)
        again = subprocess.run(
            [*container, sys.executable, "-c", KEEPING, out],
            input="", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert again.stdout == "1\n", again.stderr
    work["preprocess"](out)
    assert not list(out.glob(".vol3dseg-tmp-*"))


def test_some_may_share_a_folder_and_then_nobody_has_it_alone(tmp_path):
    together = working_in(tmp_path, shared=True), working_in(tmp_path, shared=True)
    with together[0], together[1], pytest.raises(OutputError, match="another process"):
        working_in(tmp_path).__enter__()
    with working_in(tmp_path):
        pass


def test_a_folder_that_stays_empty_is_not_left_behind(tmp_path):
    with working_in(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()

    @one_at_a_time("folder")
    def write(folder=None):
        return folder and (folder / "x").write_text("x")

    assert write() is None
    assert write(tmp_path / "a") == 1
    assert (tmp_path / "a" / "x").exists()


def contents(folder):
    """Files as bytes, but for what holds times."""
    names = (path for path in folder.rglob("*") if path.is_file())
    told = {LIST_NAME, "predictions.json"}
    return {path.relative_to(folder): path.read_bytes() for path in names if path.name not in told}


@pytest.mark.parametrize("command", ["preprocess", "predict"])
def test_what_is_killed_at_any_moment_ends_with_the_same_bytes(
    command, work, brats_folder, config_path, model_path, tmp_path
):
    started = time.perf_counter()
    work[command](tmp_path / "undisturbed")
    lasts_s = time.perf_counter() - started
    words = {
        "preprocess": ("preprocess", brats_folder, "-c", config_path, "-j", "1"),
        "predict": ("predict", model_path, brats_folder, "--device", "cpu"),
    }[command]
    chance = random.Random(command)
    for number in range(3):
        out = tmp_path / str(number)
        with another(COMMAND, *words, "-o", out) as (process, _):
            time.sleep(chance.uniform(0.1, 0.9) * lasts_s)
            process.kill()
            process.wait()
        made = work[command](out)
        if getattr(made, "failed", None):  # the case over which it was killed, perhaps for its size
            made = work[command](out)
        assert contents(out) == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("command", ["preprocess", "predict", "evaluate"])
def test_a_full_disk_is_said_and_costs_nothing(command, work, tmp_path):
    if not may_mount(tmp_path):
        pytest.skip("no right to mount a file system")
    whole = tmp_path / "whole"
    work[command](whole)
    used = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    for share in (0.1, 0.5, 0.9):
        out = tmp_path / f"{share}"
        with mounted(out, str(max(4096, int(share * used)))):
            with pytest.raises(OutputError, match="No space left on device"):
                work[command](out)
            subprocess.run(["mount", "-o", "remount,size=64m", out], check=True)
            work[command](out)
            assert contents(out) == contents(whole)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv.pop(1)) * 2**20,) * 2)
from vol3dseg.cli.main import main
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts address space")
@pytest.mark.parametrize(
    ("words", "most_mb", "needed_mb"),
    [
        pytest.param(("check", "nowhere", "-c", "demo"), 60, 240, id="hardly more than Python"),
        pytest.param(("check", "nowhere", "-c", "demo"), 230, 240, id="nearly enough"),
        pytest.param(
            ("export-onnx", "nowhere", "-o", "x.onnx"), 2500, 2600, marks=pytest.mark.train,
            id="TensorFlow",
        ),
    ],
)  # fmt: skip
def test_too_little_memory_for_libraries_is_one_line(words, most_mb, needed_mb, tmp_path):
    command = [sys.executable, "-c", LIMITED, str(most_mb), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: less than {needed_mb} MB of memory are left; expected enough for the libraries "
        "that this needs; raise the limit (ulimit -v), close other programs, or use a machine "
        "with more\n"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("command", ["preprocess", "predict"])
def test_many_cases_leave_nothing_open_and_the_spoilt_are_named(
    command, config_path, model_path, tmp_path
):
    """What sixty can show: a file, a thread or a megabyte that each case leaves behind."""
    spoilt = many_cases(tmp_path / "data", 60, 20, modalities=("flair", "t1"))
    how = {"preprocess": config_path, "predict": model_path}[command]
    account = account_of(command, tmp_path / "data", tmp_path / "out", how, 1, 20)
    found = judged("load", command, account, spoilt, 60)
    assert not [why for why in found.lost if not why.startswith("work")]  # others are at work too
