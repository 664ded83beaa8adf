"""Losses at coarser levels while training; one output, as without them, everywhere else."""

from collections import Counter

import numpy as np
import onnx
import pytest

from tests.conftest import batches, small_config
from vol3dseg.config import ModelConfig
from vol3dseg.errors import ModelError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.space.labels import IGNORED

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip

from vol3dseg.export.to_onnx import export_onnx  # noqa: E402
from vol3dseg.training.checkpoints import load_checkpoint, restore_checkpoint  # noqa: E402
from vol3dseg.training.fit import train  # noqa: E402
from vol3dseg.training.metrics import ConfusionMetrics  # noqa: E402
from vol3dseg.training.named_loss import NamedLoss  # noqa: E402
from vol3dseg.training.networks.building import (  # noqa: E402
    build_network,
    probabilities,
    size_of,
)
from vol3dseg.training.networks.deep_supervision import (  # noqa: E402
    coarse_labels,
    level_weights,
    without_supervision,
)
from vol3dseg.training.networks.unet import build_unet  # noqa: E402

STRIDES = ((2, 2, 1), (2, 3, 2), (2, 2, 2), (1, 2, 2))
DEEP = ModelConfig(depth=4, width=2, strides=STRIDES, norm="batch")
SHAPE = (8, 24, 8)


def network(deep, seed=0):
    keras.utils.set_random_seed(seed)
    return build_unet(DEEP, 1, 3, deep)


def sample(rng=None, batch=2):
    rng = rng or np.random.default_rng(0)
    image = rng.normal(size=(batch, *SHAPE, 1)).astype(np.float32)
    label = rng.integers(0, 3, (batch, *SHAPE)).astype(np.uint8)
    label[rng.random(label.shape) < 0.1] = IGNORED
    return image, label


def compiled(model, name="dice_cross_entropy", optimizer="sgd"):
    metrics = [ConfusionMetrics(["background", "a", "b"])]
    model.compile(optimizer, NamedLoss(name), metrics=metrics, run_eagerly=True)
    return model


def test_levels_have_outputs_on_their_grids_and_the_two_coarsest_have_none():
    image, _ = sample()
    outputs = network(True)(image, training=True)
    assert [tuple(o.shape) for o in outputs] == [
        (2, 8, 24, 8, 3), (2, 4, 12, 8, 3), (2, 2, 4, 4, 3)
    ]  # fmt: skip
    assert [o.dtype for o in outputs] == ["float32"] * 3


