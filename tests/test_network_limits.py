"""How much a network may be, counted by hand, at the ends of what is allowed."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vol3dseg.errors import ModelError
from vol3dseg.model.graph_sizes import Unfit, sizes_of
from vol3dseg.model.network_check import (
    MOST_MULTIPLICATIONS,
    MOST_NODES,
    MOST_NUMBERS,
    network_faults,
    require_known_steps,
    require_sound_network,
)
from vol3dseg.model.onnx_bytes import parse_onnx, read_bytes

IMAGE = (1, 2, 12, 20, 28)
VOXELS = 12 * 20 * 28


def network(*nodes, weights=None, last="y"):
    """A graph from `x` to `last`."""
    return helper.make_model(
        helper.make_graph(
            list(nodes),
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "i", "j", "k"])],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", "c", "i", "j", "k"])],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def ones(*shape):
    return np.ones(shape, np.float32)


def conv(**facts):
    return helper.make_node("Conv", ["x", "w"], ["y"], **facts)


def pool(kind, **facts):
    return helper.make_node(kind, ["x"], ["y"], **facts)


UP = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2] * 3)
ALONE = (
    helper.make_node("Relu", ["w"], ["v"]),
    helper.make_node("Abs", ["v"], ["u"]),
    helper.make_node("Add", ["x", "u"], ["y"]),
)
COUNTED = [
    pytest.param(network(conv(), weights={"w": ones(4, 2, 1, 1, 1)}),
                 (1, 4, 12, 20, 28), 4 * VOXELS, 0, 8 * VOXELS, id="convolution"),
    pytest.param(network(conv(pads=[1] * 6), weights={"w": ones(5, 2, 3, 3, 3)}),
                 (1, 5, 12, 20, 28), 5 * VOXELS, 0, 270 * VOXELS, id="padded convolution"),
    pytest.param(network(conv(strides=[2] * 3), weights={"w": ones(3, 2, 2, 2, 2)}),
                 (1, 3, 6, 10, 14), 3 * VOXELS // 8, 0, 48 * VOXELS // 8, id="strided convolution"),
    pytest.param(network(UP, weights={"w": ones(2, 3, 2, 2, 2)}),
                 (1, 3, 24, 40, 56), 24 * VOXELS, 0, 48 * VOXELS, id="transposed convolution"),
    pytest.param(network(pool("MaxPool", kernel_shape=[2] * 3, strides=[2] * 3)),
                 (1, 2, 6, 10, 14), 2 * VOXELS // 8, 0, 16 * VOXELS // 8, id="pooling"),
    pytest.param(network(pool("AveragePool", kernel_shape=[1, 1, 2], strides=[1, 1, 2])),
                 (1, 2, 12, 20, 14), VOXELS, 0, 4 * VOXELS // 2, id="mean pooling"),
    pytest.param(network(helper.make_node("Relu", ["x"], ["y"])),
                 IMAGE, 2 * VOXELS, 0, 0, id="no window"),
    pytest.param(network(*ALONE, weights={"w": ones(1, 2, 1, 1, 1)}),
                 IMAGE, 2 * VOXELS, 4, 0, id="layers of weights alone"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "output", "numbers", "alone", "work"), COUNTED)
def test_sizes_are_those_of_the_layers(model, output, numbers, alone, work):
    found = sizes_of(model, IMAGE)
    assert (found.output, found.of_image, found.of_weights, found.multiplications) == (
        output, numbers, alone, work
    )  # fmt: skip


def test_a_size_that_is_too_large_to_count_is_none():
    pads = np.array([0] * 9 + [2**48 - 1])
    pad = helper.make_node("Pad", ["x", "pads"], ["y"])
    model = network(pad, weights={"pads": pads})
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    assert sizes_of(model, (1, 1, 1, 1, 1)).output == (1, 1, 1, 1, 2**48)
    pads[9] += 1
    model = network(pad, weights={"pads": pads})
    with pytest.raises(Unfit, match=r"Pad makes 'y' of \(1, 1, 1, 1, 281474976710657\) numbers"):
        sizes_of(model, (1, 1, 1, 1, 1))


def test_values_of_no_known_size():
    for kind, said in (("Size", r"makes 'y' of \(\) numbers"), ("NonZero", r"'y' of \(5, 0\) num")):
        with pytest.raises(Unfit, match=said):
            sizes_of(network(helper.make_node(kind, ["x"], ["y"])), IMAGE)


RELU = helper.make_node("Relu", ["x"], ["y"])
INVALID = [
    pytest.param(network(RELU, helper.make_node("Abs", ["x"], ["y"])), "single static assignment",
                 id="made twice"),
    pytest.param(network(helper.make_node("Add", ["x", "w"], ["y"]), weights={"w": np.arange(1)}),
                 "type", id="of two types"),
    pytest.param(network(helper.make_node("Relu", ["z"], ["y"])), "z", id="made by nobody"),
    pytest.param(network(conv(dilations=[1] * 3), weights={"w": ones(4, 2, 1, 1)}), "",
                 id="a kernel of two axes"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "said"), INVALID)
def test_graphs_that_do_not_fit_together(model, said):
    with pytest.raises(Unfit) as caught:
        sizes_of(model, IMAGE)
    assert caught.value.found.startswith("is not valid (")
    assert said in caught.value.found
    assert caught.value.found.isprintable()
    assert caught.value.expected == "a graph that fits together"


def test_weights_that_are_no_inputs_of_an_older_format():
    model = network(conv(), weights={"w": ones(4, 2, 1, 1, 1)})
    model.ir_version = 3
    assert sizes_of(model, IMAGE).output == (1, 4, 12, 20, 28)


WINDOWS = [
    pytest.param(conv(pads=[2, 0, 0, 2, 0, 0]), (3, 3, 3), "", id="as wide as the kernel reaches"),
    pytest.param(conv(pads=[3, 0, 0, 0, 0, 0]), (3, 3, 3),
                 "pads by [3, 0, 0, 0, 0, 0] for [3, 3, 3]", id="wider"),
    pytest.param(conv(pads=[0, 0, 0, 0, 0, 3]), (3, 3, 3),
                 "pads by [0, 0, 0, 0, 0, 3] for [3, 3, 3]", id="wider behind"),
    pytest.param(conv(pads=[4] * 6, dilations=[2] * 3), (3, 3, 3), "", id="spread out"),
    pytest.param(conv(pads=[5] * 6, dilations=[2] * 3), (3, 3, 3), "pads by [5, 5, 5, 5, 5, 5]",
                 id="wider than spread out"),
    pytest.param(conv(pads=[0, 0, 1, 0, 0, 1]), (1, 1, 2), "", id="along one axis"),
    pytest.param(conv(pads=[1, 0, 0, 1, 0, 0]), (1, 1, 2),
                 "pads by [1, 0, 0, 1, 0, 0] for [1, 1, 2]", id="along another axis"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "kernel", "message"), WINDOWS)
def test_a_window_always_sees_some_of_its_input(node, kernel, message):
    model = network(node, weights={"w": ones(1, 2, *kernel)})
    if not message:
        assert sizes_of(model, IMAGE).multiplications > 0
        return
    with pytest.raises(Unfit) as caught:
        sizes_of(model, IMAGE)
    assert message in caught.value.found
    assert caught.value.expected == "less than the kernel"


def test_the_page_says_how_much_a_network_may_be():
    page = (Path(__file__).resolve().parents[1] / "docs" / "security.md").read_text("utf-8")
    said = re.search(
        r"Limits are ([\d,]+) nodes, and .*\n\s+input ([\d,]+) numbers and 10\^(\d+) mul", page
    )
    nodes, numbers, power = (int(text.replace(",", "")) for text in said.groups())
    assert (nodes, numbers, 10**power) == (MOST_NODES, MOST_NUMBERS, MOST_MULTIPLICATIONS)


# ---------------------------------------------------------------- held against a manifest


@pytest.fixture
def sound(manifest_for):
    """Hold a graph of one modality and two classes against a manifest of this divisor."""

    def check(model, divisor=1):
        require_sound_network(model, manifest_for(1, 2, (16, 16, 16), divisor), "x.onnx")

    return check


@pytest.fixture
def tiny(graph_of):
    return graph_of(1, 2)


def widened(tiny, times):
    """Put so many layers before the network."""
    before = "image"
    for number in range(times):
        tiny.graph.node.insert(number, helper.make_node("Relu", [before], [f"r{number}"]))
        before = f"r{number}"
    tiny.graph.node[times].input[0] = before
    return tiny


def test_as_many_nodes_as_there_may_be(sound, tiny):
    model = widened(tiny, 3998)  # and the network's own two
    assert len(model.graph.node) == 4000
    sound(model)
    model.graph.node.append(helper.make_node("Relu", ["image"], ["more"]))
    with pytest.raises(ModelError, match="has 4001 nodes; expected at most 4000"):
        sound(model)


def concatenated(tiny, doublings, more=0):
    """Make 2 + 4 + ... channels of one, and `more` times the last."""
    before = "image"
    for number in range(doublings):
        tiny.graph.node.append(helper.make_node("Concat", [before] * 2, [f"c{number}"], axis=1))
        before = f"c{number}"
    for number in range(more):
        tiny.graph.node.append(helper.make_node("Relu", [before], [f"m{number}"]))
    return tiny


def test_as_many_numbers_as_there_may_be(sound, graph_of):
    """2 + 4 + ... + 2^17 are 2^18 - 2, and the network's own are two times two."""
    sound(concatenated(graph_of(1, 2), 16, 1))
    with pytest.raises(ModelError, match="makes 262146 numbers by 2 multiplications for each"):
        sound(concatenated(graph_of(1, 2), 17))


