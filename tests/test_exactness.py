"""Many tiles over a whole scan equal one pass, for a network as it is trained."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("openvino")

import keras

from vol3dseg.config import ModelConfig, load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.export.graph import convert
from vol3dseg.inference.runtimes.openvino_backend import OpenVinoBackend
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.tiling.run_tiles import run_tiles
from vol3dseg.model.manifest import Network
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.training.networks.receptive_field import receptive_field_radius
from vol3dseg.training.networks.unet import build_unet

pytestmark = pytest.mark.train


def network_of(config):
    """A U-Net whose batch norms hold moments of some data, as after training."""
    keras.utils.set_random_seed(0)
    model = build_unet(config, 4, 4)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, shift, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, scale.shape),
                    rng.normal(0, 0.3, shift.shape),
                    rng.normal(0, 0.2, mean.shape),
                    rng.uniform(0.3, 2, variance.shape),
                ]
            )
    facts = Network(
        architecture=config.model_dump(mode="json"),
        divisor=config.divisor,
        receptive_field=receptive_field_radius(config),
        local=True,
    )
    return OpenVinoBackend(convert(model, (48, 48, 48)).SerializeToString()), facts


@pytest.mark.slow
def test_eight_tiles_of_a_whole_scan_equal_one_pass(shared_data, manifest):
    backend, facts = network_of(ModelConfig(depth=3, width=8, norm="batch"))
    recipe = load_config("brats2020").recipe.model_copy(update={"crop": "none"})
    case = find_cases(shared_data / "brats")[0]
    image = prepare(read_volume(case, recipe.modalities), recipe).volume.array
    shape = image.shape[:3]
    assert shape == (240, 240, 155)

    tiled = require_exact_tiles(backend, facts, image, manifest, recipe, share=0.47)
    assert len(tiled.tiles) >= 8


def test_tiles_of_a_residual_encoder_with_flat_kernels_equal_one_pass(manifest):
    config = ModelConfig(
        depth=2,
        width=4,
        norm="batch",
        encoder="residual",
        blocks=(1, 2, 1),
        strides=((2, 2, 1), (3, 2, 2)),
        kernels=((3, 3, 1), (5, 3, 3), (3, 3, 3)),
    )
    backend, facts = network_of(config)
    recipe = load_config("brats2020").recipe
    recipe = recipe.model_copy(update={"patch_size": (48, 48, 48)})
    image = np.random.default_rng(0).normal(size=(162, 52, 38, 4)).astype(np.float32)
    tiled = require_exact_tiles(backend, facts, image, manifest, recipe, share=0.7)
    assert len(tiled.tiles) >= 2


def require_exact_tiles(backend, facts, image, manifest, recipe, share):
    """Compare one pass with tiles that take a share of its memory, and return their plan."""
    shape = image.shape[:3]
    manifest = manifest.model_copy(update={"network": facts, "recipe": recipe})
    planner = Planner(manifest, bytes_per_voxel=1e6)
    whole = planner.plan(shape, np.inf)
    tiled = planner.plan(shape, whole.memory_mb * share)
    assert len(whole.tiles) == 1
    assert tiled.exact
    assert np.prod(tiled.size) <= np.prod(shape) * share + 1

    expected, found = (
        np.concatenate([rows.copy() for rows in run_tiles(image, backend, manifest, plan)], axis=1)
        for plan in (whole, tiled)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    second, first = np.sort(expected, axis=0)[-2:]
    clear = first - second > 2e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found.argmax(axis=0)[clear], expected.argmax(axis=0)[clear])
    return tiled
