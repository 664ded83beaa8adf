"""Networks of nnU-Net as graphs: what they compute, and which weights they are made of."""

from itertools import permutations

import numpy as np
import onnxruntime as ort
import pytest

from tests.nnunet_networks import configuration, run, state_of
from vol3dseg.errors import ModelError
from vol3dseg.export.nnunet.architecture import along, architecture_of
from vol3dseg.export.nnunet.checkpoint import read_checkpoint
from vol3dseg.export.nnunet.network import write_network
from vol3dseg.model.network_check import require_sound_network
from vol3dseg.model.outputs import Softmax

CHANNELS, OUTPUTS = 2, 4
PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
BLOCKS = "dynamic_network_architectures.building_blocks.residual."
NARROW = {"block": f"{BLOCKS}BottleneckD", "bottleneck_channels": [2, 3, 2]}
BATCH = {"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d"}
DROPOUT = {"dropout_op": "torch.nn.Dropout3d", "dropout_op_kwargs": {"p": 0.2}}
DIVISOR = np.array([2, 4, 3])  # of the networks of `configuration`


def made(kind=PLAIN, seed=0, **changes):
    architecture = architecture_of(configuration(kind, **changes), "plans.json")
    return architecture, state_of(architecture, CHANNELS, OUTPUTS, np.random.default_rng(seed))


def written(architecture, state, axes=(0, 1, 2)):
    return write_network(architecture, state, CHANNELS, OUTPUTS, axes, "fold_0/a.pth")


def session(model):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


