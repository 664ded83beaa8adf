"""Epochs that are logged elsewhere too: in MLflow, and for TensorBoard."""

import os
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tests.conftest import log_of, small_config
from vol3dseg.errors import RunError
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.training.mlflow_log import _Epochs, mlflow_log
from vol3dseg.training.tensorboard_log import tensorboard_log
from vol3dseg.training.watching import of_run


class RefusedError(Exception):
    """What stands for mlflow.exceptions.MlflowException."""


class FakeMlflow:
    """Keeps what MLflow would, in its words; seen to be like mlflow 3.17 by hand."""

    def __init__(self):
        self.exceptions = SimpleNamespace(MlflowException=RefusedError)
        self.runs, self.active, self.away = {}, [], False

    def start_run(self, run_id=None, run_name=None, nested=False):
        self._refuse()
        if run_id is None:
            run_id = f"{len(self.runs):032x}"
            self.runs[run_id] = SimpleNamespace(name=run_name, params={}, metrics={}, status="")
        elif run_id not in self.runs:
            raise RefusedError(f"Run with id={run_id} not found")
        return self._begun(run_id)

    def _begun(self, run_id):
        @contextmanager
        def active():
            self.active.append(run_id)
            self.runs[run_id].status = "FAILED"
            yield
            self.runs[run_id].status = "FINISHED"

        block = active()
        block.info = SimpleNamespace(run_id=run_id)
        return block

    def log_params(self, params):
        run = self.runs[self.active[-1]]
        assert not run.params, "mlflow refuses to change them"
        run.params |= params

    def log_metrics(self, metrics, step):
        self._refuse()
        for name, value in metrics.items():
            self.runs[self.active[-1]].metrics.setdefault(name, {})[step] = value

    def _refuse(self):
        if self.away:
            raise RefusedError("nobody answers")


@pytest.fixture
def mlflow(monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    return fake


def test_an_epoch_that_is_refused_is_logged_after_the_next(mlflow, caplog):
    mlflow.runs["r"] = SimpleNamespace(metrics={})
    mlflow.active.append("r")
    epochs = _Epochs(mlflow)
    epochs.log(0, {"loss": 3.0, "dice_tumour (core)": 0.5})
    mlflow.away = True
    epochs.log(1, {"loss": 2.0})
    assert "mlflow did not take epoch 1: nobody answers" in caplog.text
    mlflow.away = False
    epochs.log(2, {"loss": 1.0})
    metrics = mlflow.runs["r"].metrics
    assert metrics == {"loss": {0: 3.0, 1: 2.0, 2: 1.0}, "dice_tumour _core_": {0: 0.5}}


def test_loggers_of_a_run_take_whatever_is_trained_for_it(tmp_path):
    (logger,) = of_run([lambda *words: words], tmp_path / "run")
    assert logger(tmp_path / "run" / "longer", "config", True) == (tmp_path / "run", "config", True)


# --- in a training --------------------------------------------------------------------------------


class PowerCutError(Exception):
    """Nobody knows of it."""


@pytest.fixture
def config(recipe):
    return small_config(recipe, epochs=3)


@pytest.fixture
def prepared(shared_brats_folder, tmp_path, config):
    preprocess(shared_brats_folder, tmp_path / "prepared", config)
    return tmp_path / "prepared"


def events_of(tf, folder):
    """Return the values by tag and step that are in files already."""
    found = {}
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor))
                found.setdefault(value.tag, {})[event.step] = number
    return found


@pytest.mark.train
def test_a_training_that_is_resumed_goes_on_in_the_same_logs(mlflow, prepared, tmp_path, config):
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("tensorboard")
    pytest.importorskip("matplotlib")
    from vol3dseg.training.fit import train

    run, loggers, seen = tmp_path / "run", [mlflow_log, tensorboard_log], []

    def cut(line):
        if line.startswith("epoch 2/"):
            seen.append(events_of(tf, run / "tensorboard" / "train"))  # before anybody tidies up
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(prepared, run, config, progress=cut, loggers=loggers)
    ((_, logged),) = mlflow.runs.items()
    assert (logged.name, logged.status) == ("run", "FAILED")
    columns = [tag for tag in seen[0] if tag.startswith("epoch_")]
    assert {tag: set(seen[0][tag]) for tag in columns} == {tag: {0, 1} for tag in columns}
    train(prepared, run, config, resume=True, loggers=loggers)
    assert len(mlflow.runs) == 1
    assert logged.status == "FINISHED"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert logged.params["training.epochs"] == "3"
    assert logged.params["training.loss"] == config.training.loss
    rows = log_of(run)
    shown = {
        "train": events_of(tf, run / "tensorboard" / "train"),
        "validation": events_of(tf, run / "tensorboard" / "validation"),
    }
    for name in rows[0].keys() - {"epoch", "learning_rate"}:
        values = {n: float(row[name]) for n, row in enumerate(rows)}
        assert logged.metrics[name] == pytest.approx(values, nan_ok=True), name
        part = "validation" if name.startswith("val_") else "train"
        drawn = shown[part][f"epoch_{name.removeprefix('val_')}"]
        assert drawn == pytest.approx(values, rel=1e-6, nan_ok=True), name


@pytest.mark.train
def test_what_mlflow_refuses_at_the_start_is_told_before_the_first_step(mlflow, tmp_path, config):
    pytest.importorskip("tensorflow")
    mlflow.away = True
    with pytest.raises(RunError, match=r"mlflow does not take it \(nobody answers\); .*_URI"):
        mlflow_log(tmp_path, config, resumed=False).__enter__()
    mlflow.away = False
    (tmp_path / "mlflow.json").write_text('{"run_id": "gone"}')
    with pytest.raises(RunError, match="Run with id=gone not found"):
        mlflow_log(tmp_path, config, resumed=True).__enter__()
    (tmp_path / "mlflow.json").write_text("{")
    with pytest.raises(RunError, match=r"mlflow\.json: .*remove it"):
        mlflow_log(tmp_path, config, resumed=True).__enter__()
