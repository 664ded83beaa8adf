"""What changes the weights and how fast, against the formulas that are said of it."""

import math

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip

from tests.conftest import batches, small_config  # noqa: E402
from vol3dseg.config import TrainingConfig  # noqa: E402
from vol3dseg.training.compiled import compile_network  # noqa: E402
from vol3dseg.training.learning_rate import LearningRate, learning_rate_of  # noqa: E402
from vol3dseg.training.optimizers import make_optimizer  # noqa: E402

OPTIMIZERS = ["adam", "adamw", "sgd", "schedule_free_adamw"]
KERNEL = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
BIAS = np.array([1.0, -1.0], np.float32)


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        pytest.param("constant", {"warmup": 4}, [0.25, 0.5, 0.75, 1, 1, 1, 1], id="warm-up"),
        pytest.param("polynomial", {}, [(1 - t / 6) ** 0.9 for t in range(7)], id="nnU-Net"),
        pytest.param(
            "polynomial", {"power": 2.0, "warmup": 2}, [0.5, 1, 1, 9 / 16, 1 / 4, 1 / 16, 0],
            id="power, after a warm-up",
        ),
        pytest.param(
            "cosine", {}, [(1 + math.cos(math.pi * t / 6)) / 2 for t in range(7)], id="cosine"
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_a_rate_counts_changes_of_the_weights(shape, options, expected, micro_batches):
    rate = LearningRate(0.5, shape, changes=6, micro_batches=micro_batches, **options)
    again = LearningRate.from_config(rate.get_config())
    for change, share in enumerate(expected):
        for part in range(micro_batches):
            step = change * micro_batches + part
            assert float(rate(step)) == pytest.approx(0.5 * share, abs=1e-7)
            assert float(again(step)) == float(rate(step))
    assert float(rate(100 * micro_batches)) == pytest.approx(0.5 * expected[-1], abs=1e-7)


def test_only_a_rate_that_nothing_else_sets_is_a_number():
    """Since a plateau may lower a number, and no schedule."""
    assert learning_rate_of(TrainingConfig(learning_rate=0.5), 10) == 0.5
    warm = learning_rate_of(TrainingConfig(learning_rate=0.5, warmup_epochs=0.5), 10)
    assert [round(float(warm(n)), 6) for n in range(6)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]


def variables():
    return [keras.Variable(KERNEL, name="kernel"), keras.Variable(BIAS, name="bias")]


def stepped(gradients, micro_batch=2, scaled=False, **settings):
    """Return kernel and bias after steps of these gradients, and the optimizer."""
    training = TrainingConfig(batch_size=2, micro_batch=micro_batch, learning_rate=0.1, **settings)
    found = variables()
    optimizer = make_optimizer(training, 10, found)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0)
    optimizer.build(found)
    for kernel, bias in gradients:
        scaling = 1024.0 if scaled else 1.0
        parts = [keras.ops.convert_to_tensor(g * np.float32(scaling)) for g in (kernel, bias)]
        optimizer.apply(parts, found)
    return [v.numpy() for v in found], optimizer


def random_gradients(steps):
    rng = np.random.default_rng(0)
    kernels, biases = rng.normal(size=(steps, 2, 2)), rng.normal(size=(steps, 2))
    return [
        (k.astype(np.float32), b.astype(np.float32)) for k, b in zip(kernels, biases, strict=True)
    ]


@pytest.mark.parametrize("name", OPTIMIZERS[1:])
def test_decay_pulls_at_what_has_several_axes_alone(name):
    """A gradient of nearly nothing leaves decay alone to see; Adam has none."""
    still = [(0 * KERNEL, 0 * BIAS)] * 3
    (kernel, bias), _ = stepped(still, optimizer=name, weight_decay=0.5)
    np.testing.assert_array_equal(bias, BIAS)
    np.testing.assert_allclose(kernel, KERNEL * (kernel / KERNEL)[0, 0], rtol=1e-6)
    assert (1 - 0.5 * 0.1) ** 3 - 1e-6 < (kernel / KERNEL)[0, 0] < 1 - 0.5 * 0.1
    (kernel, _), _ = stepped(still, optimizer="adam", weight_decay=0.5)
    np.testing.assert_array_equal(kernel, KERNEL)


