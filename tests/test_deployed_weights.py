"""What is judged and deployed where training goes on with other weights, and that it can resume."""

import csv

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from tests.conftest import batches
from vol3dseg.config import TrainingConfig
from vol3dseg.errors import RunError
from vol3dseg.training.callbacks import make_callbacks
from vol3dseg.training.checkpoints import load_checkpoint, read_raw, restore_checkpoint
from vol3dseg.training.named_loss import NamedLoss
from vol3dseg.training.networks.norms import BatchNormalization
from vol3dseg.training.optimizers import make_optimizer
from vol3dseg.training.precision import precision_policy
from vol3dseg.training.training_state import read_state, trim_log

pytestmark = [
    pytest.mark.train,
    # Keras 3.15 saves its variables by way of np.asarray, whose signature numpy 2 has changed.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(8, 2, 2, 2, 1)).astype(np.float32)
LABEL = (IMAGE[..., 0] > 0.3).astype(np.uint8)
CHANGES = 2  # of the weights in an epoch


def settings(**changed):
    return TrainingConfig(
        **{"epochs": 4, "batch_size": 4, "micro_batch": 4, "learning_rate": 0.05, **changed}
    )


def tiny_model(training, norm=BatchNormalization):
    keras.utils.set_random_seed(1)
    with precision_policy("float32" if training.precision == "auto" else training.precision):
        model = keras.Sequential(
            [
                keras.Input((2, 2, 2, 1)),
                keras.layers.Conv3D(3, 1),
                norm(momentum=0.5, name="norm"),
                keras.layers.Dropout(0.2),
                keras.layers.Conv3D(2, 1, dtype="float32"),
            ]
        )
    model.compile(
        make_optimizer(training, CHANGES, model.trainable_variables), NamedLoss(training.loss)
    )
    return model


class PowerCutError(Exception):
    pass


class Cut(keras.callbacks.Callback):
    """Pulls the plug amid an epoch, after its first step."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._now == self._epoch:
            raise PowerCutError


def fit(run, training, resumed=False, given=(), norm=BatchNormalization):
    """Train as `train` does, from the start or on from the last checkpoint; return the model."""
    run.mkdir(exist_ok=True)
    model, state = tiny_model(training, norm), None
    if resumed:
        state = read_state(run / "last.keras")
        trim_log(run / "training.log", state.epochs)
        restore_checkpoint(model, run / "last.keras")
    model.fit(
        batches(IMAGE, LABEL, training.at_once),
        shuffle=False,
        epochs=training.epochs,
        initial_epoch=state.epochs if state else 0,
        validation_data=batches(IMAGE, LABEL, training.at_once),
        callbacks=make_callbacks(training, run, state, given),
        verbose=0,
    )
    return model


def weights_of(path):
    """Return all weights that a checkpoint has: those to deploy, those to go on with."""
    return [*load_checkpoint(path).get_weights(), *(read_raw(path) or ())]


def equal(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


WAYS = [
    pytest.param(
        1,
        {"optimizer": "sgd", "schedule": "polynomial", "warmup_epochs": 1.5, "ema": 0.7},
        id="averaged, polynomial after a warm-up",
    ),
    pytest.param(
        2,
        {"optimizer": "schedule_free_adamw", "warmup_epochs": 1.5, "micro_batch": 2},
        id="schedule-free",
    ),
    pytest.param(
        2,
        {"ema": 0.9, "optimizer": "adamw", "micro_batch": 2, "clip_norm": 0.1},
        id="averaged in parts",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        1,
        {"precision": "float16", "ema": 0.5, "optimizer": "adamw", "clip_norm": 0.1},
        id="averaged, losses scaled for float16",
    ),
]


@pytest.mark.parametrize(("cut", "way"), WAYS)
def test_a_run_that_was_cut_amid_an_epoch_ends_as_if_it_had_not_been(tmp_path, cut, way):
    training = settings(**way)
    whole = fit(tmp_path / "whole", training)
    with pytest.raises(PowerCutError):
        fit(tmp_path / "cut", training, given=[Cut(cut)])
    assert read_state(tmp_path / "cut" / "last.keras").epochs == cut
    resumed = fit(tmp_path / "cut", training, resumed=True)
    assert hasattr(resumed.optimizer, "dynamic_scale") == (training.precision == "float16")
    assert equal(resumed.get_weights(), whole.get_weights())
    assert equal(*([v.numpy() for v in m.optimizer.variables] for m in (resumed, whole)))
    for name in ("best.keras", "last.keras"):
        ours, theirs = tmp_path / "cut" / name, tmp_path / "whole" / name
        assert read_state(ours) == read_state(theirs)
        assert equal(weights_of(ours), weights_of(theirs))
    logs = [(tmp_path / run / "training.log").read_text() for run in ("cut", "whole")]
    assert logs[0] == logs[1]


class Trace(keras.callbacks.Callback):
    """Remembers the weights after each step, and those that the end of an epoch finds."""

    def __init__(self):
        super().__init__()
        self.steps, self.ends = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(self.model.get_weights())


@pytest.mark.parametrize("micro_batch", [4, 2])
def test_averages_are_those_that_are_said(tmp_path, micro_batch):
    """Of the weights after each change of them, statistics of norms with them."""
    trace, kept = Trace(), 0.3
    training = settings(ema=kept, micro_batch=micro_batch, epochs=2)
    plain = settings(micro_batch=micro_batch, epochs=2)
    start = tiny_model(training).get_weights()
    model = fit(tmp_path / "run", training, given=[trace])
    expected, changes = [np.asarray(w, float) for w in start], 0
    for n, weights in enumerate(trace.steps, start=1):
        if n % (4 // micro_batch):
            continue
        changes += 1
        share = min(kept, (1 + changes) / (10 + changes))
        expected = [share * a + (1 - share) * w for a, w in zip(expected, weights, strict=True)]
        if changes % CHANGES == 0:
            for ours, theirs in zip(trace.ends[changes // CHANGES - 1], expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    # The weights themselves never know of it.
    assert equal(model.get_weights(), fit(tmp_path / "plain", plain).get_weights())
    assert equal(read_raw(tmp_path / "run" / "last.keras"), model.get_weights())
    assert read_raw(tmp_path / "plain" / "last.keras") is None


@pytest.mark.parametrize("way", [{"ema": 0.9}, {"optimizer": "schedule_free_adamw"}])
def test_what_is_judged_is_what_is_saved(tmp_path, way):
    fit(tmp_path / "run", settings(epochs=3, **way))
    with (tmp_path / "run" / "training.log").open(newline="") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    for name, loss in (("last.keras", losses[-1]), ("best.keras", min(losses))):
        model = load_checkpoint(tmp_path / "run" / name)
        model.compile(loss=NamedLoss("dice_cross_entropy"))
        judged = model.evaluate(batches(IMAGE, LABEL, 4), verbose=0)
        assert judged == pytest.approx(loss, rel=1e-6)
    raw = read_raw(tmp_path / "run" / "last.keras")
    assert not equal(raw, load_checkpoint(tmp_path / "run" / "last.keras").get_weights())


def test_weights_to_go_on_with_that_are_damaged_are_refused(tmp_path):
    path = tmp_path / "run" / "last.keras"
    fit(tmp_path / "run", settings(ema=0.9, epochs=1))
    content = path.read_bytes()
    place = content.index(b"vol3dseg-raw-weights.npz") + 60
    path.write_bytes(content[:place] + bytes(100) + content[place + 100 :])
    with pytest.raises(RunError, match="copy it again"):
        read_raw(path)
