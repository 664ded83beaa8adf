import math
from typing import get_args

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from vol3dseg.config import Config, TrainingConfig, load_config
from vol3dseg.training import named_loss
from vol3dseg.training.losses import LOSSES
from vol3dseg.training.named_loss import NamedLoss

pytestmark = pytest.mark.train

ALL = list(LOSSES)
# Two voxels, true classes 0 and 2.
LABEL = np.array([0, 2], np.uint8).reshape(1, 2, 1, 1)
GUESS = np.array([[1 / 2, 1 / 4, 1 / 4], [1 / 8, 1 / 8, 3 / 4]], np.float32).reshape(1, 2, 1, 1, 3)
SURE = 40.0  # a logit this far above the others: its probability is 1 in float32

CROSS_ENTROPY = (math.log(2) + math.log(4 / 3)) / 2
# Smoothed by one voxel: class 1 has p = 1/4 + 1/8 and no voxel, class 2 has p = 1/4 + 3/4 and one.
DICE = 1 - (1 / (3 / 8 + 1) + (2 * 3 / 4 + 1) / (1 + 1 + 1)) / 2


def test_a_config_may_name_every_loss_and_no_other():
    assert list(LOSSES) == list(get_args(TrainingConfig.model_fields["loss"].annotation))


def loss_of(name, label, guess):
    """The loss of probabilities, whose logarithms are logits that make them."""
    return float(NamedLoss(name)(label, np.log(np.maximum(guess, 1e-20))))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("cross_entropy", CROSS_ENTROPY, id="cross entropy"),
        pytest.param("dice", DICE, id="dice of foreground classes"),
        pytest.param("dice_cross_entropy", DICE + CROSS_ENTROPY, id="sum"),
        pytest.param("focal", (math.log(2) / 4 + math.log(4 / 3) / 16) / 2, id="focal"),
    ],
)
def test_equals_what_a_hand_computes(name, expected):
    assert loss_of(name, LABEL, GUESS) == pytest.approx(expected, rel=1e-6)


def test_dice_is_pooled_over_the_batch_and_not_a_mean_over_its_patches():
    label = np.zeros((2, 2, 1, 1), np.uint8)
    label[0] = 1  # the second patch lacks the class
    guess = np.zeros((2, 2, 1, 1, 2), np.float32)
    guess[0, ..., 1] = 1
    guess[1, ..., :] = 1 / 2
    assert loss_of("dice", label, guess) == pytest.approx(1 - (2 * 2 + 1) / (2 + 3 + 1))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_a_sure_and_right_answer_costs_nothing(name, dtype):
    label = np.random.default_rng(0).integers(0, 3, (2, 4, 4, 4)).astype(dtype)
    assert loss_of(name, label, np.eye(3, dtype=np.float32)[label]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(0, id="only background"),
        pytest.param(2, id="only one class"),
    ],
)
def test_loss_and_gradient_are_finite_at_certainty(name, value):
    import tensorflow as tf

    label = np.full((1, 2, 2, 2), value, np.uint8)
    wrong = tf.constant(1000 * np.eye(3, dtype=np.float32)[(label + 1) % 3])
    with tf.GradientTape() as tape:
        tape.watch(wrong)
        loss = NamedLoss(name)(label, wrong)
    assert np.isfinite(loss)
    assert np.isfinite(tape.gradient(loss, wrong)).all()


@pytest.mark.parametrize("name", ["cross_entropy", "dice_cross_entropy", "focal"])
@pytest.mark.parametrize("gap", [10.0, SURE, 80.0])
def test_what_is_surely_wrong_is_pulled_back_with_full_strength(name, gap):
    """The gradient of cross-entropy is p minus the truth: (1, -1) for a voxel that is all wrong."""
    import tensorflow as tf

    logits = tf.constant([gap, 0.0], shape=(1, 1, 1, 1, 2))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = NamedLoss(name)(np.ones((1, 1, 1, 1), np.uint8), logits)
    assert np.ravel(tape.gradient(loss, logits)) == pytest.approx([1, -1], rel=2e-3)
    if name == "cross_entropy":
        assert float(loss) == pytest.approx(gap, rel=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_survives_a_round_through_a_saved_model(name):
    loss = NamedLoss(name)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(LABEL, GUESS)) == float(loss(LABEL, GUESS)) > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Voxels of class 0 count once, those of class 2 three times.
        pytest.param("cross_entropy", (math.log(2) + 3 * math.log(4 / 3)) / 4, id="cross entropy"),
        # Of foreground classes alone: 2 for class 1, 3 for class 2.
        pytest.param("dice", 1 - (2 / (3 / 8 + 1) + 3 * (5 / 2) / 3) / 5, id="dice"),
        pytest.param("focal", (math.log(2) / 4 + 3 * math.log(4 / 3) / 16) / 4, id="focal"),
    ],
)
def test_classes_count_by_their_weights(name, expected):
    logits = np.log(GUESS)
    assert float(NamedLoss(name, (1, 2, 3))(LABEL, logits)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_only_the_ratios_of_weights_matter(name):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (2, 4, 4, 4)).astype(np.uint8)
    logits = rng.normal(size=(2, 4, 4, 4, 3)).astype(np.float32)
    plain = float(NamedLoss(name)(label, logits))
    assert float(NamedLoss(name, (5, 5, 5))(label, logits)) == pytest.approx(plain, rel=1e-6)
    one, two = (float(NamedLoss(name, w)(label, logits)) for w in ((1, 2, 4), (0.5, 1, 2)))
    assert one == pytest.approx(two, rel=1e-6)
    assert abs(one - plain) > 1e-4


def test_the_weights_of_a_config_are_those_of_its_classes():
    data = load_config("crops32").model_dump(mode="json")
    assert named_loss.loss_of(Config.model_validate(data)).weights is None
    data["training"]["class_weights"] = {"enhancing": 2.5}
    assert named_loss.loss_of(Config.model_validate(data)).weights == [1, 1, 1, 2.5]


def test_with_weights_too_it_survives_a_round_through_a_saved_model():
    loss = NamedLoss("dice_cross_entropy", (1, 2, 3))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(LABEL, GUESS)) == float(loss(LABEL, GUESS))
    assert float(loss(LABEL, GUESS)) != float(NamedLoss("dice_cross_entropy")(LABEL, GUESS))
