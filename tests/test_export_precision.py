"""Instance norms that onnxruntime's kernel gets wrong are written as arithmetic, no others."""

from collections import Counter

import numpy as np
import onnx
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

from vol3dseg.config import ModelConfig  # noqa: E402 - after the skip
from vol3dseg.export.graph import convert  # noqa: E402
from vol3dseg.export.instance_norm import spell_out_imprecise_norms  # noqa: E402
from vol3dseg.export.parity import check_other_sizes, measure_parity  # noqa: E402
from vol3dseg.training.networks.building import probabilities  # noqa: E402
from vol3dseg.training.networks.unet import build_unet  # noqa: E402

SIZE = (48, 48, 48)


@pytest.fixture(scope="module")
def model():
    network = build_unet(ModelConfig(depth=1, width=2, norm="instance"), 1, 2)
    rng = np.random.default_rng(1)
    network.set_weights([w + rng.normal(0, 0.1, w.shape) for w in network.get_weights()])
    return network


def half_background():
    """One value in most voxels, as outside the body, and noise in a corner."""
    patch = np.full((1, *SIZE, 1), 0.7, dtype=np.float32)
    patch[:, :12, :12] = np.random.default_rng(0).normal(3, 1, (1, 12, 12, 48, 1))
    return patch


def kinds(graph):
    return Counter(node.op_type for node in graph.graph.node)


def test_imprecise_norms_are_spelled_out_and_agree(model, manifest_for):
    facts = manifest_for(1, 2, SIZE, 2)
    graph, patches = convert(model, SIZE), half_background()
    before, norms = (
        measure_parity(probabilities(model, "softmax"), graph.SerializeToString(), patches, facts),
        kinds(graph),
    )
    replaced = spell_out_imprecise_norms(graph, patches)
    after = measure_parity(
        probabilities(model, "softmax"), graph.SerializeToString(), patches, facts
    )
    assert replaced > 0
    assert kinds(graph)["InstanceNormalization"] == norms["InstanceNormalization"] - replaced
    assert kinds(graph)["ReduceMean"] == 6 * replaced
    assert after.max_abs_difference < before.max_abs_difference
    assert after.max_abs_difference < 1e-5
    taken = {name for node in graph.graph.node for name in node.input}
    assert {tensor.name for tensor in graph.graph.initializer} <= taken
    onnx.checker.check_model(graph, full_check=True)
    check_other_sizes(graph.SerializeToString(), facts)


def test_precise_norms_stay_one_node_each(model):
    graph = convert(model, SIZE)
    patches = np.random.default_rng(0).normal(size=(1, 8, 8, 8, 1)).astype(np.float32)
    content = graph.SerializeToString()
    assert spell_out_imprecise_norms(graph, patches) == 0
    assert graph.SerializeToString() == content


def test_batch_norm_is_left_alone():
    graph = convert(build_unet(ModelConfig(depth=1, width=2, norm="batch"), 1, 2), (8, 8, 8))
    content = graph.SerializeToString()
    assert spell_out_imprecise_norms(graph, half_background()) == 0
    assert graph.SerializeToString() == content
