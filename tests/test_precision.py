"""Training in half precision: chosen by measurement, deployed in float32."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from vol3dseg.config import ModelConfig
from vol3dseg.training import precision
from vol3dseg.training.networks.building import probabilities
from vol3dseg.training.networks.unet import build_unet
from vol3dseg.training.precision import choose_precision, in_float32, precision_policy

pytestmark = pytest.mark.train


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param((1.0, 0.5), "bfloat16", id="twice as quick"),
        pytest.param((1.0, 0.95), "float32", id="not worth three digits"),
        pytest.param((1.0, 7.0), "float32", id="emulated"),
    ],
)
def test_auto_takes_what_the_machine_is_quicker_in_and_says_so(monkeypatch, seconds, expected):
    monkeypatch.setattr(precision, "_seconds_of_steps", lambda: seconds)
    chosen = choose_precision("auto")
    assert chosen.precision == expected
    assert f"{seconds[1] / seconds[0]:.2f} times as long" in chosen.why


def test_a_network_of_ones_own_is_trained_in_float32_unless_asked_otherwise():
    assert choose_precision("auto", ours=False) == precision.Chosen("float32")
    assert choose_precision("bfloat16", ours=False).precision == "bfloat16"


def test_the_measurement_takes_part_of_a_second_and_is_of_both():
    single, half = precision._seconds_of_steps()
    assert 0 < single < 5
    assert 0 < half < 5


@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float16"])
def test_what_is_asked_for_is_taken_without_a_word(asked):
    assert choose_precision(asked) == precision.Chosen(asked)


def test_a_policy_holds_for_what_is_built_meanwhile_only():
    before = keras.config.dtype_policy().name
    with precision_policy("bfloat16"):
        model = build_unet(ModelConfig(depth=1, width=2), 1, 2)
    assert keras.config.dtype_policy().name == before
    assert model.layers[1].compute_dtype == "bfloat16"
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert model.output.dtype == "float32"


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_what_is_deployed_computes_in_float32(norm):
    config = ModelConfig(depth=1, width=4, norm=norm)
    with precision_policy("bfloat16"):
        half = build_unet(config, 1, 2)
    plain = build_unet(config, 1, 2)
    plain.set_weights(half.get_weights())
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 8, 1)).astype(np.float32)
    exact = np.asarray(probabilities(plain, "softmax")(image))
    np.testing.assert_array_equal(probabilities(half, "softmax")(image), exact)
    rounded = np.asarray(keras.ops.softmax(half(image, training=False)))
    assert 1e-4 < np.abs(rounded - exact).max() < 5e-2
    assert in_float32(plain) is plain
