"""Levels so small that bfloat16 is computed wrong there are trained in float32."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
import tensorflow as tf

from vol3dseg.config import Config, load_config
from vol3dseg.training.named_loss import NamedLoss
from vol3dseg.training.networks.building import build_network, levels_in_float32
from vol3dseg.training.precision import precision_policy

pytestmark = pytest.mark.train


def config_of(model, patch=(16, 16, 16), **training):
    data = load_config("crops32").model_dump(mode="json")
    data["recipe"]["patch_size"] = patch
    data["model"] = {"width": 4, "norm": "batch", **model}
    data["training"] = {"optimizer": "adamw", **training}
    return Config.model_validate(data)


@pytest.mark.parametrize(
    ("model", "patch", "training", "levels"),
    [
        pytest.param({"depth": 3}, (16, 32, 32), {}, {3}, id="two voxels along i"),
        pytest.param({"depth": 3}, (32, 16, 16), {}, set(), id="along j and k"),
        pytest.param(
            {"depth": 2, "kernels": [[3, 3, 3], [5, 3, 3], [5, 3, 3]]}, (16, 16, 16), {}, {2},
            id="a long kernel",
        ),
        pytest.param(
            {"depth": 1, "kernels": [[1, 3, 3], [1, 3, 3]], "strides": [[1, 2, 2]]}, (2, 16, 16),
            {}, set(), id="a flat kernel",
        ),
        pytest.param(
            {"depth": 2}, (16, 16, 16),
            {"grow_patch": {"start": 0.5, "stages": 2, "epochs": 0.5}}, {2},
            id="small patches first",
        ),
    ],
)  # fmt: skip
def test_levels_whose_kernels_are_longer_than_they_are(model, patch, training, levels):
    assert levels_in_float32(config_of(model, patch, **training)) == levels


@pytest.mark.parametrize("encoder", ["plain", "residual"])
def test_gradients_in_bfloat16_are_those_of_float32_at_every_level(encoder):
    """At the bottom, of 2 x 2 x 2 voxels, they were 1e36, infinite or NaN."""
    model = {"depth": 3, "encoder": encoder}
    config = config_of(model | ({"blocks": [1, 1, 1, 1]} if encoder == "residual" else {}))
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 16, 16, 16, 4)).astype(np.float32)
    label = rng.integers(0, 4, (2, 16, 16, 16)).astype(np.uint8)
    found = []
    for precision in ("float32", "bfloat16"):
        keras.utils.set_random_seed(0)
        with precision_policy(precision):
            network = build_network(config)
        for _ in range(3):  # memory that nobody has written is clean at first
            with tf.GradientTape() as tape:
                loss = NamedLoss("cross_entropy")(label, network(image, training=True))
            names = [v.path for v in network.trainable_variables if v.name == "kernel"]
            kernels = [v for v in network.trainable_variables if v.name == "kernel"]
            gradients = tape.gradient(loss, [v.value for v in kernels])
            assert all(np.isfinite(g).all() for g in gradients)
        found.append([np.asarray(g, np.float64).ravel() for g in gradients])
    for name, exact, rough in zip(names, *found, strict=True):
        alike = exact @ rough / np.linalg.norm(exact) / np.linalg.norm(rough)
        assert alike > 0.8, name
