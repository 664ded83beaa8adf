"""What a predictor relies on is checked before a runtime sees the graph: one line, in no time."""

import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vol3dseg.errors import ModelError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.runtimes.session import finite
from vol3dseg.model.model_file import read_model
from vol3dseg.model.network_check import MOST_NODES, require_sound_network
from vol3dseg.model.operators import OPERATORS

pytestmark = pytest.mark.hostile

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def model(model_path):
    """A good one: Conv "logits" of weights w and b, Softmax; two channels, four classes."""
    return onnx.load_model_from_string(model_path.read_bytes())


def before(kind, *more, **attributes):
    """Put a node before the network, with weights or names of values as further inputs."""

    def change(graph):
        names = []
        for number, value in enumerate(more):
            if isinstance(value, str):
                names.append(value)
                continue
            names.append(f"more_{number}")
            graph.initializer.append(numpy_helper.from_array(np.array(value), names[-1]))
        graph.node[0].input[0] = "first"
        inputs = ["image", *names]
        graph.node.insert(0, helper.make_node(kind, inputs, ["first"], **attributes))

    return change


def convolution(**attributes):
    def change(graph):
        graph.node[0].attribute.extend(helper.make_attribute(*each) for each in attributes.items())

    return change


def end(place, name=None, kind=TensorProto.FLOAT, shape=("n", 2, "i", "j", "k")):
    def change(graph):
        ends = getattr(graph, place)
        made = helper.make_tensor_value_info(name or ends[0].name, kind, shape)
        ends[0].CopyFrom(made)

    return change


def renamed_output(graph):
    graph.output[0].name = graph.node[1].output[0] = "mask"


def renamed_input(graph):
    graph.input[0].name = graph.node[0].input[0] = "scan"


def second(place):
    def change(graph):
        made = helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 1])
        getattr(graph, place).append(made)

    return change


def halved(graph):
    node = helper.make_node("MaxPool", ["image"], ["first"], kernel_shape=[2] * 3, strides=[2] * 3)
    graph.node[0].input[0] = "first"
    graph.node.insert(0, node)


def looping(graph):
    body = helper.make_graph([], "body", [], [])
    graph.node.append(helper.make_node("Loop", ["", ""], ["never"], body=body))


def chain(graph):
    for number in range(MOST_NODES):
        graph.node.append(helper.make_node("Relu", ["image"], [f"r{number}"]))


def doubling(graph):
    before = "image"
    for number in range(30):
        graph.node.insert(number, helper.make_node("Concat", [before] * 2, [f"c{number}"], axis=1))
        before = f"c{number}"


def outer_product(graph):
    for name, shape in (("row", (1, 60_000)), ("column", (60_000, 1))):
        graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    graph.node.append(helper.make_node("Add", ["row", "column"], ["square"]))


def wide(graph):
    weights = np.ones((3000, 2, 1, 1, 1), np.float32)
    back = np.ones((2, 3000, 5, 5, 5), np.float32)
    for name, value in (("wide", weights), ("back", back)):
        graph.initializer.append(numpy_helper.from_array(value, name))
    graph.node[0].input[0] = "c"
    graph.node.insert(0, helper.make_node("Conv", ["a2", "back"], ["c"], pads=[2] * 6))
    for number in range(200):
        names = ["image" if number == 199 else f"b{number + 1}", "wide"]
        graph.node.insert(0, helper.make_node("Conv", names, [f"a{number}"]))
        graph.node.insert(
            1, helper.make_node("Conv", [f"a{number}", "back"], [f"b{number}"], pads=[2] * 6)
        )


def weights(name="w", **changes):
    def change(graph):
        (tensor,) = (t for t in graph.initializer if t.name == name)
        for field, value in changes.items():
            if field == "dims":
                tensor.dims[:] = value
            else:
                setattr(tensor, field, value)

    return change


def infinite(graph):
    array = numpy_helper.to_array(graph.initializer[1]).copy()
    array[-1] = np.inf
    graph.initializer[1].CopyFrom(numpy_helper.from_array(array, "b"))


def dangling(graph):
    graph.node[1].input[0] = "nobody"


