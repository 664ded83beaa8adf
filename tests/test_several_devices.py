"""One training on several devices equals that on one, and ends in words where it cannot go on."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import log_of, small_config
from vol3dseg.preprocessing.prepare_dataset import preprocess

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

from vol3dseg.training.checkpoints import load_checkpoint  # noqa: E402
from vol3dseg.training.fit import train  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
# Two devices out of one processor, as TensorFlow has it for tests; then the command line.
TWO_DEVICES = """
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""
COMMAND = "from vol3dseg.cli.main import main; main()"


def config_of(recipe, **training):
    """The default norm and loss; plain steps, since Adam makes as much of a rounding as of 1."""
    training = {
        "epochs": 2, "steps_per_epoch": 10, "batch_size": 4, "deterministic": True,
        "precision": "float32", "optimizer": "sgd", "learning_rate": 0.003, **training,
    }  # fmt: skip
    return small_config(recipe, {"norm": "batch"}, **training)


@pytest.fixture(scope="module")
def made(shared_brats_folder, tmp_path_factory, recipe):
    """A folder with prepared cases, a config and the run of one device."""
    folder = tmp_path_factory.mktemp("several")
    config = config_of(recipe)
    assert (config.model.norm, config.training.loss) == ("batch", "dice_cross_entropy")
    preprocess(shared_brats_folder, folder / "P", config)
    write(folder / "config.yaml", config)
    train(folder / "P", folder / "one", config)
    first, last = (float(row["loss"]) for row in log_of(folder / "one"))
    assert last < first - 0.1  # it learns, by much more than what is compared below
    return folder


def write(path, config):
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")


def start(*words, before="", **environment):
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", before + COMMAND, *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )  # fmt: skip


def workers(*words, count=2):
    """Start a worker for each of `count` free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return [
        start(
            *words, TF_CONFIG=json.dumps({"cluster": {"worker": addresses}, "task": {"index": n}})
        )
        for n in range(count)
    ]


def ended(process, code=0):
    said, _ = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def weights(run):
    return load_checkpoint(run / "last.keras").get_weights()


def assert_equal(run, other, atol=1e-4):
    for ours, theirs in zip(weights(run), weights(other), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)
    for row, of_one in zip(log_of(run), log_of(other), strict=True):
        for name in ("loss", "val_loss"):
            assert float(row[name]) == pytest.approx(float(of_one[name]), abs=1e-4)


def test_two_devices_train_as_one(made):
    words = ("train", made / "P", "-o", made / "two", "-c", made / "config.yaml")
    ended(start(*words, "--strategy", "mirrored", before=TWO_DEVICES))
    assert_equal(made / "two", made / "one")
    said = json.loads((made / "two" / "environment.json").read_text())["strategy"]
    assert said == {
        "name": "mirrored", "devices": 2, "workers": 1, "batch_size": 4, "batch_size_per_device": 2,
    }  # fmt: skip
    assert "4 in a batch shared by 2 devices (mirrored)" in (made / "two/training.html").read_text()


def test_two_workers_train_as_one_process_and_go_on_when_one_was_killed(made):
    words = ("train", made / "P", "-c", made / "config.yaml", "--strategy", "multi-worker", "-o")
    first, second = workers(*words, made / "whole")
    ended(first)
    ended(second)
    assert_equal(made / "whole", made / "one")

    first, second = workers(*words, made / "cut")
    said = []
    for line in first.stdout:
        said.append(line)
        if line.startswith("epoch 1/"):
            os.kill(second.pid, signal.SIGKILL)
            break
    last = ended(first, 1)
    assert "worker 1 (127.0.0.1:" in last, said
    assert "ended, or cannot be reached any more" in last
    assert "--resume" in last
    assert "Traceback" not in last
    second.communicate()
    for process in workers(*words, made / "cut", "--resume"):
        ended(process)
    assert_equal(made / "cut", made / "whole", atol=0)