def test_outside_of_training_it_is_the_network_without():
    image, label = sample()
    plain, deep = network(False), network(True)
    np.testing.assert_array_equal(plain(image, training=False), deep(image, training=False))
    found = [
        compiled(each).evaluate(batches(image, label), verbose=0, return_dict=True)
        for each in (plain, deep)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert "dice_a" in found[0]
    one = without_supervision(deep)
    assert len(one.outputs) == 1
    assert one.count_params() == plain.count_params() < deep.count_params()
    assert without_supervision(plain) is plain
    # What memory is estimated from counts them.
    assert size_of(deep, SHAPE).outputs > size_of(plain, SHAPE).outputs


def test_weights_halve_from_level_to_level():
    assert level_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_the_loss_is_the_weighted_one_of_all_levels():
    image, label = sample()
    model = compiled(network(True))
    outputs = model(image, training=True)
    loss = NamedLoss("dice_cross_entropy")
    coarse = [label, label[:, 1::2, 1::2], label[:, 2::4, 3::6, 1::2]]
    losses = [float(loss(of, logits)) for of, logits in zip(coarse, outputs, strict=True)]
    expected = np.dot([4 / 7, 2 / 7, 1 / 7], losses)
    found = float(model.compute_loss(image, label, outputs, training=True))
    assert found == pytest.approx(expected, rel=1e-6)
    own = float(model.compute_loss(image, label, outputs[0], training=False))
    assert own == pytest.approx(float(loss(label, outputs[0])), rel=1e-6)


def test_a_coarse_voxel_has_the_class_at_its_middle():
    label = np.arange(8 * 6, dtype=np.uint8).reshape(1, 8, 6, 1)
    found = np.asarray(coarse_labels(label, (1, 4, 2, 1, 9)))
    np.testing.assert_array_equal(found[0, ..., 0], label[0, 1::2, 1::3, 0])
    assert found.dtype == label.dtype


def test_a_step_of_patches_that_grow():
    """Sizes are not known while the step is traced, nor is one size the only one."""
    import tensorflow as tf

    model = compiled(network(True))
    sizes = tf.TensorSpec((None,) * 5), tf.TensorSpec((None,) * 4, tf.uint8)

    @tf.function(input_signature=sizes)
    def loss_of(image, label):
        return model.compute_loss(image, label, model(image, training=True), training=True)

    for count in (1, 2):
        image, label = (np.concatenate([each] * count, axis=1) for each in sample())
        outputs = model(image, training=True)
        expected = float(model.compute_loss(image, label, outputs, training=True))
        assert float(loss_of(image, label)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_steps_teach_every_level_and_metrics_are_of_the_full_grid(policy):
    image, label = sample()
    keras.config.set_dtype_policy(policy)
    try:
        model = network(True)
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = model(image, training=True)
    assert {o.dtype.name for o in outputs} == {"float32"}
    metric = ConfusionMetrics(["background", "a", "b"])
    metric.update_state(label, outputs[0])
    heads = [layer for layer in model.layers if layer.name.startswith("head")]
    assert sorted(layer.name for layer in heads) == ["head", "head_1", "head_2"]
    before = [np.array(layer.kernel) for layer in heads]
    logs = compiled(model).train_on_batch(image, label, return_dict=True)
    assert np.isfinite(logs["loss"])
    assert float(metric.result()["dice"]) == pytest.approx(float(logs["dice"]), rel=1e-2)
    for layer, kernel in zip(heads, before, strict=True):
        assert np.abs(kernel - layer.kernel).max() > 0, layer.name
    deployed = probabilities(model, "softmax")(image)
    assert deployed.shape == (2, *SHAPE, 3)
    assert deployed.dtype.name == "float32"


# Keras asks TensorFlow's tensors for arrays in the manner of numpy 1.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_a_checkpoint_holds_all_levels_and_is_loaded_as_it_is_deployed(tmp_path):
    image, label = sample()
    model, path = compiled(network(True), optimizer="adam"), tmp_path / "model.keras"
    model.train_on_batch(image, label)
    model.save(path)
    again = compiled(network(True, seed=1), optimizer="adam")
    restore_checkpoint(again, path)
    for ours, theirs in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    deployed = load_checkpoint(path)
    assert len(deployed.outputs) == 1
    assert deployed.output_shape == (None, None, None, None, 3)
    np.testing.assert_array_equal(model(image, training=False), deployed(image, training=False))


def config_of(recipe, **training):
    model, training = {"depth": 3}, {"deep_supervision": True, "epochs": 2, **training}
    training |= {"steps_per_epoch": 2, "deterministic": True, "precision": "float32"}
    return small_config(recipe, model, **training)


@pytest.fixture
def prepared(brats_folder, tmp_path, recipe):
    preprocess(brats_folder, tmp_path / "prepared", config_of(recipe))
    yield tmp_path / "prepared"
    keras.backend.clear_session()


@pytest.mark.slow
def test_a_run_resumes_as_if_nothing_had_been(prepared, tmp_path, recipe):
    config, run, cut = config_of(recipe), tmp_path / "run", tmp_path / "cut"
    train(prepared, run, config)

    def stop(line):
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared, cut, config, progress=stop)
    train(prepared, cut, config, resume=True)
    logs = [(each / "training.log").read_text() for each in (run, cut)]
    assert logs[0] == logs[1]
    assert logs[0].count("\n") == 3
    for one, other in zip(
        load_checkpoint(run / "last.keras").get_weights(),
        load_checkpoint(cut / "last.keras").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_run_exports_one_output(prepared, tmp_path, recipe):
    run = tmp_path / "run"
    manifest = train(prepared, run, config_of(recipe))
    assert manifest.validation is not None
    exported = export_onnx(run, tmp_path / "m.onnx")
    assert exported.parity.max_abs_difference <= 1e-4
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert len(graph.output) == 1
    kinds = Counter(node.op_type for node in graph.node)
    assert (kinds["Conv"], kinds["MaxPool"], kinds["Softmax"]) == (15, 3, 1)
    assert load_predictor(tmp_path / "m.onnx", "cpu").manifest.outputs.kind == "softmax"


def test_a_network_of_ones_own_has_no_levels_that_we_know(recipe):
    with pytest.raises(ModelError, match=r"deep_supervision is on, and the network is not the"):
        build_network(config_of(recipe), lambda config, channels, outputs: None)