FIRST = "image (2 channels, any voxels, float32)"
LAST = "probabilities (4 channels, any voxels, float32)"
LAYERS = "expected layers of a segmentation network (docs/security.md)"
DISAGREE = [
    pytest.param(renamed_input, f"goes from scan (2 channels, any voxels, float32) to {LAST}; "
                 f"expected from {FIRST} to {LAST}, as its manifest says", id="name of the input"),
    pytest.param(renamed_output, "to mask (4 channels, any voxels, float32); expected from",
                 id="name of the output"),
    pytest.param(end("input", shape=["n", 3, "i", "j", "k"]), "goes from image (3 channels",
                 id="channels"),
    pytest.param(end("output", shape=["n", 5, "i", "j", "k"]), "to probabilities (5 channels",
                 id="classes"),
    pytest.param(end("input", shape=["n", 2, "i", "j"]), "goes from image of 4 axes", id="axes"),
    pytest.param(end("input", kind=TensorProto.FLOAT16), "any voxels, type 10)", id="float16"),
    pytest.param(end("input", kind=TensorProto.DOUBLE), "any voxels, type 11)", id="float64"),
    pytest.param(end("input", shape=["n", 2, 32, 32, 32]), "[32, 32, 32] voxels", id="one size"),
    pytest.param(end("input", shape=[4, 2, "i", "j", "k"]), ", 4 at a time)", id="batch of four"),
    pytest.param(second("input"), "(2 channels, any voxels, float32), more of 2 axes to",
                 id="two inputs"),
    pytest.param(second("output"), "float32), more of 2 axes; expected from", id="two outputs"),
    pytest.param(halved, "makes (1, 4, 6, 10, 14) of (1, 2, 12, 20, 28) voxels; expected "
                 "(1, 4, 12, 20, 28), as its manifest says", id="size of the output"),
    pytest.param(before("Pad", np.array([0, 0, 1, 1, 1] * 2)),
                 "makes (1, 4, 14, 22, 30) of", id="padded output"),
    pytest.param(before("InstanceNormalization", np.ones(2, np.float32), np.ones(2, np.float32)),
                 "has InstanceNormalization, which look at all of a tile; expected outputs that "
                 "depend on their receptive field alone", id="not local"),
    pytest.param(weights(dims=[4, 2, 1, 1, 9]), "weights 'w' of [4, 2, 1, 1, 9] hold 8 numbers; "
                 "expected 72", id="weights that are not there"),
    pytest.param(weights(dims=[4, 2, 1, 1, -1]), "weights 'w' are of an unknown type or size",
                 id="weights of a negative size"),
    pytest.param(weights(data_type=8), "weights 'w' are of an unknown type", id="text as weights"),
    pytest.param(infinite, "weights 'b' are not finite; expected numbers", id="infinite weights"),
    pytest.param(dangling, "is not valid (", id="a value that nobody makes"),
]  # fmt: skip
WITHOUT_END = [
    pytest.param(looping, f"uses the operators 'Loop'; {LAYERS}", id="loop"),
    pytest.param(before("If"), f"uses the operators 'If'; {LAYERS}", id="branch"),
    pytest.param(before("ConstantOfShape"), "uses the operators 'ConstantOfShape'", id="constant"),
    pytest.param(before("Range", "image", "image"), "uses the operators 'Range'", id="range"),
    pytest.param(before("RandomNormalLike"), "uses the operators 'RandomNormalLike'", id="random"),
    pytest.param(chain, f"has {MOST_NODES + 2} nodes; expected at most {MOST_NODES}", id="chain"),
    pytest.param(doubling, "makes 4294967300 numbers by 8 multiplications for each voxel",
                 id="doubling"),
    pytest.param(outer_product, "makes 3600000000 numbers of 120012 weights; expected layers of "
                 "an image", id="of weights alone"),
    pytest.param(wide, "multiplications for each voxel; expected at most", id="work"),
    pytest.param(convolution(strides=[1, 1, 0]), f"Conv '' has an unfit 'strides'; {LAYERS}",
                 id="step of 0"),
    pytest.param(convolution(dilations=[1, 1, 2**40]), "has an unfit 'dilations'", id="dilation"),
    pytest.param(convolution(kernel_shape=[1]), "has an unfit 'kernel_shape'", id="kernel"),
    pytest.param(convolution(pads=[1, 0, 0, 0, 0, 0]), "Conv '' pads by [1, 0, 0, 0, 0, 0] for "
                 "[1, 1, 1] voxels; expected less than the kernel", id="nothing but padding"),
    pytest.param(convolution(pads=[-1, 0, 0, 0, 0, 0]), "unfit 'pads'", id="negative padding"),
    pytest.param(convolution(auto_pad="SAME_UPPER"), "unfit 'auto_pad'", id="padding by itself"),
    pytest.param(convolution(group=0), "unfit 'group'", id="no groups"),
    pytest.param(convolution(secret=1), "unfit 'secret'", id="unknown attribute"),
    pytest.param(before("MaxPool", kernel_shape=[3] * 3, pads=[3] * 6, strides=[1] * 3),
                 "MaxPool '' pads by [3, 3, 3, 3, 3, 3] for [3, 3, 3] voxels", id="pooling"),
    pytest.param(before("Pad", np.array([0, 0, 0, 0, 2**40] * 2)),
                 "2199023255580) numbers; expected a size that can be made", id="padding"),
    pytest.param(before("LeakyRelu", alpha=float("nan")), "unfit 'alpha'", id="slope of NaN"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [*DISAGREE, *WITHOUT_END])
def test_a_graph_that_no_predictor_can_rely_on_is_refused_in_one_line(
    model, model_path, change, message
):
    change(model.graph)
    model_path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        read_model(model_path)
    said = str(caught.value)
    assert said.startswith(f"{model_path}: ")
    assert message in said
    assert said.endswith("; export it again")
    assert said.isprintable()
    assert len(said) < 600


def logits(graph):
    graph.node[1].CopyFrom(helper.make_node("Identity", ["logits"], ["probabilities"]))


def other_axis(graph):
    graph.node[1].CopyFrom(helper.make_node("Sigmoid", ["logits"], ["probabilities"]))


def overflowing(graph):
    graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full(4, 3e38, np.float32), "b"))
    graph.node[1].input[0] = "sum"
    graph.node.insert(1, helper.make_node("Add", ["logits", "logits"], ["sum"]))