@pytest.mark.parametrize("scaled", [False, pytest.param(True, id="float16's loss scaling")])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_micro_batches_and_scaled_losses_change_what_the_batch_changes(name, scaled):
    """Clipped by the norm of the mean over the batch, in the units of the loss itself."""
    parts = random_gradients(6)
    whole = [(parts[n][0] / 2 + parts[n + 1][0] / 2, parts[n][1] / 2 + parts[n + 1][1] / 2)
             for n in range(0, 6, 2)]  # fmt: skip
    assert min(np.hypot(np.linalg.norm(k), np.linalg.norm(b)) for k, b in whole) > 0.5
    settings = {"optimizer": name, "clip_norm": 0.5, "schedule": "constant", "warmup_epochs": 0.3}
    expected, _ = stepped(whole, **settings)
    found, optimizer = stepped(parts, micro_batch=1, scaled=scaled, **settings)
    assert int(optimizer.iterations) == 3
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6)
    free, _ = stepped(whole, **{**settings, "clip_norm": None})
    assert np.abs(free[0] - expected[0]).max() > 1e-3 or "adam" in name, "the norm must be clipped"


def test_a_step_that_overflows_in_float16_changes_nothing():
    ours, optimizer = stepped(
        [(KERNEL * np.inf, BIAS), (KERNEL, BIAS)], scaled=True, optimizer="sgd", weight_decay=0.0
    )
    assert int(optimizer.iterations) == 1
    assert float(optimizer.dynamic_scale) == 512.0
    for found, start in zip(ours, (KERNEL, BIAS), strict=True):
        # The other was scaled by twice of what it is scaled by now.
        np.testing.assert_allclose(found, start - 0.1 * (1 + 0.99) * 2 * start, rtol=1e-6)


def test_schedule_free_is_what_its_authors_wrote():
    """Defazio et al. 2024, algorithm 1, after a warm-up of five steps."""
    gradients, decay, steps = random_gradients(20), 0.3, 20
    (kernel, bias), optimizer = stepped(
        gradients, optimizer="schedule_free_adamw", weight_decay=decay, warmup_epochs=0.5
    )
    for place, start in ((0, KERNEL), (1, BIAS)):
        x = z = start.astype(float)
        v, weights = 0 * x, 0.0
        for step in range(1, steps + 1):
            gradient, rate = gradients[step - 1][place].astype(float), 0.1 * min(1, step / 5)
            y = 0.1 * z + 0.9 * x
            v = 0.999 * v + 0.001 * gradient**2
            z = z - rate * gradient / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
            z = z - rate * decay * y * (place == 0)
            weights += rate**2
            x = (1 - rate**2 / weights) * x + rate**2 / weights * z
        np.testing.assert_allclose((kernel, bias)[place], 0.1 * z + 0.9 * x, rtol=2e-5)
        np.testing.assert_allclose(optimizer.averaged()[place], x, rtol=2e-5)


def test_a_step_is_traced_once(recipe):
    """Twice where its first trace makes variables, which takes seconds for a deep network."""
    config = small_config(recipe)
    outputs = len(config.targets)
    image = keras.Input((8, 8, 8, 2))
    model = keras.Model(image, keras.layers.Conv3D(outputs, 1)(image))
    traced = []

    def loss(label, logits):
        traced.append(label.shape)
        return keras.ops.mean(logits**2, axis=(1, 2, 3, 4))

    compile_network(model, config, [], loss)
    batch = np.zeros((2, 8, 8, 8, 2), np.float32), np.zeros((2, 8, 8, 8), np.int32)
    model.fit(batches(*batch), epochs=3, shuffle=False, verbose=0)
    assert len(traced) == 1
