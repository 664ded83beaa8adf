"""Keras to ONNX: a clean graph, equal to the model, for any batch and size."""

import re
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")

import keras
import tensorflow as tf

from vol3dseg.config import ModelConfig
from vol3dseg.errors import ModelError
from vol3dseg.export import graph as graph_module
from vol3dseg.export import instance_norm
from vol3dseg.export.graph import convert
from vol3dseg.export.parity import Agreement, check_other_sizes, measure_parity
from vol3dseg.export.quantise import quantise
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.model.network_check import require_sound_network
from vol3dseg.training.networks.building import probabilities
from vol3dseg.training.networks.norms import InstanceNormalization
from vol3dseg.training.networks.unet import build_unet

pytestmark = pytest.mark.train

PATCH = (8, 12, 4)
CHANNELS, CLASSES = 2, 3


def trained(norm, seed=0, **facts):
    """A network none of whose weights is a 0 or a 1 that could hide a fault."""
    config = ModelConfig(depth=2, width=3, norm=norm, dropout=0.1, **facts)
    model = build_unet(config, CHANNELS, CLASSES)
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in {"gamma", "scale", "moving_variance"}:
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        elif weight.name in {"beta", "shift", "moving_mean", "bias"}:
            weight.assign(rng.normal(0, 0.5, weight.shape))
    return model


@pytest.fixture(scope="module", params=["batch", "instance"])
def pair(request):
    """A model and its graph."""
    model = trained(request.param)
    return model, convert(model, PATCH)


@pytest.fixture(scope="session")
def facts(manifest_for):
    return manifest_for(CHANNELS, CLASSES, PATCH, 4)


@pytest.fixture
def patches():
    return np.random.default_rng(1).normal(size=(3, *PATCH, CHANNELS)).astype(np.float32)


def dims(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_graph_has_these_nodes_and_no_others(pair):
    model, converted = pair
    norms = [layer for layer in model.layers if layer.name.endswith("_norm")]
    expected = Counter(Conv=11, LeakyRelu=10, MaxPool=2, ConvTranspose=2, Concat=2, Softmax=1)
    if isinstance(norms[0], InstanceNormalization):
        expected["InstanceNormalization"] = len(norms)  # batch norm is folded into Conv
    assert len(norms) == 10
    assert Counter(node.op_type for node in converted.graph.node) == expected


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_residual_encoder_of_flat_kernels(norm, patches, facts):
    kernels, strides = ((3, 3, 1), (3, 3, 3), (5, 3, 3)), ((2, 2, 1), (2, 2, 2))
    model = trained(norm, encoder="residual", kernels=kernels, strides=strides, blocks=(1, 2, 1))
    converted = convert(model, PATCH)
    expected = Counter(
        # A stem, four blocks of two, two matches of filters, two levels of a decoder, a head.
        Conv=1 + 8 + 2 + 4 + 1, LeakyRelu=1 + 8 + 4, AveragePool=2, Add=4, ConvTranspose=2,
        Concat=2, Softmax=1,
    )  # fmt: skip
    if norm == "instance":
        expected["InstanceNormalization"] = 15
    assert Counter(node.op_type for node in converted.graph.node) == expected
    network, content = probabilities(model, "softmax"), converted.SerializeToString()
    assert measure_parity(network, content, patches, facts).max_abs_difference < 1e-5
    require_sound_network(converted, facts_of(facts, norm == "batch"), "x.onnx")
    session = OnnxBackend(quantise(converted, patches).SerializeToString())
    images = np.ascontiguousarray(np.moveaxis(patches, -1, 1))
    off = session(images) - OnnxBackend(content)(images)
    assert 0 < np.abs(off).mean() < 0.02


def facts_of(manifest, local):
    network = manifest.network.model_copy(update={"local": local})
    return manifest.model_copy(update={"network": network})


def test_names_and_dimensions(pair):
    _, converted = pair
    (image,), (output,) = converted.graph.input, converted.graph.output
    assert (image.name, dims(image)) == ("image", ["n", CHANNELS, "i", "j", "k"])
    assert (output.name, dims(output)) == ("probabilities", ["n", CLASSES, "i", "j", "k"])
    assert not converted.graph.value_info
    assert not converted.metadata_props


def test_standard_operators_only_and_all_weights_inside(pair):
    _, converted = pair
    assert [(opset.domain, opset.version) for opset in converted.opset_import] == [("", 17)]
    taken = {name for node in converted.graph.node for name in node.input}
    for weight in converted.graph.initializer:
        assert weight.data_location == onnx.TensorProto.DEFAULT
        assert weight.name in taken


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parity(norm, seed, patches, facts):
    model = trained(norm, seed)
    agreement = measure_parity(
        probabilities(model, "softmax"), convert(model, PATCH).SerializeToString(), patches, facts
    )
    assert agreement.patches == 3
    assert agreement.max_abs_difference <= 1e-5
    assert agreement.label_agreement > 0.999


def test_an_untrained_model_whose_ones_and_zeros_fold_away(patches, facts):
    model = build_unet(ModelConfig(depth=2, width=3, norm="instance"), CHANNELS, CLASSES)
    agreement = measure_parity(
        probabilities(model, "softmax"), convert(model, PATCH).SerializeToString(), patches, facts
    )
    assert agreement.max_abs_difference <= 1e-5


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_patch_that_is_one_voxel_at_the_bottom(norm, manifest_for):
    model = trained(norm)
    content = convert(model, (4, 4, 4)).SerializeToString()
    check_other_sizes(content, manifest_for(CHANNELS, CLASSES, (4, 4, 4), 4))


def test_strides_that_differ_between_axes_reach_the_graph(manifest_for):
    strides, size = ((1, 2, 2), (2, 2, 3)), (2, 4, 6)
    model = build_unet(ModelConfig(depth=2, width=2, strides=strides), CHANNELS, CLASSES)
    content = convert(model, size).SerializeToString()
    facts = manifest_for(CHANNELS, CLASSES, size, 1)
    network = facts.network.model_copy(update={"divisor": size})
    facts = facts.model_copy(update={"network": network})
    check_other_sizes(content, facts)
    patches = np.random.default_rng(1).normal(size=(2, 6, 4, 12, CHANNELS)).astype(np.float32)
    found = measure_parity(probabilities(model, "softmax"), content, patches, facts)
    assert found.max_abs_difference <= 1e-5


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch(pair, batch, patches):
    model, converted = pair
    session = OnnxBackend(converted.SerializeToString(), "cpu")
    output = session(np.ascontiguousarray(np.moveaxis(patches[:batch], -1, 1)))
    expected = np.asarray(probabilities(model, "softmax")(patches[:batch]))
    np.testing.assert_allclose(np.moveaxis(output, 1, -1), expected, atol=1e-5)


def test_other_sizes(pair, facts):
    _, converted = pair
    check_other_sizes(converted.SerializeToString(), facts)


def test_parity_sees_a_model_that_is_not_the_exported_one(pair, patches, facts):
    model, converted = pair
    norm = "batch" if any("moving" in w.name for w in model.weights) else "instance"
    other = measure_parity(
        probabilities(trained(norm, seed=9), "softmax"),
        converted.SerializeToString(),
        patches,
        facts,
    )
    assert other.max_abs_difference > 0.01


# --- graphs written by hand ---------------------------------------------------------------------


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def hand_made(nodes, constants=(), channels=2):
    sizes = ["i", "j", "k"]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, *sizes])
        for name in ("image", "probabilities")
    ]
    made = [helper.make_node(kind, i.split(), [o], **a) for kind, i, o, a in nodes]
    graph = helper.make_graph(made, "hand", ends[:1], ends[1:], list(constants))
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