def working(tiny, channels, layers):
    """Convolutions between so many channels, each voxel by itself."""
    graph = tiny.graph
    for name, shape in (("wide", (channels, 1)), ("deep", (channels, channels))):
        graph.initializer.append(numpy_helper.from_array(ones(*shape, 1, 1, 1), name))
    graph.node.append(helper.make_node("Conv", ["image", "wide"], ["d0"]))
    for number in range(layers):
        graph.node.append(helper.make_node("Conv", [f"d{number}", "deep"], [f"d{number + 1}"]))
    return tiny


def test_as_much_work_as_there_may_be(sound, graph_of):
    sound(working(graph_of(1, 2), 1000, 99))  # 99 million, and a little
    with pytest.raises(ModelError, match="by 100001002 multiplications for each voxel; expected"):
        sound(working(graph_of(1, 2), 1000, 100))


def of_weights(tiny, count, times):
    """Layers that the image has no part in."""
    tiny.graph.initializer.append(numpy_helper.from_array(ones(count), "alone"))
    for number in range(times):
        tiny.graph.node.append(helper.make_node("Relu", ["alone"], [f"a{number}"]))
    return tiny


@pytest.mark.parametrize(("count", "most"), [(2**21, 8), (2**8, 8 + 2**10)])
def test_what_may_be_made_of_weights_alone(count, most, sound, graph_of):
    """Eight times as much as there is, and a quarter of a million in any case."""
    sound(of_weights(graph_of(1, 2), count, most))
    with pytest.raises(ModelError, match=r"makes \d+ numbers of \d+ weights; expected layers of"):
        sound(of_weights(graph_of(1, 2), count, most + 1))