VARIANTS = [
    pytest.param(PLAIN, {}, id="plain"),
    pytest.param(RESIDUAL, {}, id="residual"),
    pytest.param(RESIDUAL, {"stem_channels": 2}, id="a narrow stem"),
    pytest.param(RESIDUAL, {"features_per_stage": 4}, id="no projections"),
    pytest.param(PLAIN, {"conv_bias": False}, id="no bias"),
    pytest.param(RESIDUAL, {"conv_bias": False}, id="residual, no bias"),
    pytest.param(PLAIN, {"norm_op_kwargs": {"eps": 0.1}}, id="norms that learn nothing"),
    pytest.param(PLAIN, {**BATCH, "norm_op_kwargs": {"eps": 0.1}}, id="batch norms"),
    pytest.param(RESIDUAL, {**BATCH, "norm_op_kwargs": None}, id="residual, batch norms"),
    pytest.param(PLAIN, {**BATCH, "norm_op_kwargs": {"affine": False}}, id="batch norms alone"),
    pytest.param(PLAIN, {"norm_op_kwargs": {"track_running_stats": True}}, id="kept statistics"),
    pytest.param(PLAIN, DROPOUT, id="dropout"),
    pytest.param(RESIDUAL, DROPOUT, id="residual, dropout"),
    pytest.param(RESIDUAL, {"block": f"{BLOCKS}BasicBlockD"}, id="blocks by name"),
    pytest.param(RESIDUAL, {**NARROW, **DROPOUT}, id="bottlenecks"),
    pytest.param(PLAIN, {"nonlin": "torch.nn.ReLU"}, id="ReLU"),
    pytest.param(PLAIN, {"nonlin_kwargs": {"negative_slope": 0.3}}, id="a steeper slope"),
]


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
def test_the_graph_gives_what_its_weights_say(kind, changes):
    architecture, state = made(kind, **changes)
    image = np.random.default_rng(1).normal(size=(CHANNELS, 4, 8, 9)).astype(np.float32)
    (found,) = session(written(architecture, state)).run(None, {"image": image[None]})
    wanted = run(architecture, state, image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("kind", [PLAIN, RESIDUAL])
def test_axes_in_any_order_give_the_same(kind, axes):
    """The network's axis n is axis `axes[n]` of the file."""
    architecture, state = made(kind)
    image = np.random.default_rng(1).normal(size=(CHANNELS, 4, 8, 9)).astype(np.float32)
    plain = session(written(architecture, state)).run(None, {"image": image[None]})[0]
    turned = np.moveaxis(image, (1, 2, 3), [1 + axis for axis in axes])
    model = session(written(architecture, state, axes))
    (found,) = model.run(None, {"image": np.ascontiguousarray(turned)[None]})
    back = np.moveaxis(found, [2 + axis for axis in axes], (2, 3, 4))
    np.testing.assert_allclose(back, plain, atol=2e-5 * np.abs(plain).max())
    facts = architecture.facts(axes)
    assert [facts.divisor[axis] for axis in axes] == DIVISOR.tolist()
    assert [facts.architecture["stages"][1]["kernel"][axis] for axis in axes] == [3, 3, 5]


def test_it_takes_any_size_and_several_at_a_time():
    architecture, state = made()
    model = session(written(architecture, state))
    rng = np.random.default_rng(1)
    for factors in ((1, 2, 1), (2, 1, 3)):
        images = rng.normal(size=(2, CHANNELS, *DIVISOR * factors)).astype(np.float32)
        (found,) = model.run(None, {"image": images})
        for image, logits in zip(images, found, strict=True):
            wanted = run(architecture, state, image)
            np.testing.assert_allclose(logits, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("kind", "blocks"), [(PLAIN, {}), (RESIDUAL, {}), (RESIDUAL, NARROW)])
@pytest.mark.parametrize("axis", range(3))
def test_the_receptive_field_is_what_an_impulse_reaches(kind, blocks, axis):
    """Without norms, and with positive weights, of which no two ways cancel out."""
    architecture, state = made(kind, conv_bias=False, **blocks)
    ones = {name: np.ones_like(weights) for name, weights in state.items()}
    ones["decoder.seg_layers.1.bias"] = np.zeros(OUTPUTS, np.float32)
    model = written(architecture, ones)
    for node in model.graph.node:
        if node.op_type == "InstanceNormalization":
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    facts, run_graph = architecture.facts((0, 1, 2)), session(model)
    step, radius = facts.divisor[axis], facts.receptive_field[axis]
    sides = list(facts.divisor)
    sides[axis] = step * (2 * radius // step + 3)
    reached = []
    for place in range(sides[axis] // 2, sides[axis] // 2 + step):
        image = np.zeros((1, CHANNELS, *sides), np.float32)
        np.moveaxis(image, axis + 2, 0)[place] = 1
        (found,) = run_graph.run(None, {"image": image})
        lit = np.flatnonzero(np.moveaxis(found, axis + 2, 0).reshape(sides[axis], -1).any(axis=1))
        reached.append(np.abs(lit - place).max())
    assert max(reached) == radius


def test_the_graph_is_one_that_a_predictor_takes(manifest):
    for kind in (PLAIN, RESIDUAL):
        architecture, state = made(kind)
        model = written(architecture, state, (2, 0, 1))
        outputs = Softmax(classes=manifest.labels.names[:OUTPUTS], values="logits")
        facts = architecture.facts((2, 0, 1))
        said = manifest.model_copy(update={"network": facts, "outputs": outputs})
        require_sound_network(model, said, "model.onnx")
        assert len(said.recipe.modalities) == CHANNELS
        assert {n.name for n in model.graph.initializer if "seg" in n.name} == {
            "decoder.seg_layers.1.weight",
            "decoder.seg_layers.1.bias",
        }


def test_a_trainer_may_put_batch_norms_in_the_place_of_others():
    """As nnUNetTrainerBN does, with torch's defaults, whatever the plans say of instance norms."""
    planned = architecture_of(configuration(norm_op_kwargs={"eps": 0.1}), "plans.json")
    trained, state = made(**BATCH, norm_op_kwargs=None)
    assert planned.as_trained(state) == trained
    assert planned.as_trained(made()[1]) == planned
    own = {**BATCH, "norm_op_kwargs": {"eps": 0.1}}
    assert made(**own)[0].as_trained(state).epsilon == 0.1
    assert trained.facts((0, 1, 2)).architecture["norm"] == "batch"
    assert not trained.facts((0, 1, 2)).local  # tiles are nnU-Net's


# ---------------------------------------------------------------- weights


def refused(architecture, state, match):
    with pytest.raises(ModelError, match=match) as caught:
        written(architecture, state)
    assert str(caught.value).startswith("fold_0/a.pth: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", [PLAIN, RESIDUAL])
def test_every_weight_is_needed(kind):
    architecture, state = made(kind)
    graph = written(architecture, state).graph
    for tensor in graph.initializer:
        left = {name: weights for name, weights in state.items() if name != tensor.name}
        refused(architecture, left, f"holds no weights '{tensor.name}'")


def test_twins_and_other_heads_may_be_absent():
    architecture, state = made()
    graph = written(architecture, state)
    used = {tensor.name: state[tensor.name] for tensor in graph.graph.initializer}
    assert written(architecture, used) == graph
    assert len(used) < len(state) / 2


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("encoder.stages.0.0.convs.0.norm.running_mean", "of no layer: .*running_mean"),
        ("encoder.stages.0.0.convs.2.conv.weight", "of no layer: .*convs.2.conv.weight"),
        ("encoder.stages.0.0.convs.0.all_modules.2.weight", "of no layer"),
        ("decoder.seg_layers.2.weight", "of no layer: 'decoder.seg_layers.2.weight'"),
        ("decoder.decoder.seg_layers.0.weight", "of no layer"),
        ("attention.weight", "of no layer: 'attention.weight'; .* run it with nnU-Net"),
        ("\n", r"of no layer: '\\n'"),
    ],
)
def test_weights_of_no_layer_are_named(name, match):
    architecture, state = made()
    refused(architecture, state | {name: np.ones(3, np.float32)}, match)


def test_many_weights_of_no_layer_are_counted():
    architecture, state = made()
    more = {f"x{n}": np.ones(1, np.float32) for n in range(30)}
    refused(architecture, state | more, "'x0', 'x1', .* and 25 more")


def test_a_weight_that_is_kept_twice_is_the_same_twice():
    architecture, state = made()
    name = "encoder.stages.0.0.convs.0.conv.weight"
    twin = f"decoder.{name.replace('conv.w', 'all_modules.0.w')}"
    assert written(architecture, state | {twin: state[name].copy()})
    refused(architecture, state | {twin: state[name] + 1}, f"'{twin}' and '{name}' differ")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param(
            lambda w: w[:1], r"are \[1, 2, 1, 3, 3\] float32; expected \[3, 2", id="fewer"
        ),
        pytest.param(lambda w: w.swapaxes(2, 3), r"are \[3, 2, 3, 1, 3\]", id="turned"),
        pytest.param(lambda w: w.astype(np.int64), "int64; expected", id="whole numbers"),
        pytest.param(lambda w: w * np.float32("nan"), "are not finite", id="lost"),
    ],
)
def test_weights_of_another_size_are_refused(change, match):
    architecture, state = made()
    name = "encoder.stages.0.0.convs.0.conv.weight"
    refused(architecture, state | {name: change(state[name])}, match)