# --- instance norms ------------------------------------------------------------------------------


def small(*layers):
    image = keras.Input((None, None, None, 2))
    x = image
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x, name="small")


def norm_with(name="norm", epsilon=1e-5):
    layer = InstanceNormalization(epsilon, name=name)
    layer.build((None, None, None, None, 2))
    layer.set_weights([np.array([2.0, -3.0]), np.array([0.5, 0.25])])
    return layer


SHARED = norm_with()


@pytest.mark.parametrize(
    ("model", "norms"),
    [
        pytest.param(small(keras.layers.Conv3D(2, 1), norm_with()), 1, id="after a convolution"),
        pytest.param(small(norm_with()), 1, id="of the image itself"),
        pytest.param(small(norm_with(epsilon=0.5)), 1, id="another epsilon"),
        pytest.param(small(SHARED, keras.layers.ReLU(), SHARED), 2, id="one layer, twice"),
        pytest.param(small(small(norm_with()), norm_with("other")), 2, id="in a nested model"),
        pytest.param(
            small(norm_with(), keras.layers.Activation(keras.ops.erf)), 1,
            id="beside an operator like the mark",
        ),
    ],
)  # fmt: skip
def test_every_instance_norm_becomes_one_node(model, norms, manifest_for):
    converted = convert(model, (4, 4, 4))
    kinds = Counter(node.op_type for node in converted.graph.node)
    assert kinds["InstanceNormalization"] == norms
    assert not {"ReduceMean", "GlobalAveragePool", "Sqrt"} & set(kinds)
    image = np.random.default_rng(2).normal(3, 2, size=(2, 8, 8, 8, 2)).astype(np.float32)
    network = probabilities(model, "softmax")
    facts = manifest_for(2, 2, (4, 4, 4), 1)
    agreement = measure_parity(network, converted.SerializeToString(), image, facts)
    assert agreement.max_abs_difference < 1e-5


def test_layers_work_as_before_after_an_export():
    model = small(norm_with())
    image = np.random.default_rng(2).normal(size=(1, 4, 4, 4, 2)).astype(np.float32)
    before = np.asarray(model(image))
    convert(model, (4, 4, 4))
    np.testing.assert_array_equal(model(image), before)


