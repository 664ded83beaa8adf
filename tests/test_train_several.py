"""A list of configs: a run folder each, one that fails does not stop the others, and all resume."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import small_config
from vol3dseg.config import Config, ModelConfig
from vol3dseg.preprocessing.prepare_dataset import preprocess

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

COMMAND = [sys.executable, "-c", "from vol3dseg.cli.main import main; main()"]


@pytest.fixture
def prepared(brats_folder, tmp_path, recipe, labels):
    preprocess(
        brats_folder,
        tmp_path / "P",
        Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
    )
    return tmp_path / "P"


@pytest.fixture
def config(tmp_path, recipe):
    """Write a small config under a name."""

    def write(name, **training):
        split = {"validation": training.pop("validation", 0.3)}
        data = small_config(recipe, split=split, **training).model_dump(mode="json")
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    return write


def words(prepared, runs, configs, *more):
    return ["train", prepared, "-o", runs, *(w for c in configs for w in ("-c", c)), *more]


def vol3dseg(arguments, *cuts):
    """Run the command, kill its worker at a line that begins so, for each; give code and lines."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    lines, cuts = [], [*cuts]
    with subprocess.Popen([*COMMAND, *map(str, arguments)], env=environment, **options) as process:
        for line in process.stdout:
            lines.append(line)
            if cuts and line.startswith(cuts[0]):
                del cuts[0]
                for pid in workers(process.pid):
                    os.kill(pid, signal.SIGKILL)
    return process.returncode, "".join(lines)


def workers(pid):
    """Return the spawned workers of a process, without the tracker that Python starts beside."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes through /proc")
@pytest.mark.slow
def test_one_that_fails_does_not_stop_the_others_and_all_resume(prepared, config, tmp_path):
    runs = tmp_path / "runs"
    killed = config("killed", epochs=200)
    plateau = {"factor": 0.5, "patience": 1}
    unfit = config("unfit", validation=0.0, schedule="constant", reduce_lr_on_plateau=plateau)
    sound = config("sound")
    code, said = vol3dseg(words(prepared, runs, [killed, unfit, sound]), "epoch 2/200", "epoch ")
    assert code == 1, said
    assert "its process was killed, perhaps for want of memory; it is tried again" in said
    assert "failed: its process was killed" in said
    assert "failed: the split has no validation cases" in said
    assert "Traceback" not in said
    assert not (runs / "killed" / "manifest.json").exists()
    assert (runs / "sound" / "manifest.json").exists()
    log_of_sound = (runs / "sound" / "training.log").stat().st_mtime_ns

    config("killed", epochs=200, early_stopping={"patience": 1})
    code, said = vol3dseg(words(prepared, runs, [killed, sound], "--resume"))
    assert code == 1  # another config than the one that was begun
    assert "config differs" in said
    assert "had been finished" in said

    code, said = vol3dseg(words(prepared, runs, [unfit, sound], "--resume", "--seed", 7))
    assert code == 1
    assert "was finished before; " in said
    assert "its config differs from this one in training.seed: 0 and 7" in said

    begun = len((runs / "killed" / "training.log").read_text().splitlines()) - 1
    assert begun >= 2
    config("killed", epochs=200)
    _, said = vol3dseg(words(prepared, runs, [killed, sound], "--resume"), "epoch ", "epoch ")
    assert f"\nepoch {begun + 1}/200" in said
    assert (runs / "sound" / "training.log").stat().st_mtime_ns == log_of_sound


def test_nothing_starts_where_one_config_is_wrong(prepared, config, tmp_path):
    wrong = config("wrong", epochs=31)
    wrong.write_text(wrong.read_text().replace("epochs: 31", "epochs: 0"))
    code, said = vol3dseg(words(prepared, tmp_path / "runs", [config("right"), wrong]))
    assert code == 1
    assert "wrong.yaml: training.epochs" in said
    assert not (tmp_path / "runs").exists()


def test_two_configs_of_one_name_are_refused(prepared, config, tmp_path):
    one, other = config("same"), tmp_path / "other" / "same.yaml"
    other.parent.mkdir()
    shutil.copyfile(one, other)
    code, said = vol3dseg(words(prepared, tmp_path / "runs", [one, other]))
    assert code == 2
    assert "several configs are named same" in said
