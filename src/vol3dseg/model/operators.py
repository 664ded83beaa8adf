"""The operators and attributes that the graph of a segmentation network may use, and no others.

Whatever is not here is not run: loops, branches, random numbers, shapes that depend on values,
anything that makes much of nothing. A new operator is a line here, and in docs/security.md.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import onnx

from vol3dseg.errors import some_of

_Rule = Callable[[Any], bool]
_LARGEST = 64  # side of a kernel, step or spacing within a kernel [voxels]
_LONGEST = 160  # characters of what a file says
_AXES = {-1, -2, -3, -4, 1, 2, 3, 4}  # all but the batch


def _one_of(*values: object) -> _Rule:
    return lambda value: value in values


def _whole(value: Any, count: int, least: int, most: int) -> bool:
    """Return whether it is a list of so many whole numbers, and no text of as many bytes."""
    numbers = isinstance(value, list) and all(isinstance(n, int) for n in value)
    return numbers and len(value) == count and all(least <= n <= most for n in value)


def _sides(value: Any) -> bool:
    return _whole(value, 3, 1, _LARGEST)


def _pads(value: Any) -> bool:
    return _whole(value, 6, 0, _LARGEST**2 - 1)


def _reduced(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 4 and set(value) <= _AXES


_NUMBER: _Rule = math.isfinite
_POSITIVE: _Rule = lambda value: 0 < value < math.inf  # noqa: E731 - a rule like the others
_COUNT: _Rule = lambda value: 0 < value < 2**20  # noqa: E731
_FLAG = _one_of(0, 1)
_CHANNELS = _one_of(1, -4)
_WINDOW = {"kernel_shape": _sides, "strides": _sides, "pads": _pads, "auto_pad": _one_of(b"NOTSET")}
_POOLING = {**_WINDOW, "dilations": _sides, "ceil_mode": _one_of(0)}
_REDUCTION = {"axes": _reduced, "keepdims": _one_of(1), "noop_with_empty_axes": _one_of(0)}
_ROUNDING = {"axis": _one_of(0, 1)}
_KINDS = (onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL)

_PLAIN = (  # without attributes
    *("Abs", "Add", "Clip", "Div", "Erf", "Exp", "HardSwish", "Identity", "Log", "Max", "Mean"),
    *("Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Sigmoid", "Softplus"),
    *("Softsign", "Sqrt", "Sub", "Sum", "Tanh"),
    *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where"),
)

OPERATORS: Mapping[str, Mapping[str, _Rule]] = {
    "Conv": {**_WINDOW, "dilations": _sides, "group": _COUNT},
    "ConvTranspose": {
        **_WINDOW,
        "dilations": _sides,
        "group": _COUNT,
        "output_padding": lambda value: _whole(value, 3, 0, _LARGEST - 1),
    },
    "MaxPool": {**_POOLING, "storage_order": _one_of(0)},
    "AveragePool": {**_POOLING, "count_include_pad": _FLAG},
    "GlobalAveragePool": {},
    "GlobalMaxPool": {},
    "InstanceNormalization": {"epsilon": _POSITIVE},
    "GroupNormalization": {"epsilon": _POSITIVE, "num_groups": _COUNT, "stash_type": _one_of(1)},
    "BatchNormalization": {
        "epsilon": _POSITIVE,
        "momentum": _NUMBER,
        "training_mode": _one_of(0),
    },
    "Concat": {"axis": _CHANNELS},
    "Softmax": {"axis": _CHANNELS},
    "Resize": {
        "mode": _one_of(b"linear"),
        "coordinate_transformation_mode": _one_of(b"half_pixel"),
    },
    "QuantizeLinear": _ROUNDING,
    "DequantizeLinear": _ROUNDING,
    "Pad": {"mode": _one_of(b"constant")},
    "Slice": {},
    "Cast": {"to": _one_of(*_KINDS)},
    "LeakyRelu": {"alpha": _NUMBER},
    "Elu": {"alpha": _NUMBER},
    "Celu": {"alpha": _POSITIVE},
    "Selu": {"alpha": _NUMBER, "gamma": _NUMBER},
    "ThresholdedRelu": {"alpha": _NUMBER},
    "HardSigmoid": {"alpha": _NUMBER, "beta": _NUMBER},
    "Gelu": {"approximate": _one_of(b"none", b"tanh")},
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), _REDUCTION),
    **{name: {} for name in _PLAIN},
}
# What `export.standalone` writes round a network; vol3dseg itself never runs it.
STEPS = {
    *("ArgMax", "Compress", "Equal", "Floor", "Gather", "Mod", "Not", "Reshape", "Shape", "Size"),
    *("Squeeze", "TopK", "Unsqueeze"),
}
# Where an output depends on voxels farther away than any kernel reaches.
UNBOUNDED = {
    *("GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization"),
    *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"),
}


def unknown_operators(model: onnx.ModelProto, known: Collection[str]) -> str:
    """Return, for a message, which operators of a graph are not known; empty if all are."""
    found = dict.fromkeys(node.op_type for node in model.graph.node if node.op_type not in known)
    return some_of([quoted(name) for name in found])


def wrong_attributes(node: onnx.NodeProto) -> list[str]:
    """Return which attributes of a node of a known operator are not as its line here says."""
    rules = OPERATORS[node.op_type]
    return [quoted(each.name) for each in node.attribute if not _allowed(each, rules)]


def _allowed(attribute: onnx.AttributeProto, rules: Mapping[str, _Rule]) -> bool:
    try:
        return rules[attribute.name](onnx.helper.get_attribute_value(attribute))
    except (KeyError, TypeError, ValueError):  # unknown, of another kind, or that of a function
        return False


def quoted(text: str) -> str:
    """Return what a file says, for a message of one line."""
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
