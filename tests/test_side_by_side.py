"""Folds and configs trained at once equal those trained one by one, whatever dies meanwhile."""

import io
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial

import h5py
import numpy as np
import pytest
import yaml

pytest.importorskip("tensorflow")
import vol3dseg
from benchmarks.dask_processes import DaskProcesses
from tests.conftest import members
from vol3dseg.config import Config, ModelConfig, TrainingConfig
from vol3dseg.datasets.reaching_cluster import open_cluster
from vol3dseg.datasets.splits import SplitConfig
from vol3dseg.errors import RunError
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.training.several import train_several
from vol3dseg.training.training_state import read_state

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(sys.platform == "win32", reason="no such signals"),
]
CASES = ["Case_001", "Case_002", "Case_003"]


@pytest.fixture(scope="module")
def config(recipe, labels):
    return Config(
        labels=labels,
        recipe=recipe,
        split=SplitConfig(validation=0, test=0, folds=2),
        model=ModelConfig(depth=1, width=2, norm="batch"),
        training=TrainingConfig(
            epochs=3, batch_size=2, steps_per_epoch=2, deterministic=True, augment=None,
            micro_batch=2, precision="float32",
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def prepared(shared_brats_folder, tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("prepared") / "P"
    preprocess(shared_brats_folder, folder, config)
    return folder


@pytest.fixture(scope="module")
def serial(prepared, tmp_path_factory):
    """One fold after the other, by one thread: what each of two workers has on two cores."""
    folder = tmp_path_factory.mktemp("serial") / "CV"
    vol3dseg.cross_validate(prepared, folder, threads=1)
    return folder


def weights(run):
    """Return what the network and the optimizer have learned, by name."""
    found = {}
    with zipfile.ZipFile(run / "last.keras") as archive:
        content = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, each: found.update({name: each}))
        return {n: np.asarray(e) for n, e in found.items() if isinstance(e, h5py.Dataset)}


def require_equal(folder, serial):
    for number in (1, 2):
        ours, theirs = (weights(each / f"fold-{number}") for each in (folder, serial))
        assert len(ours) > 10
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []
    names = [*(f"predictions/{case}.nii.gz" for case in CASES), "scores/summary.json"]
    for name in (*names, "splits.json", "cross-validation.md", "postprocessing.json"):
        assert (folder / name).read_bytes() == (serial / name).read_bytes(), name


def told(path, text):
    """Keep a line; called in other processes."""
    with path.open("a") as file:
        file.write(f"{text}\n")


def kill_its_training(path, at, text):
    """Keep a line, and kill the training that says it."""
    told(path, text)
    if text.startswith(at):
        for child in multiprocessing.active_children():
            child.kill()


def test_folds_at_once_equal_folds_one_by_one(prepared, serial, tmp_path):
    lines = tmp_path / "lines"
    found = vol3dseg.cross_validate(
        prepared, tmp_path / "CV", workers=2, threads=1, progress=partial(told, lines)
    )
    assert found.pooled.cases == 3
    require_equal(tmp_path / "CV", serial)
    said = lines.read_text().splitlines()
    for number in (1, 2):
        of_fold = [line for line in said if line.startswith(f"fold {number}: epoch ")]
        assert [line.split("  ")[0][-3:] for line in of_fold] == ["1/3", "2/3", "3/3"]
    assert all(re.match(r"fold [12]: |post-processing|folds", line) for line in said)


@pytest.mark.slow
def test_a_fold_that_is_killed_is_tried_again_and_then_named_and_goes_on_later(
    prepared, serial, tmp_path
):
    folder, lines = tmp_path / "CV", tmp_path / "lines"
    deadly = partial(kill_its_training, lines, ("fold 1: epoch 2/", "fold 1: epoch 3/"))
    with pytest.raises(RunError, match=r"CV: fold 1 failed: its process was killed.*--resume$"):
        vol3dseg.cross_validate(prepared, folder, workers=2, threads=1, progress=deadly)
    said = lines.read_text()
    assert "fold 1: its process was killed, perhaps for want of memory; it is tried again" in said
    assert said.count("fold 1: epoch 1/3") == 1, "it went on after its last checkpoint"
    assert (folder / "fold-2" / "held-out.json").exists()
    assert read_state(folder / "fold-1" / "last.keras").epochs in (1, 2, 3)
    vol3dseg.cross_validate(prepared, folder, resume=True, workers=2, threads=1)
    require_equal(folder, serial)


@pytest.mark.slow
def test_folds_on_a_cluster_lose_a_worker_and_equal_folds_one_by_one(prepared, serial, tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "dask").mkdir()
    lines = []
    with DaskProcesses(tmp_path / "dask") as dask:
        dask.work()
        dask.work()
        dask.await_workers(2)

        def progress(text):
            lines.append(text)
            if text.startswith("fold 1: epoch 1/") and len(dask.workers) == 2:
                dask.workers[0].kill()  # of one fold or the other
                dask.work()

        with open_cluster(dask.address) as cluster:
            vol3dseg.cross_validate(
                prepared, tmp_path / "CV", workers=cluster, threads=1, progress=progress
            )
    require_equal(tmp_path / "CV", serial)
    assert sum(line.startswith("fold 2: epoch 3/3") for line in lines) == 1


@pytest.mark.parametrize(
    "where",
    [("--workers", "2"), ("--cluster", "local:2")],
    ids=" ".join,
)
@pytest.mark.slow
def test_ctrl_c_ends_every_training_without_a_word(where, prepared, tmp_path):
    if "--cluster" in where:
        pytest.importorskip("distributed")
    code = "from vol3dseg.cli.main import main; main()"
    words = ["cross-validate", prepared, "--output", tmp_path / "CV", "--epochs", 5000, *where]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for line in process.stdout:
        if re.match(r"fold [12]: epoch 2/", line):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT
    assert err.splitlines()[-1].startswith("stopped: the same command with --resume goes on")
    assert "Traceback" not in err
    ended = time.monotonic() + 10
    while members(process.pid) and time.monotonic() < ended:
        time.sleep(0.05)
    assert members(process.pid) == []


@pytest.mark.slow
def test_configs_at_once_equal_configs_one_by_one(prepared, config, tmp_path):
    pytest.importorskip("distributed")
    files = {name: tmp_path / f"{name}.yaml" for name in ("a", "b")}
    for seed, file in enumerate(files.values()):
        chosen = config.chosen(seed=seed, epochs=1).model_dump(mode="json")
        file.write_text(yaml.safe_dump(chosen))

    def train(folder, names, workers):
        configs = {name: files[name] for name in names}
        words = {"progress": [].append, "workers": workers, "threads": 1}
        runs = train_several(prepared, tmp_path / folder, configs, **words)
        assert {run.name: made.said for run, made in runs} == dict.fromkeys(names, "finished")

    with open_cluster("local:2") as cluster:
        train("two", ("a", "b"), cluster)
    train("one", ("b",), 1)
    one, two = (weights(tmp_path / folder / "b") for folder in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[key], two[key]) for key in one)