def test_the_smallest_input_may_be_so_large(sound, tiny, manifest_for):
    largest = manifest_for(1, 2, (16, 16, 16), 1)
    for sides, fits in (((256, 256, 128), True), ((256, 256, 129), False)):
        known = largest.network.model_copy(update={"divisor": sides})
        manifest = largest.model_copy(update={"network": known})
        if fits:
            require_sound_network(tiny, manifest, "x.onnx")
            continue
        with pytest.raises(
            ModelError, match=r"takes no less than \(256, 256, 129\) voxels; expect"
        ):
            require_sound_network(tiny, manifest, "x.onnx")


KINDS = [
    pytest.param(np.float32, "float_data", id="float32"),
    pytest.param(np.int64, "int64_data", id="int64"),
    pytest.param(np.int32, "int32_data", id="int32"),
    pytest.param(np.int8, "int32_data", id="int8"),
    pytest.param(np.uint8, "int32_data", id="uint8"),
    pytest.param(np.bool_, "int32_data", id="bool"),
]


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(("dtype", "field"), KINDS)
def test_weights_hold_as_many_numbers_as_they_say(dtype, field, raw, sound, graph_of):
    made = numpy_helper.from_array(np.ones((2, 3), dtype), "more")
    if not raw:
        made.ClearField("raw_data")
        getattr(made, field).extend([1] * 6)
    model = graph_of(1, 2)
    model.graph.initializer.append(made)
    sound(model)
    for dims, held in (((3, 3), 9), ((2, 2), 4), ((), 1)):
        model.graph.initializer[-1].dims[:] = dims
        with pytest.raises(ModelError, match=rf"'more' of \[.*\] hold 6 numbers; expected {held};"):
            sound(model)