def test_weights_in_any_layout_are_written_as_they_are():
    """Torch keeps those of a network that ran channels last in that order."""
    architecture, state = made()
    turned = {
        name: np.moveaxis(np.ascontiguousarray(np.moveaxis(w, 1, -1)), -1, 1) if w.ndim == 5 else w
        for name, w in state.items()
    }
    assert written(architecture, turned) == written(architecture, state)


# ---------------------------------------------------------------- real ones


def test_real_networks(shared_nnunet):
    """Trained by nnU-Net, in its axes and with its names."""
    for path in sorted(shared_nnunet.rglob("checkpoint_final.pth")):
        checkpoint = read_checkpoint(path)
        plans = checkpoint.init_args["plans"]
        architecture = architecture_of(plans["configurations"]["3d_fullres"], path)
        axes = tuple(2 - axis for axis in plans["transpose_forward"])
        channels = len(checkpoint.init_args["dataset_json"]["channel_names"])
        head = checkpoint.state["decoder.seg_layers.2.weight"]
        model = write_network(architecture, checkpoint.state, channels, len(head), axes)
        assert len(model.graph.node) == 49
        sides = along((8, 16, 24), axes)
        image = np.random.default_rng(0).normal(size=(1, channels, *sides)).astype(np.float32)
        (found,) = session(model).run(None, {"image": image})
        turned = np.moveaxis(image[0], [1 + axis for axis in axes], (1, 2, 3))
        wanted = run(architecture, checkpoint.state, turned)
        back = np.moveaxis(found[0], [1 + axis for axis in axes], (1, 2, 3))
        np.testing.assert_allclose(back, wanted, atol=2e-5 * np.abs(wanted).max())
