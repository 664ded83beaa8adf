"""What is seen of a training while it runs, and what ends it: steps, times, a bad batch."""

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import batches, small_config
from vol3dseg.config import EarlyStoppingConfig, TrainingConfig, load_config
from vol3dseg.errors import RunError
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.space.box import Box

pytest.importorskip("tensorflow")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip

from vol3dseg.training.fit import train  # noqa: E402
from vol3dseg.training.pace import Pace  # noqa: E402
from vol3dseg.training.sampling import CaseReader, PatchSampler  # noqa: E402
from vol3dseg.training.stop_on_nan import StopOnNaN, describe_batch  # noqa: E402


class Moments:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self):
        return self.now


# --- a loss that is no number ---------------------------------------------------------------------


def poisoned(number, bad, size=2):
    """Learn from batches of which one holds `bad`, until it is noticed."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    x = np.ones((5 * size, 1), np.float32)
    x[number * size] = bad
    return model, x


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("micro_batches", "step", "named"),
    [pytest.param(1, 4, "b3", id="batches"), pytest.param(2, 2, "b2, b3", id="micro-batches")],
)
def test_a_loss_that_is_not_finite_stops_at_once_and_names_its_batch(
    bad, micro_batches, step, named
):
    model, x = poisoned(3, bad)
    stop = StopOnNaN(lambda n: f"b{n}", 5, micro_batches)
    ended = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: pytest.fail("an epoch ended"))
    with pytest.raises(RunError) as error:
        model.fit(batches(x, x, 2), epochs=2, callbacks=[stop, ended], shuffle=False, verbose=0)
    assert re.fullmatch("the loss is (nan|inf) at step [0-9] of epoch 1, .*", error.value.found)
    assert error.value.found.endswith(f"at step {step} of epoch 1, on patches of {named}")
    assert error.value.expected == "a finite number"


def test_the_number_of_a_batch_counts_the_epochs_before():
    stop = StopOnNaN(lambda n: f"b{n}", 6, 3)
    stop.on_epoch_begin(4)
    with pytest.raises(RunError, match=r"at step 2 of epoch 5, on patches of b27, b28;"):
        stop.on_batch_end(4, {"loss": np.nan})


def test_a_batch_is_described_by_what_was_drawn_for_it():
    tables = np.array([[0, 0, 0, 30, 34], [8, 0, 0, 64, 0]])
    labels = np.ones((4, 4, 4), np.uint8)
    case = SimpleNamespace(
        shape=(16, 16, 16), patches=lambda: tables, read_label=lambda box: labels,
        memory_bytes=2**40,
    )  # fmt: skip
    sampler = PatchSampler(CaseReader([case, case, case], 0), (4, 4, 4), 0.5, seed=3)
    describe = describe_batch(
        lambda number: [sampler.draw(2 * number), sampler.draw(2 * number + 1)],
        ["one", "two", "three"],
    )
    drawn = [sampler.draw(n) for n in (6, 7)]
    names = [["one", "two", "three"][draw.case] for draw in drawn]
    expected = ", ".join(f"{name} ({draw.box})" for name, draw in zip(names, drawn, strict=True))
    assert describe(3) == expected
    assert describe(3) != describe(4)


def test_a_training_names_the_cases_of_its_patches_and_saves_nothing(
    shared_brats_folder, tmp_path, recipe
):
    config = small_config(recipe, {"width": 2}, epochs=2, micro_batch=1, steps_per_epoch=3)
    preprocess(shared_brats_folder, tmp_path / "prepared", config)

    def loss(label, logits):
        return keras.ops.mean(logits) * np.nan

    with pytest.raises(RunError) as error:
        train(tmp_path / "prepared", tmp_path / "run", config, loss=loss)
    found = re.fullmatch(
        r"the loss is nan at step 1 of epoch 1, on patches of (Case_00\d) \((.*)\)",
        error.value.found,
    )
    assert found is not None, error.value.found
    box = Box.parse(found[2])
    assert Box.at(box.start, recipe.patch_size) == box
    assert not (tmp_path / "run" / "last.keras").exists()
    assert not (tmp_path / "run" / "training.log").exists()


# --- steps and times ------------------------------------------------------------------------------


def watched(training, first, steps, judged, step_s):
    """Run a Pace through a training; gives its lines, and its steps."""
    lines, shown, clock = [], [], Moments()
    config = load_config("crops32").model_copy(update={"training": training})
    pace = Pace(config, first, steps, judged, lines.append, shown.append, clock)
    pace.set_model(SimpleNamespace(stop_training=False))
    for epoch in range(first, training.epochs):
        pace.on_epoch_begin(epoch)
        for batch in range(steps):
            clock.now += step_s
            pace.on_train_batch_end(batch, {"loss": 0.5 - 0.1 * batch})
        for batch in range(judged):
            clock.now += step_s / 3
            pace.on_test_batch_end(batch, {"loss": 0.25})
        pace.on_epoch_end(epoch, {"loss": 0.5, "dice": 0.75, "val_loss": 0.25, "other": 1.0})
    return lines, shown


def test_how_long_it_will_take_is_said_in_the_first_epoch_and_what_is_left_after_each():
    training = TrainingConfig(epochs=3, batch_size=2)
    lines, shown = watched(training, first=0, steps=5, judged=2, step_s=60.0)
    values = "loss 0.5000  dice 0.7500  val_loss 0.2500"
    assert lines == [
        "about 13 min for 3 epochs of 5 steps, 60 s a step",
        f"epoch 1/3  {values}  11 min left",
        f"epoch 2/3  {values}  6 min left",
        f"epoch 3/3  {values}",
    ]
    assert [(s.epoch, s.part, s.number, s.steps) for s in shown] == [
        (epoch, part, n, of)
        for epoch in (1, 2, 3)
        for part, of in (("train", 5), ("validation", 2))
        for n in range(1, of + 1)
    ]
    left = [s.left_s for s in shown]
    assert left[:3] == [None] * 3
    known = [s for s in left if s is not None]
    assert all(b <= a for a, b in itertools.pairwise(known[6:]))
    assert (shown[0].loss, shown[5].loss) == (0.5, 0.25)


def test_a_run_that_goes_on_tells_of_the_epochs_left_and_early_stopping_of_the_most():
    training = TrainingConfig(
        epochs=4, batch_size=4, micro_batch=2, early_stopping=EarlyStoppingConfig()
    )
    lines, _ = watched(training, first=2, steps=6, judged=0, step_s=1.5)
    assert lines[0] == "at most about 12 s for the 2 epochs left of 3 steps, 3 s a step"
    assert lines[1].endswith("at most 9 s left")
