import csv
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from tests.conftest import batches
from vol3dseg.config import EarlyStoppingConfig, ReduceLROnPlateauConfig, TrainingConfig
from vol3dseg.errors import OutputError
from vol3dseg.files import write_text
from vol3dseg.training.callbacks import (
    BestCheckpoint,
    LastCheckpoint,
    make_callbacks,
)
from vol3dseg.training.checkpoints import load_checkpoint, restore_checkpoint
from vol3dseg.training.metrics import ConfusionMetrics
from vol3dseg.training.named_loss import NamedLoss
from vol3dseg.training.training_state import read_state, trim_log
from vol3dseg.written import LIST_NAME

pytestmark = [
    pytest.mark.train,
    # Keras 3.15 saves its variables by way of np.asarray, whose signature numpy 2 has changed.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

CONFIG = TrainingConfig(
    learning_rate=0.05,
    reduce_lr_on_plateau=ReduceLROnPlateauConfig(factor=0.5, patience=2, min_lr=1e-4),
    early_stopping=EarlyStoppingConfig(patience=50),
)
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(4, 2, 2, 2, 1)).astype(np.float32)
LABEL = (IMAGE[..., 0] > 0).astype(np.uint8)
# The other way round: learning makes `val_loss` rise, so there is a plateau from the start.
OPPOSITE = 1 - LABEL


