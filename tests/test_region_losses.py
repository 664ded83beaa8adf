"""Losses and metrics of regions, each of which has an output of its own."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
import tensorflow as tf

from vol3dseg.config import Config, load_config
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.model.outputs import Sigmoid
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import IGNORED, Segmentation
from vol3dseg.training.losses import LOSSES
from vol3dseg.training.metrics import ConfusionMetrics, metrics_of
from vol3dseg.training.named_loss import NamedLoss, loss_of
from vol3dseg.training.region_losses import REGION_LOSSES

pytestmark = pytest.mark.train

ALL = list(REGION_LOSSES)
MEMBERS = [[1, 2, 3], [1, 3], [3]]
SHAPE = (2, 4, 3, 5)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def brats(**training):
    data = load_config("brats2020").model_dump(mode="json")
    data["training"] |= {"targets": "regions", **training}
    return Config.model_validate(data)


def sample(rng):
    return rng.integers(0, 4, SHAPE).astype(np.uint8), rng.normal(0, 3, (*SHAPE, 3)).astype("f4")


def by_hand(name, label, logits, weights=(1, 1, 1)):
    """In float64, region by region, over the voxels that are judged."""
    found = 0.0
    for region, members in enumerate(MEMBERS):
        truth = np.isin(label, members)[label != IGNORED]
        p = 1 / (1 + np.exp(-logits[..., region].astype(np.float64)))[label != IGNORED]
        right = np.where(truth, p, 1 - p)
        parts = {
            "cross_entropy": np.mean(-np.log(right)),
            "dice": 1 - (2 * p[truth].sum() + 1) / (p.sum() + truth.sum() + 1),
            "focal": np.mean((1 - right) ** 2 * -np.log(right)),
        }
        parts["dice_cross_entropy"] = parts["dice"] + parts["cross_entropy"]
        found += weights[region] / sum(weights) * parts[name]
    return found


def test_there_is_one_of_every_name():
    assert list(REGION_LOSSES) == list(LOSSES)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("weights", [None, (1, 1, 4)])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_equals_what_a_hand_computes(name, weights, ignored, rng):
    label, logits = sample(rng)
    label[rng.random(SHAPE) < ignored] = IGNORED
    found = float(NamedLoss(name, weights, MEMBERS)(label, logits))
    assert found == pytest.approx(by_hand(name, label, logits, weights or (1, 1, 1)), rel=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_sure_and_right_answer_costs_nothing(name, rng):
    label, _ = sample(rng)
    inside = np.stack([np.isin(label, members) for members in MEMBERS], axis=-1)
    logits = np.where(inside, 1000, -1000).astype(np.float32)
    assert float(NamedLoss(name, None, MEMBERS)(label, logits)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_loss_and_gradient_are_finite_at_wrong_certainty(name, rng):
    label, _ = sample(rng)
    inside = np.stack([np.isin(label, members) for members in MEMBERS], axis=-1)
    wrong = tf.constant(np.where(inside, -1000, 1000).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(wrong)
        loss = NamedLoss(name, None, MEMBERS)(label, wrong)
    assert np.isfinite(loss)
    gradient = np.asarray(tape.gradient(loss, wrong))
    assert np.isfinite(gradient).all()
    if name != "dice":
        share = 3 * label.size
        np.testing.assert_allclose(np.abs(gradient), 1 / share, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_what_is_ignored_has_no_gradient(name, rng):
    label, logits = sample(rng)
    label[0] = IGNORED
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = NamedLoss(name, None, MEMBERS)(label, logits)
    gradient = np.asarray(tape.gradient(loss, logits))
    assert not gradient[0].any()
    assert gradient[1].all()
    nothing = np.full(SHAPE, IGNORED, np.uint8)
    assert float(NamedLoss(name, None, MEMBERS)(nothing, logits)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_survives_a_round_through_a_saved_model(name, rng):
    loss = loss_of(brats(loss=name, class_weights={"tumour core": 3.0}))
    assert (loss.weights, loss.regions) == ([1, 3, 1], [(1, 2, 3), (1, 3), (3,)])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    given = sample(rng)
    assert float(again(*given)) == float(loss(*given)) > 0


def test_metrics_are_those_of_the_painted_classes(rng):
    """Region Dice too: what `evaluate` finds in the label map that a deployed model writes."""
    config = brats()
    labels, outputs = config.labels, Sigmoid.of(config.labels)
    label, logits = sample(rng)
    label[0, 0] = IGNORED
    metric = metrics_of(config)
    metric.update_state(label[:1], logits[:1])
    metric.update_state(label[1:], logits[1:])
    found = {name: float(value) for name, value in metric.result().items()}
    p = np.moveaxis(1 / (1 + np.exp(-logits)), -1, 0)
    guess = outputs.decide(p, labels)
    grid = Geometry((2 * 4, 3, 5), np.eye(4))
    maps = [Segmentation(each.reshape(grid.shape), grid, labels) for each in (label, guess)]
    scores = evaluate_case("x", *maps).structures
    assert len(scores) == 6
    for name, of in scores.items():
        assert found["dice_" + name.replace(" ", "_")] == pytest.approx(of["dice"], rel=1e-6)
    assert found["accuracy"] == pytest.approx((label == guess)[label != IGNORED].mean())


def test_metrics_come_back_from_a_saved_model(rng):
    metric = metrics_of(brats())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    given = sample(rng)
    for each in (metric, again):
        each.update_state(*given)
    assert isinstance(again, ConfusionMetrics)
    assert {k: float(v) for k, v in metric.result().items()} == {
        k: float(v) for k, v in again.result().items()
    }
