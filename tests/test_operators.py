"""What attributes of operators may say, at the ends of their ranges."""

import math

import onnx
import pytest
from onnx import helper

from vol3dseg.model.operators import OPERATORS, quoted, unknown_operators, wrong_attributes

CONVOLUTIONS = ("Conv", "ConvTranspose")
POOLINGS = ("MaxPool", "AveragePool")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
SIDES = (
    [[1, 1, 1], [64, 64, 64], [1, 2, 64]],
    [[0, 1, 1], [1, 1, 65], [1, 1], [1] * 4, 3, "111", [1.0] * 3],
)
PADS = [[0] * 6, [4095] * 6], [[-1, 0, 0, 0, 0, 0], [4096] + [0] * 5, [0] * 5, [0] * 7, 1, "111111"]
POSITIVE = [1e-30, 0.5, 1e30], [0.0, -1.0, math.inf, math.nan, "x", [0.5]]
NUMBER = [-1.0, 0.0, 3.0], [math.inf, -math.inf, math.nan, "x", [0.5]]
COUNT = [1, 2**20 - 1], [0, -1, 2**20, "x", [1]]
FLAG = [0, 1], [2, -1, "0"]
CHANNELS = [1, -4], [0, 2, -1, -5, 5]
ZERO, ONE = ([0], [1, -1]), ([1], [0, 2])
RULES = [
    *((kind, name, *SIDES) for kind in (*CONVOLUTIONS, *POOLINGS)
      for name in ("kernel_shape", "strides", "dilations")),
    *((kind, "pads", *PADS) for kind in (*CONVOLUTIONS, *POOLINGS)),
    *((kind, "auto_pad", ["NOTSET"], ["SAME_UPPER", "VALID", "", 0])
      for kind in (*CONVOLUTIONS, *POOLINGS)),
    *((kind, "group", *COUNT) for kind in CONVOLUTIONS),
    ("ConvTranspose", "output_padding", [[0] * 3, [63] * 3],
     [[-1, 0, 0], [64, 0, 0], [0] * 2, "111"]),
    ("ConvTranspose", "output_shape", [], [[1, 1, 1]]),
    *((kind, "ceil_mode", *ZERO) for kind in POOLINGS),
    ("MaxPool", "storage_order", *ZERO),
    ("AveragePool", "count_include_pad", *FLAG),
    ("InstanceNormalization", "epsilon", *POSITIVE),
    ("GroupNormalization", "epsilon", *POSITIVE),
    ("GroupNormalization", "num_groups", *COUNT),
    ("GroupNormalization", "stash_type", *ONE),
    ("BatchNormalization", "epsilon", *POSITIVE),
    ("BatchNormalization", "momentum", *NUMBER),
    ("BatchNormalization", "training_mode", *ZERO),
    ("Concat", "axis", *CHANNELS),
    ("Softmax", "axis", *CHANNELS),
    ("Resize", "mode", ["linear"], ["cubic", "nearest"]),
    ("Resize", "coordinate_transformation_mode", ["half_pixel"], ["tf_crop_and_resize"]),
    *((kind, "axis", [0, 1], [2, -1]) for kind in ("QuantizeLinear", "DequantizeLinear")),
    ("Pad", "mode", ["constant"], ["reflect", "edge", "wrap"]),
    ("Cast", "to", [onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL], [0, 2, 8, 10, 11]),
    ("Celu", "alpha", *POSITIVE),
    *((kind, "alpha", *NUMBER)
      for kind in ("LeakyRelu", "Elu", "Selu", "ThresholdedRelu", "HardSigmoid")),
    ("Selu", "gamma", *NUMBER),
    ("HardSigmoid", "beta", *NUMBER),
    ("Gelu", "approximate", ["none", "tanh"], ["", "fast"]),
    *((kind, "axes", [[1], [-1], [-4, -3, -2, -1], [1, 2, 3, 4]],
       [[0], [-5], [5], [1, 2, 3, 4, 1], 1, "\1"]) for kind in REDUCTIONS),
    *((kind, "keepdims", *ONE) for kind in REDUCTIONS),
    *((kind, "noop_with_empty_axes", *ZERO) for kind in REDUCTIONS),
]  # fmt: skip


def says(kind, name, value):
    return wrong_attributes(helper.make_node(kind, [], [], **{name: value}))


@pytest.mark.parametrize(
    ("kind", "name", "right", "wrong"), RULES, ids=[f"{kind} {name}" for kind, name, *_ in RULES]
)
def test_what_an_attribute_may_be(kind, name, right, wrong):
    assert [value for value in right if says(kind, name, value)] == []
    assert [value for value in wrong if says(kind, name, value) != [repr(name)]] == []


def test_every_attribute_is_tried():
    assert {(kind, name) for kind, name, right, _ in RULES if right} == {
        (kind, name) for kind, rules in OPERATORS.items() for name in rules
    }


@pytest.mark.parametrize("kind", OPERATORS)
def test_no_other_attribute(kind):
    assert wrong_attributes(helper.make_node(kind, [], [])) == []
    assert says(kind, "more", 1) == ["'more'"]


def test_an_empty_list_of_axes():
    """It is all of them, by another rule."""
    node = helper.make_node("ReduceMean", [], [])
    node.attribute.add(name="axes", type=onnx.AttributeProto.INTS)
    assert wrong_attributes(node) == ["'axes'"]


def test_an_attribute_that_is_that_of_a_function():
    node = helper.make_node("LeakyRelu", [], [])
    node.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="x")
    assert wrong_attributes(node) == ["'alpha'"]


def test_unknown_operators_are_each_named_once():
    graph = helper.make_graph(
        [helper.make_node(kind, [], []) for kind in ("Loop", "Conv", "If", "Loop")], "g", [], []
    )
    assert unknown_operators(helper.make_model(graph), OPERATORS) == "'Loop', 'If'"
    assert unknown_operators(helper.make_model(graph), {"Loop", "Conv", "If"}) == ""


@pytest.mark.parametrize(
    ("text", "said"), [("x" * 160, repr("x" * 160)), ("x" * 161, repr("x" * 160 + "..."))]
)
def test_what_a_file_says_is_cut(text, said):
    assert quoted(text) == said
    assert quoted("a\n\x1b[31m").isprintable()