def test_a_mark_that_gets_lost_is_refused(monkeypatch):
    monkeypatch.setattr(instance_norm, "_MARK", re.compile("another name"))
    with pytest.raises(ModelError, match="0 of 1 layers became one node; expected all"):
        convert(small(norm_with()), (4, 4, 4))


# --- models that do not convert -----------------------------------------------------------------


def test_a_transpose_that_stays_is_refused():
    swap = keras.layers.Permute((2, 1, 3, 4))
    with pytest.raises(ModelError, match="the graph has 1 Transpose; expected none"):
        convert(small(keras.layers.Conv3D(2, 1), swap), (4, 4, 4))


class Foreign(keras.layers.Layer):
    """An operator that tf2onnx does not know and passes on all the same."""

    def call(self, inputs):
        return tf.math.lbeta(tf.stack([inputs, inputs], -1)) + tf.math.ndtri(inputs)


def test_an_unknown_operator_is_refused():
    with pytest.raises(ModelError, match="not valid"):
        convert(small(Foreign()), (4, 4, 4))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        pytest.param(
            ("FusedMatMul", "image image", "probabilities", {"domain": "com.microsoft"}),
            "not valid",
            id="operator of onnxruntime's own",
        ),
        pytest.param(
            ("Reshape", "image shape", "probabilities", {}), "has 1 Reshape", id="size baked in"
        ),
    ],
)
def test_what_tf2onnx_must_not_leave_is_refused(monkeypatch, node, message):
    made = hand_made([node], [constant("shape", (-1, 2, 4, 4, 4), np.int64)])
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    monkeypatch.setattr(graph_module, "trace", lambda model, size, head: made)
    with pytest.raises(ModelError, match=message):
        convert(small(keras.layers.Conv3D(2, 1)), (4, 4, 4))


def test_two_outputs_are_refused():
    image = keras.Input((None, None, None, 2))
    model = keras.Model(image, [image + 1, image + 2])
    with pytest.raises(ModelError, match="1 inputs and 2 outputs"):
        convert(model, (4, 4, 4))


# --- agreement and sizes ------------------------------------------------------------------------


def softmax_graph(*before, constants=()):
    return hand_made([*before, ("Softmax", "x", "probabilities", {"axis": 1})], constants)


def test_agreement_by_hand(manifest_for):
    content = hand_made([("Identity", "image", "probabilities", {})]).SerializeToString()
    patches = np.zeros((2, 1, 1, 2, 2), np.float32)
    patches[..., 0] = 0.75
    patches[..., 1] = 0.25

    def keras_says(patch):
        assert patch.shape == (1, 1, 1, 2, 2)
        answer = patch.copy()
        answer[0, 0, 0, 0] = [0.25, 0.75] if keras_says.first else [0.625, 0.375]
        keras_says.first = False
        return answer

    keras_says.first = True
    facts = manifest_for(2, 2, (1, 2, 2), 1)
    assert measure_parity(keras_says, content, patches, facts) == Agreement(2, 1 / 2, 3 / 4)


def test_nan_in_one_patch_is_not_lost(manifest_for):
    content = hand_made([("Identity", "image", "probabilities", {})]).SerializeToString()
    patches = np.zeros((3, 1, 1, 1, 2), np.float32)
    patches[1] = np.nan
    found = measure_parity(np.zeros_like, content, patches, manifest_for(2, 2, (1, 1, 1), 1))
    assert np.isnan(found.max_abs_difference)


def test_no_patches_are_refused(facts):
    with pytest.raises(ModelError, match="no patches"):
        measure_parity(None, b"", np.zeros((0, 4, 4, 4, 1), np.float32), facts)


def test_outputs_of_different_shape_are_refused(facts):
    content = hand_made([("Identity", "image", "probabilities", {})]).SerializeToString()
    with pytest.raises(ModelError, match="expected equal shapes"):
        measure_parity(lambda patch: patch[..., :1], content, np.ones((1, 2, 2, 2, 2), "f4"), facts)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(
            softmax_graph(
                ("Reshape", "image shape", "x", {}),
                constants=[constant("shape", (1, 2, 4, 4, 4), np.int64)],
            ),
            "does not run on",
            id="size baked in",
        ),
        pytest.param(
            softmax_graph(("MaxPool", "image", "x", {"kernel_shape": [2, 2, 2]})),
            "gives .* expected",
            id="another size",
        ),
        pytest.param(
            hand_made([("Sigmoid", "image", "probabilities", {})]), "sum to one", id="no softmax"
        ),
        pytest.param(softmax_graph(("Log", "image", "x", {})), "not finite", id="not a number"),
    ],
)
def test_a_graph_that_gives_no_probabilities_everywhere_is_refused(model, message, manifest_for):
    with pytest.raises(ModelError, match=message):
        check_other_sizes(model.SerializeToString(), manifest_for(2, 2, (4, 4, 4), 2))