def of_one_channel(graph):
    graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ones((4, 1, 1, 1, 1), np.float32), "w")
    )


FOUND_BY_RUNNING = [
    pytest.param(logits, "in sum", "expected probabilities of a softmax", id="logits"),
    pytest.param(other_axis, "in sum", "expected probabilities of a softmax", id="sigmoid"),
    pytest.param(overflowing, "gives values that are not finite", "try another", id="overflow"),
    pytest.param(of_one_channel, "", "", id="weights of other channels"),
]


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize(("change", "found", "more"), FOUND_BY_RUNNING)
def test_a_network_that_gives_something_else_is_refused_at_loading(
    model, model_path, change, found, more, device
):
    pytest.importorskip("onnxruntime" if device == "cpu" else "openvino")
    change(model.graph)
    model_path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load_predictor(model_path, device)
    said = str(caught.value)
    assert said.startswith(f"{model_path}: ")
    assert found in said
    assert more in said
    assert len(said.splitlines()) == 1


def test_values_that_are_not_finite_in_one_tile_are_no_labels():
    found = np.zeros((1, 2, 4, 4, 4), np.float32)
    assert finite(found) is found
    found[0, 1, 2, 3, 0] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        finite(found)


@pytest.mark.parametrize("name", [b"Softmax", b"image", b"\x01w"])
def test_names_that_are_no_text_are_refused_in_one_line(model_path, name):
    content = model_path.read_bytes()
    assert name in content
    model_path.write_bytes(content.replace(name, b"\xff" + name[1:]))
    with pytest.raises(ModelError) as caught:
        read_model(model_path)
    assert str(caught.value).isprintable()


def many(field):
    """Ten million empty entries of a graph, which take a hundred times as much memory."""
    inner = bytes([field << 3 | 2, 0]) * 10**7
    return b"\x3a\x80\xda\xc4\x09" + inner


OF_NO_SIZE = [
    pytest.param(lambda path: path.write_bytes(many(1)), "20000005 bytes beside", id="nodes"),
    pytest.param(lambda path: path.write_bytes(many(5)), "20000005 bytes beside", id="weights"),
    pytest.param(lambda path: path.mkdir(), "a folder; expected an ONNX file", id="folder"),
    pytest.param(os.mkfifo, "no file of a size", id="pipe"),
]


@pytest.mark.parametrize(("make", "message"), OF_NO_SIZE)
def test_what_would_take_all_memory_or_never_end_is_not_read(tmp_path, make, message):
    path = tmp_path / "x.onnx"
    make(path)
    with pytest.raises(ModelError, match=message):
        read_model(path)


@pytest.mark.parametrize("version", [12, 10_000])
def test_an_operator_set_that_computes_otherwise_is_refused(model, model_path, version):
    model.opset_import[0].version = version
    model_path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=rf"operator sets \[{version}\]; expected one of 13 to"):
        read_model(model_path)


NETWORKS = [
    pytest.param({}, id="plain"),
    pytest.param({"width": 8, "strides": (1, 2, 2)}, id="flat"),
]


@pytest.mark.parametrize("facts", NETWORKS)
def test_a_network_is_let_through(facts, small_unet, manifest_for):
    made = small_unet(np.random.default_rng(0), **facts)
    require_sound_network(made, manifest_for(1, 4, (16, 16, 16), 2), "x.onnx")


def test_a_network_that_needs_larger_multiples_than_its_manifest_says_is_refused(
    small_unet, manifest_for
):
    made = small_unet(np.random.default_rng(0))
    with pytest.raises(ModelError, match="is not valid"):
        require_sound_network(made, manifest_for(1, 4, (16, 16, 16), 1), "x.onnx")


def test_a_network_that_takes_large_volumes_only_is_refused(small_unet, manifest_for):
    made, manifest = small_unet(np.random.default_rng(0)), manifest_for(1, 4, (16, 16, 16), 256)
    with pytest.raises(ModelError, match=r"takes no less than \(256, 256, 256\) voxels; expected"):
        require_sound_network(made, manifest, "x.onnx")


def test_docs_name_every_operator():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"The operators are ([^.]*)\.", page)
    assert {name.strip(" `\n") for name in listed.split(",")} == OPERATORS.keys()