def tiny_model():
    """Return a compiled model whose optimizer leaves biases alone."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((2, 2, 2, 1)),
            keras.layers.Dropout(0.1),
            keras.layers.Conv3D(2, 1),
        ]
    )
    optimizer = keras.optimizers.AdamW(CONFIG.learning_rate, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(
        optimizer, NamedLoss(CONFIG.loss), metrics=[ConfusionMetrics(["background", "dot"])]
    )
    return model


def fit(model, run, epochs, first=0, state=None, config=CONFIG):
    run.mkdir(exist_ok=True)
    return model.fit(
        batches(IMAGE, LABEL, 2),
        shuffle=False,
        epochs=epochs,
        initial_epoch=first,
        validation_data=batches(IMAGE, OPPOSITE, 2),
        callbacks=make_callbacks(config, run, state),
        verbose=0,
    ).history


def rows_of(run):
    with (run / "training.log").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("stop", [pytest.param(4, id="amid a wait"), 5])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, stop):
    fit(tiny_model(), tmp_path / "whole", 8)
    run = tmp_path / "broken"
    fit(tiny_model(), run, stop)
    row = (run / "training.log").read_text() + f"{stop},0.5\n"  # of an epoch that was cut off
    write_text(run / "training.log", row)
    state = read_state(run / "last.keras")
    trim_log(run / "training.log", state.epochs)
    model = tiny_model()
    restore_checkpoint(model, run / "last.keras")
    fit(model, run, 8, state.epochs, state)
    whole, broken = rows_of(tmp_path / "whole"), rows_of(run)
    assert [row["epoch"] for row in broken] == [str(n) for n in range(8)]
    assert len({row["learning_rate"] for row in whole}) > 2, "the plateau must lower the rate"
    for one, other in zip(whole, broken, strict=True):
        assert {k: float(v) for k, v in other.items()} == pytest.approx(
            {k: float(v) for k, v in one.items()}, rel=1e-5
        )
    assert read_state(run / "last.keras") == read_state(tmp_path / "whole" / "last.keras")


def test_a_fresh_plateau_would_not_equal_the_uninterrupted_run(tmp_path):
    """Show that the test above can fail: without the state, the wait starts anew."""
    fit(tiny_model(), tmp_path / "whole", 8)
    run = tmp_path / "broken"
    fit(tiny_model(), run, 4)
    model = tiny_model()
    restore_checkpoint(model, run / "last.keras")
    forgetful = read_state(run / "last.keras").model_copy(update={"remembered": {}})
    fit(model, run, 8, 4, forgetful)
    rates = [[row["learning_rate"] for row in rows_of(r)] for r in (tmp_path / "whole", run)]
    assert rates[0] != rates[1]


def test_last_checkpoint_is_a_keras_file_with_the_state_inside(tmp_path):
    model = tiny_model()
    history = fit(model, tmp_path, 3)
    state = read_state(tmp_path / "last.keras")
    assert state.epochs == 3
    assert state.val_loss == pytest.approx(history["val_loss"][-1])
    assert set(state.remembered) == {"ReduceLROnPlateau", "EarlyStopping", "BestCheckpoint"}
    assert state.has_best
    assert state.remembered["EarlyStopping"]["wait"] == 2
    assert not state.stopped_early
    again = load_checkpoint(tmp_path / "last.keras")
    assert again.predict_on_batch(IMAGE) == pytest.approx(model.predict_on_batch(IMAGE))
    assert keras.saving.load_model(tmp_path / "last.keras").optimizer.iterations.numpy() == 3 * 2
    assert {f.name for f in tmp_path.iterdir()} == {
        "last.keras", "best.keras", "training.log", LIST_NAME
    }  # fmt: skip


def test_best_checkpoint_is_of_the_lowest_val_loss(tmp_path):
    history = fit(tiny_model(), tmp_path, 4)
    best = keras.saving.load_model(tmp_path / "best.keras")
    loss = best.evaluate(batches(IMAGE, OPPOSITE, 2), verbose=0)[0]
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-5)
    assert min(history["val_loss"]) < history["val_loss"][-1]


def test_parts_that_the_config_leaves_out_leave_no_trace(tmp_path):
    config = TrainingConfig(model_checkpoint=False)
    fit(tiny_model(), tmp_path, 1, config=config)
    assert not (tmp_path / "best.keras").exists()
    state = read_state(tmp_path / "last.keras")
    assert state.remembered == {}
    assert float(rows_of(tmp_path)[0]["learning_rate"]) == pytest.approx(0.05)


def test_early_stopping_is_told_by_the_state(tmp_path):
    config = TrainingConfig(early_stopping=EarlyStoppingConfig(patience=2))
    fit(tiny_model(), tmp_path, 8, config=config)
    state = read_state(tmp_path / "last.keras")
    assert (state.epochs, state.stopped_early) == (3, True)


@pytest.mark.parametrize(
    ("losses", "saved"),
    [
        pytest.param([3.0, 2.0, 2.0, 2.5, 1.0], [0, 1, 4], id="only what is lower"),
        pytest.param([float("nan"), 2.0, float("nan")], [1], id="NaN is never best"),
        pytest.param([float("inf"), 2.0], [1], id="nor is what is infinite"),
        pytest.param([0.0, 0.0], [0], id="zero is a number"),
        pytest.param([None, 2.0], [1], id="no val_loss"),
    ],
)
def test_best_checkpoint_saves_when(tmp_path, losses, saved):
    path = tmp_path / "with {braces}" / "best.keras"
    callback = BestCheckpoint(path)
    model = tiny_model()
    callback.set_model(model)
    found = []
    for epoch, loss in enumerate(losses):
        path.unlink(missing_ok=True)
        callback.on_epoch_end(epoch, {} if loss is None else {"val_loss": loss})
        found += [epoch] * path.exists()
        if path.exists():
            state = read_state(path)
            assert (state.epochs, state.val_loss) == (epoch + 1, loss)
    assert found == saved


def test_a_resumed_run_replaces_the_best_file_by_a_better_one_only(tmp_path):
    fit(tiny_model(), tmp_path, 3)
    path, state = tmp_path / "best.keras", read_state(tmp_path / "last.keras")
    lowest = read_state(path).val_loss
    resumed = make_callbacks(CONFIG, tmp_path, state)
    model = tiny_model()
    model.optimizer.build(model.trainable_variables)
    (best,) = [callback for callback in resumed if isinstance(callback, BestCheckpoint)]
    for callback in (best, resumed[-1]):
        callback.set_model(model)
    resumed[-1].on_train_begin()
    for epoch, loss, kept in ((5, lowest + 1, 1), (6, float("nan"), 1), (7, lowest - 1, 8)):
        best.on_epoch_end(epoch, {"val_loss": loss})
        assert read_state(path).epochs == kept


def test_best_checkpoint_is_of_the_highest_dice_of_volumes_where_they_are_judged(tmp_path):
    """Whatever `val_loss` says, and not of an epoch that has none."""
    config = TrainingConfig(validate_every=2)
    (best,) = [c for c in make_callbacks(config, tmp_path, None) if isinstance(c, BestCheckpoint)]
    best.set_model(tiny_model())
    losses, found = [5.0, 4.0, 1.0, 3.0, 2.0], [None, 0.5, float("nan"), 0.75, 0.75]
    for epoch, (loss, dice) in enumerate(zip(losses, found, strict=True)):
        best.on_epoch_end(epoch, {"val_loss": loss, "val_volume_dice": dice})
        kept = {1: 2, 2: 2, 3: 4, 4: 4}.get(epoch)
        assert (tmp_path / "best.keras").exists() == (kept is not None)
        assert kept is None or read_state(tmp_path / "best.keras").epochs == kept
    state = read_state(tmp_path / "best.keras")
    assert (state.val_loss, state.val_volume_dice) == (3.0, 0.75)


class BrokenModel:
    """Writes half a file, then finds the disk full."""

    weights = variables = ()

    def save(self, path, **options):
        with open(path, "wb") as file:  # noqa: PTH123 - a path as Keras takes it
            file.write(b"PK half a file")
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "callback",
    [
        pytest.param(lambda path: LastCheckpoint(path, ()), id="last"),
        pytest.param(BestCheckpoint, id="best"),
    ],
)
@pytest.mark.parametrize("before", [None, b"the old one"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, callback, before):
    path = tmp_path / "model.keras"
    if before:
        path.write_bytes(before)
    broken = callback(path)
    broken.set_model(BrokenModel())
    with pytest.raises(OutputError, match="No space left"):
        broken.on_epoch_end(0, {"val_loss": 1.0})
    assert [f.read_bytes() for f in tmp_path.iterdir()] == ([before] if before else [])


KILLED = """
import os, pathlib, signal, sys
from vol3dseg.training.callbacks import LastCheckpoint
class Model:
    weights = variables = ()
    def save(self, path):
        pathlib.Path(path).write_bytes(b"PK half a file")
        os.kill(os.getpid(), signal.SIGKILL)
callback = LastCheckpoint(pathlib.Path(sys.argv[1]), ())
callback.set_model(Model())
callback.on_epoch_end(0)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_run_leaves_no_stump_under_the_final_name(tmp_path):
    path = tmp_path / "last.keras"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not path.exists()
