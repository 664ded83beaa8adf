"""What is stopped by Ctrl-C or killed says how to go on, and goes on past what killed it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from vol3dseg.cli.main import cli
from vol3dseg.inference.record import load_record
from vol3dseg.preprocessing.index import load_index

# Sends itself a signal as soon as Case_002 is to be read.
CODE = """
import os, sys
from vol3dseg.cli.main import main
from vol3dseg.inference import batch
from vol3dseg.preprocessing import prepare_case

number, read = int(sys.argv.pop(1)), batch.read_volume

def read_or_die(case, *words):
    if case.id == "Case_002":
        os.kill(os.getpid(), number)
    return read(case, *words)

batch.read_volume = prepare_case.read_volume = read_or_die
main()
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")


def start(number, *words, **named):
    command = [sys.executable, "-c", CODE, str(int(number)), *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **named
    )


def dying(number, *words):
    """Run a command that gets this signal at Case_002; gives its exit code and what it said."""
    process = start(number, *words)
    out, err = process.communicate()
    return process.returncode, out + err


@pytest.fixture
def predict(model_path, brats_folder, tmp_path):
    # Limited, so that no case is read ahead of another.
    words = ("--device", "cpu", "--max-memory", "2GB")
    return ("predict", model_path, brats_folder, "-o", tmp_path / "O", *words)


@pytest.fixture
def preprocess(brats_folder, config_path, tmp_path):
    return ("preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", 1)


def test_predict_that_is_stopped_goes_on(predict, vol3dseg, tmp_path):
    code, said = dying(signal.SIGINT, *predict)
    assert code == 128 + signal.SIGINT
    assert said.splitlines()[-1] == (
        "stopped: what is segmented is kept; the same command with --resume goes on"
    )
    assert "Traceback" not in said
    assert list(load_record(tmp_path / "O").cases) == ["Case_001"]
    assert not list((tmp_path / "O").glob(".vol3dseg-tmp-*"))
    done = vol3dseg(*predict, "--resume")
    assert "1 of 3 cases are complete" in done.stdout
    assert "2 cases segmented, 0 failed" in done.stdout


def test_predict_that_is_killed_names_the_case_and_goes_on_with_the_others(
    predict, vol3dseg, tmp_path
):
    assert dying(signal.SIGKILL, *predict)[0] == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "O").glob(".vol3dseg-tmp-*/*")] == ["Case_002.begun"]
    code, said = dying(signal.SIGKILL, *predict)
    assert code == -signal.SIGKILL
    assert "note: case Case_002: the run before was killed while it was worked on" in said
    code, said = dying(signal.SIGKILL, *predict, "--resume")
    assert code == 1
    assert "failed: case Case_002: the run before was killed while it was worked on" in said
    assert "1 case segmented, 1 failed" in said.replace("cases", "case")
    assert "Case_003: " in said
    done = vol3dseg(*predict, "--resume")
    assert done.returncode == 0, done.stderr
    assert "1 case segmented, 0 failed" in done.stdout


def test_preprocess_that_is_killed_names_the_case_and_goes_on_with_the_others(
    preprocess, vol3dseg, tmp_path
):
    assert dying(signal.SIGKILL, *preprocess)[0] == -signal.SIGKILL
    code, said = dying(signal.SIGKILL, *preprocess)
    assert code == 1
    assert "failed: case Case_002: the run before was killed while it was worked on" in said
    assert [entry.id for entry in load_index(tmp_path / "P").cases] == ["Case_001", "Case_003"]
    done = vol3dseg(*preprocess)
    assert done.returncode == 0, done.stderr
    assert len(load_index(tmp_path / "P").cases) == 3


def test_preprocess_that_is_stopped_ends_its_workers_without_a_word(preprocess, tmp_path):
    process = start(0, *preprocess[:-1], 2, start_new_session=True)
    while not any((tmp_path / "P" / "cases").glob("*")):  # what a worker has begun
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert err == "stopped: what is prepared is kept; the same command goes on\n"


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_that_is_stopped_says_how_to_go_on(name, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.commands[name], "make_context", stop)
    done = CliRunner().invoke(cli, [name])
    assert done.exit_code == 128 + signal.SIGINT
    assert done.output.startswith("stopped: ")
    assert ("--resume" in done.output) == (name in ("predict", "train", "cross-validate"))


def test_of_several_that_were_worked_on_each_is_tried_by_itself_in_the_end(
    preprocess, vol3dseg, tmp_path
):
    """Where all processes were killed at once, nobody knows which case it was."""
    folder = tmp_path / "P" / "cases"
    for name in ("Case_001", "Case_002"):  # as two workers leave it
        trace = folder / f".vol3dseg-tmp-{name[-1] * 16}"
        trace.mkdir(parents=True)
        (trace / f"{name}.begun").touch()
    assert dying(signal.SIGKILL, *preprocess)[0] == -signal.SIGKILL
    names = {path.name for path in folder.glob("Case*")}
    assert names == {"Case_001.h5", "Case_003.h5"}, "the others, then those two"
    code, said = dying(signal.SIGKILL, *preprocess)
    assert code == 1
    assert "failed: case Case_002: the run before was killed" in said
    assert "2 cases prepared, 0 left out, 1 failed" in said