def test_weights_that_stand_in_two_fields(sound, graph_of):
    model = graph_of(1, 2)
    made = numpy_helper.from_array(ones(3), "more")
    made.float_data.extend([1.0] * 3)
    model.graph.initializer.append(made)
    with pytest.raises(ModelError, match=r"weights 'more' of \[3\] hold 6 numbers; expected 3"):
        sound(model)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_are_finite_wherever_they_stand(value, raw, place, sound, graph_of):
    values = ones(2)
    values[place] = value
    made = numpy_helper.from_array(values, "more")
    if not raw:
        made.ClearField("raw_data")
        made.float_data.extend(values)
    model = graph_of(1, 2)
    model.graph.initializer.append(made)
    with pytest.raises(ModelError, match="weights 'more' are not finite; expected numbers"):
        sound(model)


@pytest.mark.parametrize("version", [13, onnx.defs.onnx_opset_version()])
def test_the_oldest_and_the_newest_set_of_operators(version, sound, tiny):
    tiny.opset_import[0].version = version
    sound(tiny)


def test_a_set_of_operators_twice(sound, tiny):
    tiny.opset_import.append(helper.make_opsetid("", 17))
    with pytest.raises(ModelError, match=r"is written in the operator sets \[17, 17\]; expected"):
        sound(tiny)


def test_steps_of_standalone_graphs(tiny):
    tiny.graph.node.append(helper.make_node("TopK", ["image"], ["t"]))
    require_known_steps(tiny, "x.onnx")
    tiny.graph.node.append(helper.make_node("Loop", ["image"], ["t"]))
    with pytest.raises(
        ModelError, match="uses the operators 'Loop'; expected what vol3dseg export"
    ):
        require_known_steps(tiny, "x.onnx")


# ---------------------------------------------------------------- before anything is parsed


def number(value):
    """A number as protobuf writes it."""
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def sized(field, content):
    return number(field << 3 | 2) + number(len(content)) + content


MEGABYTES = bytes(2**23)
NODE, WEIGHTS = sized(1, b""), sized(5, sized(9, MEGABYTES))
BESIDE = [
    pytest.param(sized(7, NODE + WEIGHTS), id="weights alone"),
    pytest.param(number(1 << 3) + number(300) + sized(7, NODE + WEIGHTS), id="a number before"),
    pytest.param(
        number(99 << 3 | 1) + bytes(8) + sized(7, NODE + WEIGHTS), id="eight bytes before"
    ),
    pytest.param(number(99 << 3 | 5) + bytes(4) + sized(7, NODE + WEIGHTS), id="four bytes before"),
    pytest.param(sized(2, b"x" * 200) + sized(7, NODE + WEIGHTS), id="a text before"),
    pytest.param(sized(7, NODE * 99_999 + WEIGHTS), id="behind 99,999 nodes"),
    pytest.param(sized(7, NODE + WEIGHTS) + b"\x08\x08", id="a number behind"),
]


@pytest.mark.parametrize("content", BESIDE)
def test_numbers_of_weights_are_not_counted(content):
    assert parse_onnx(content, Path("x.onnx")).graph.node


UNSEEN = [
    pytest.param(sized(7, NODE * 100_000 + WEIGHTS), id="behind 100,000 nodes"),
    pytest.param(number(99 << 3 | 3) + sized(7, NODE + WEIGHTS), id="behind a group"),
    pytest.param(sized(7, NODE + sized(5, sized(8, MEGABYTES))), id="of another field"),
    pytest.param(sized(7, NODE + sized(4, sized(9, MEGABYTES))), id="not of weights"),
    pytest.param(sized(14, MEGABYTES) + sized(7, NODE), id="metadata"),
]


@pytest.mark.parametrize("content", UNSEEN)
def test_all_else_is_counted(content):
    with pytest.raises(ModelError, match=rf"or one with {len(content)} bytes beside its weights; "):
        parse_onnx(content, Path("x.onnx"))


