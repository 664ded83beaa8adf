"""The network: its parts, its instance norm, and how far it sees."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.config import ModelConfig
from vol3dseg.training.networks.building import activation_of, divisor_of, probabilities
from vol3dseg.training.networks.norms import (
    BatchNormalization,
    InstanceNormalization,
)
from vol3dseg.training.networks.receptive_field import receptive_field_radius
from vol3dseg.training.networks.unet import build_unet

pytestmark = pytest.mark.train

THICK = ((1, 2, 2), (2, 2, 2))  # of slices that are far apart: the first step leaves i as it is


def kernels(model, kind):
    return [layer.kernel.shape for layer in model.layers if type(layer) is kind]


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_output_is_one_logit_for_each_voxel_and_class(norm):
    model = build_unet(ModelConfig(depth=2, width=2, norm=norm), channels=2, classes=3)
    image = np.random.default_rng(0).normal(size=(2, 8, 4, 12, 2)).astype(np.float32)
    output = np.asarray(model(image, training=False))
    assert model.input_shape == (None, None, None, None, 2)
    assert output.shape == (2, 8, 4, 12, 3)
    assert output.dtype == np.float32
    assert activation_of(model) is None
    np.testing.assert_allclose(
        np.asarray(probabilities(model, "softmax")(image)).sum(axis=-1), 1, atol=1e-6
    )


def test_strides_are_those_of_the_config_on_the_way_down_and_up():
    model = build_unet(ModelConfig(depth=2, width=2, strides=THICK), 1, 2)
    pools = [n.pool_size for n in model.layers if isinstance(n, keras.layers.MaxPooling3D)]
    assert pools == list(THICK)
    kernels_up = [k[:3] for k in kernels(model, keras.layers.Conv3DTranspose)]
    assert kernels_up == list(THICK[::-1])
    assert model(np.zeros((1, 2, 4, 8, 1), np.float32)).shape == (1, 2, 4, 8, 2)
    assert divisor_of(model, (4, 8, 8)) == (2, 4, 4)


def test_filters_double_down_to_the_widest():
    model = build_unet(ModelConfig(depth=2, width=4, max_width=12, norm="batch"), 2, 3)
    assert kernels(model, keras.layers.Conv3D) == [
        (3, 3, 3, 2, 4),
        (3, 3, 3, 4, 4),
        (3, 3, 3, 4, 8),
        (3, 3, 3, 8, 8),
        (3, 3, 3, 8, 12),
        (3, 3, 3, 12, 12),
        (3, 3, 3, 8 + 8, 8),
        (3, 3, 3, 8, 8),
        (3, 3, 3, 4 + 4, 4),
        (3, 3, 3, 4, 4),
        (1, 1, 1, 4, 3),
    ]
    assert kernels(model, keras.layers.Conv3DTranspose) == [(2, 2, 2, 8, 12), (2, 2, 2, 4, 8)]


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        pytest.param("batch", keras.layers.BatchNormalization, id="batch"),
        pytest.param("instance", InstanceNormalization, id="instance"),
    ],
)
def test_every_convolution_but_the_head_has_a_norm_and_no_bias(norm, kind):
    model = build_unet(ModelConfig(depth=3, width=1, norm=norm), 1, 2)
    assert sum(isinstance(layer, kind) for layer in model.layers) == 2 * (3 + 1 + 3)
    biased = [layer.name for layer in model.layers if getattr(layer, "bias", None) is not None]
    assert biased == ["head"]


@pytest.mark.parametrize(("share", "layers"), [(0.0, 0), (0.5, 1)])
def test_dropout_works_while_training_only(share, layers):
    model = build_unet(ModelConfig(depth=1, width=4, dropout=share), 1, 2)
    found = [n for n in model.layers if isinstance(n, keras.layers.SpatialDropout3D)]
    assert len(found) == layers
    image = np.random.default_rng(0).normal(size=(1, 4, 4, 4, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(image, training=False), model(image, training=False))


def test_channels_last_whatever_keras_is_set_to():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        model = build_unet(ModelConfig(depth=1, width=2), channels=3, classes=2)
    finally:
        keras.config.set_image_data_format(before)
    assert model.output_shape == (None, None, None, None, 2)


# Keras asks TensorFlow's tensors for arrays in the manner of numpy 1.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_saved_model_comes_back_the_same(tmp_path, norm):
    model = build_unet(ModelConfig(depth=1, width=2, norm=norm), 1, 2)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    image = np.random.default_rng(0).normal(size=(1, 4, 4, 4, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(image, training=False), again(image, training=False))


@given(
    seed=st.integers(0, 2**16),
    size=st.tuples(*[st.integers(1, 5)] * 3),
    channels=st.integers(1, 3),
    mean=st.floats(-1000, 1000),
)
def test_instance_norm_is_its_formula_for_each_sample_and_channel(seed, size, channels, mean):
    rng = np.random.default_rng(seed)
    image = rng.normal(mean, 2, size=(2, *size, channels)).astype(np.float32)
    layer = InstanceNormalization()
    layer.build(image.shape)
    scale, shift = rng.normal(size=(2, channels)).astype(np.float32)
    layer.set_weights([scale, shift])
    exact = image.astype(np.float64)
    centred = exact - exact.mean(axis=(1, 2, 3), keepdims=True)
    variance = (centred**2).mean(axis=(1, 2, 3), keepdims=True)
    expected = centred / np.sqrt(variance + 1e-5) * scale + shift
    # The mean of numbers near 1000 has an error of about 1e-4 in float32; 1 / sqrt(epsilon) is 316.
    np.testing.assert_allclose(layer(image), expected, atol=2e-5 + 1e-4 * abs(mean))


def test_instance_norm_of_a_constant_is_its_shift():
    layer = InstanceNormalization()
    layer.build((None, None, None, None, 1))
    layer.set_weights([np.array([3.0]), np.array([0.25])])
    np.testing.assert_array_equal(layer(np.full((1, 2, 2, 2, 1), 7, np.float32)), 0.25)


def trained_norm(layer, image, weights, axes):
    """Output and gradients of a norm while it is trained, and those of its formula in float64."""
    x = tf.constant(image)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        out = layer(x, training=True)
        loss = tf.reduce_sum(tf.cast(out, tf.float32) * weights)
    found = [out, tape.gradient(loss, x), *tape.gradient(loss, layer.trainable_variables)]
    exact = tf.constant(image.astype(np.float64))
    scale, shift = (tf.constant(v.numpy().astype(np.float64)) for v in layer.trainable_variables)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([exact, scale, shift])
        mean, variance = tf.nn.moments(exact, axes, keepdims=True)
        out = (exact - mean) / tf.sqrt(variance + 1e-5) * scale + shift
        loss = tf.reduce_sum(out * weights.astype(np.float64))
    expected = [out, *(tape.gradient(loss, value) for value in (exact, scale, shift))]
    return [np.asarray(tf.cast(v, tf.float64)) for v in found], [v.numpy() for v in expected]


@pytest.mark.parametrize(
    ("kind", "axes"),
    [
        pytest.param(BatchNormalization, (0, 1, 2, 3), id="batch"),
        pytest.param(InstanceNormalization, (1, 2, 3), id="instance"),
    ],
)
@pytest.mark.parametrize(
    ("policy", "off"), [("float32", 1e-4), ("mixed_bfloat16", 2e-2)], ids=lambda v: str(v)
)
def test_norms_in_training_are_their_formula_and_so_are_their_gradients(kind, axes, policy, off):
    rng = np.random.default_rng(1)
    image = rng.normal(3, 2, size=(2, 3, 4, 5, 3)).astype(tf.bfloat16.as_numpy_dtype)
    image = image.astype(np.float32)  # exact in both precisions
    layer = kind(epsilon=1e-5, dtype=policy)
    layer.build(image.shape)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(1, 0.3, size=3))
    found, expected = trained_norm(layer, image, rng.normal(size=image.shape).astype("f"), axes)
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, atol=off * np.abs(exact).max())


def test_batch_norm_learns_the_statistics_that_keras_does():
    rng = np.random.default_rng(2)
    image = rng.normal(3, 2, size=(2, 3, 4, 5, 2)).astype(np.float32)
    ours, theirs = BatchNormalization(momentum=0.5), keras.layers.BatchNormalization(momentum=0.5)
    for layer in (ours, theirs):
        layer(image, training=True)
    for found, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(ours(image), theirs(image), atol=1e-6)


def test_instance_norm_keeps_float32_inside_under_mixed_precision():
    layer = InstanceNormalization(dtype="mixed_float16")
    # Squares of 1000 are infinite in float16.
    image = np.array([-1000, 1000], np.float16).reshape(1, 2, 1, 1, 1)
    output = layer(image)
    assert output.dtype == "float16"
    assert layer.scale.dtype == "float32"
    np.testing.assert_array_equal(np.ravel(output), [-1, 1])


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
def test_receptive_field_has_a_closed_form(depth):
    assert receptive_field_radius(ModelConfig(depth=depth)) == (7 * 2**depth - 5,) * 3


def radius_of_impulses(config, axis):
    """How far along an axis an impulse reaches, from every alignment with the pooling grid."""
    model = build_unet(config, channels=1, classes=2)
    for layer in model.layers:
        # With nothing but positive weights no two ways through the network can cancel out.
        if hasattr(layer, "kernel"):
            layer.kernel.assign(np.ones(layer.kernel.shape))
    model.get_layer("head").kernel.assign(np.array([1, 0]).reshape(1, 1, 1, 1, 2))
    radius, step = receptive_field_radius(config)[axis], config.divisor[axis]
    length = step * (2 * radius // step + 3)
    size = list(config.divisor)
    size[axis] = length
    places = [length // 2 // step * step + offset for offset in range(step)]
    image = np.zeros((step, *size, 1), np.float32)
    for sample, place in zip(np.moveaxis(image, axis + 1, 1), places, strict=True):
        sample[place] = 1
    # Logits of (0, 0) make 0.5 up to rounding; what an impulse reaches is far from that.
    found = np.asarray(probabilities(model, "softmax")(image))[..., 0]
    reached = np.moveaxis(np.abs(found - 0.5) > 1e-3, axis + 1, 1)
    return max(
        np.abs(np.flatnonzero(sample.any(axis=(1, 2))) - place).max()
        for sample, place in zip(reached, places, strict=True)
    )


@pytest.mark.parametrize(
    ("strides", "axis"),
    [(((2, 2, 2),), 0), (((2, 2, 2),), 1), (((2, 2, 2),), 2), (((2, 2, 2),) * 2, 0),
     (THICK, 0), (THICK, 2), (((1, 3, 2),), 1)],
)  # fmt: skip
def test_receptive_field_is_what_an_impulse_reaches(strides, axis):
    config = ModelConfig(depth=len(strides), width=1, norm="batch", strides=strides)
    assert radius_of_impulses(config, axis) == receptive_field_radius(config)[axis]


def blocks_of(depth):
    return st.tuples(*[st.integers(1, 2)] * (depth + 1))


@pytest.mark.parametrize("encoder", ["plain", "residual"])
@settings(max_examples=12)
@given(data=st.data(), depth=st.integers(1, 2), axis=st.integers(0, 2))
def test_receptive_field_of_any_kernels_and_strides(encoder, data, depth, axis):
    """Sides of other axes do not matter, so they stay 3, and the network small."""

    def along(values, others, count):
        each = data.draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))
        return tuple(tuple(n if a == axis else others for a in range(3)) for n in each)

    config = ModelConfig(
        depth=depth,
        width=1,
        norm="batch",
        strides=along((1, 2, 3), 2, depth),
        kernels=along((1, 3, 5), 3, depth + 1),
        encoder=encoder,
        blocks=data.draw(blocks_of(depth)) if encoder == "residual" else None,
    )
    assert radius_of_impulses(config, axis) == receptive_field_radius(config)[axis]


def test_kernels_are_those_of_the_config_at_each_level():
    kernels_of = ((1, 3, 3), (3, 3, 5), (3, 1, 3))
    model = build_unet(ModelConfig(depth=2, width=2, strides=THICK, kernels=kernels_of), 1, 2)
    found = [k[:3] for k in kernels(model, keras.layers.Conv3D)[:-1]]
    levels = (0, 0, 1, 1, 2, 2, 1, 1, 0, 0)
    assert found == [kernels_of[level] for level in levels]
    # Nothing is seen through slices that no kernel and no step joins.
    flat = ModelConfig(depth=1, strides=((1, 2, 2),), kernels=((1, 3, 3),) * 2)
    assert receptive_field_radius(flat) == (0, 9, 9)


def test_a_residual_encoder_has_the_blocks_of_its_levels():
    config = ModelConfig(
        depth=2, width=2, norm="batch", encoder="residual", strides=THICK, blocks=(1, 2, 1)
    )
    model = build_unet(config, 1, 2)
    found = {n.name.removesuffix("_conv"): n for n in model.layers if n.name.endswith("_conv")}
    encoder = [name for name in found if not name.startswith("decoder")]
    assert sorted(encoder) == sorted(
        [
            "stem", "encoder_0_1_1", "encoder_0_1_2", "encoder_1_1_1", "encoder_1_1_2",
            "encoder_1_1_match", "encoder_1_2_1", "encoder_1_2_2", "encoder_2_1_1",
            "encoder_2_1_2", "encoder_2_1_match",
        ]
    )  # fmt: skip
    assert {name: n.strides for name, n in found.items() if n.strides != (1, 1, 1)} == {
        "encoder_1_1_1": THICK[0],
        "encoder_2_1_1": THICK[1],
    }
    assert found["encoder_1_1_match"].kernel.shape == (1, 1, 1, 2, 4)
    assert model(np.zeros((1, 2, 4, 8, 1), np.float32)).shape == (1, 2, 4, 8, 2)
    assert divisor_of(model, (4, 8, 8)) == (2, 4, 4)
    assert ModelConfig(depth=6).level_blocks == (1, 3, 4, 6, 6, 6, 6)


def test_a_residual_block_that_changes_nothing_passes_its_input_on():
    """With kernels of 0 in its convolutions: what is positive goes through, averaged on the way."""
    config = ModelConfig(
        depth=1, width=1, max_width=1, norm="batch", encoder="residual", blocks=(1, 2)
    )
    model = build_unet(config, 1, 2)
    for layer in model.layers:
        if layer.name.startswith("encoder_") and layer.name.endswith("_conv"):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    stem, bottom = (model.get_layer(name).output for name in ("stem_leaky", "encoder_1_2_leaky"))
    image = np.random.default_rng(0).normal(size=(1, 4, 6, 8, 1)).astype(np.float32)
    first, last = keras.Model(model.inputs[0], [stem, bottom])(image)
    positive = np.where(np.asarray(first) > 0, first, 0.01 * np.asarray(first))
    means = positive.reshape(1, 2, 2, 3, 2, 4, 2, 1).mean(axis=(2, 4, 6))
    for _ in range(2):
        means = np.where(means > 0, means, 0.01 * means)
    np.testing.assert_allclose(last, means, rtol=1e-4, atol=1e-5)