def test_as_much_as_there_may_be_beside_weights():
    """8 MB, with all that makes a graph of it."""
    text = sized(2, bytes(2**23 - len(sized(7, NODE)) - len(sized(2, bytes(2**22))) + 2**22))
    content = sized(7, NODE) + text
    assert len(content) == 2**23
    assert parse_onnx(content, Path("x.onnx")).graph.node
    with pytest.raises(
        ModelError, match="8388609 bytes beside its weights; expected an ONNX file of"
    ):
        parse_onnx(sized(7, NODE) + sized(2, bytes(len(text) - 4)), Path("x.onnx"))


@pytest.mark.parametrize("content", [b"", b"\x80" * 12, b"\xff" * 9, b"\x3a\xff", b"\x0f", b"no"])
def test_what_makes_no_sense_is_no_model(content):
    with pytest.raises(ModelError, match="not an ONNX file"):
        parse_onnx(content, Path("x.onnx"))


def test_what_comes_before_damage_is_forgotten():
    with pytest.raises(ModelError, match="not an ONNX file with a graph; expected an ONNX file of"):
        parse_onnx(sized(7, NODE) + b"\x3a\xff", Path("x.onnx"))


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(
        ModelError, match=r"x\.onnx: no such file; expected an ONNX file of vol3dseg"
    ):
        read_bytes(tmp_path / "x.onnx")
    with pytest.raises(ModelError, match="a folder; expected"):
        read_bytes(tmp_path)

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.onnx").write_bytes(b"whole")
    assert read_bytes(tmp_path / "x.onnx") == b"whole"
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(ModelError, match=r"cannot be read \(Permission denied\); expected an ONNX"):
        read_bytes(tmp_path / "x.onnx")


@pytest.mark.parametrize(("size", "read"), [(2**31, True), (2**31 + 1, False)])
def test_a_file_may_be_as_large_as_onnx_can_be(size, read, tmp_path, monkeypatch):
    path = tmp_path / "x.onnx"
    with path.open("wb") as file:
        file.truncate(size)  # no byte of it is on the disk
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"all of it")
    if read:
        assert read_bytes(path) == b"all of it"
        return
    with pytest.raises(ModelError, match="has 2147483649 bytes, more than ONNX can hold; expected"):
        read_bytes(path)


FOREIGN = [
    pytest.param(lambda model: model.functions.add(name="f"), id="functions"),
    pytest.param(lambda model: model.training_info.add(), id="training steps"),
    pytest.param(lambda model: model.graph.sparse_initializer.add(), id="sparse weights"),
]


@pytest.mark.parametrize("change", FOREIGN)
def test_parts_that_no_network_of_ours_has(change, sound, tiny):
    change(tiny)
    with pytest.raises(ModelError, match="has functions, training steps or sparse weights; expect"):
        sound(tiny)


def test_what_is_unsound_is_not_sized(tiny, manifest_for):
    """Weights that are not there, which would make another size as well."""
    tiny.graph.initializer[0].dims[:] = [2, 1, 3, 3, 3]
    (fault,) = network_faults(tiny, manifest_for(1, 2, (16, 16, 16), 1), "x.onnx")
    assert "weights 'w' of [2, 1, 3, 3, 3] hold 2 numbers; expected 54" in str(fault)
    assert len(list(network_faults(tiny, None, "x.onnx"))) == 1


def test_all_weights_are_looked_at(graph_of):
    model = graph_of(1, 2)
    for name in ("a", "b"):
        model.graph.initializer.append(numpy_helper.from_array(ones(2), name))
        model.graph.initializer[-1].dims[:] = [3]
    for name in ("c", "d"):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float64), name))
    for name in ("e", "f"):
        model.graph.initializer.append(numpy_helper.from_array(ones(2) * np.nan, name))
    said = [str(fault) for fault in network_faults(model, None, "x.onnx")]
    assert [name in line for name, line in zip("abcdef", said, strict=True)] == [True] * 6


@pytest.mark.parametrize(("batch", "said"), [(1, ""), (2, ", 2 at a time")])
def test_a_network_takes_one_image(batch, said, sound, tiny):
    tiny.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    if said:
        with pytest.raises(ModelError, match=said):
            sound(tiny)
    else:
        sound(tiny)
