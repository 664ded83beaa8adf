"""What a network takes for each voxel of its input, counted from its graph."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx

from vol3dseg.model.graph_sizes import shapes_of
from vol3dseg.space.box import Shape

# Their output takes the place of their input; runtimes fuse most of them with what comes before.
_IN_PLACE = {"LeakyRelu", "Relu", "BatchNormalization", "Softmax", "Add", "Mul", "Sub"}
_MOVING = {"Concat", "MaxPool"}  # what comes in goes out, rounded or not
_ROUNDING = {"QuantizeLinear", "DequantizeLinear"}
_FLOAT = 4  # bytes
_SIDE = 2  # of the input that is counted, in units of the divisor


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a network takes for each voxel of its input."""

    float_bytes: float  # kept at once, at most: inputs and outputs of layers still needed
    # The same for runtimes that round within the layer: what is rounded to integers before its next
    # use counts as integers. Less only in a quantised network.
    rounded_bytes: float
    multiplications: float  # of convolutions; each comes with an addition


def footprint(model: onnx.ModelProto, divisor: Shape) -> Footprint:
    """Count what a network takes, layer after layer in the order of its graph.

    Its input is (n, c, i, j, k), with sides that are multiples of the divisor [voxels].
    """
    sides = [_SIDE * n for n in divisor]
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    shapes = shapes_of(model, (1, channels, *sides))
    constants, rounded = _constants(model.graph), _rounded(model.graph)
    floats = {name: math.prod(shapes[name]) * _FLOAT for name in shapes.keys() - constants}
    bytes_ = {name: size / _FLOAT if name in rounded else size for name, size in floats.items()}
    voxels = math.prod(sides)
    work = sum(_multiplications(node, shapes, constants) for node in model.graph.node)
    float_bytes, rounded_bytes = (_most_alive(model.graph, sizes) for sizes in (floats, bytes_))
    return Footprint(float_bytes / voxels, rounded_bytes / voxels, work / voxels)


def _constants(graph: onnx.GraphProto) -> set[str]:
    """Return the names of weights, and of what is made of weights alone."""
    found = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if found.issuperset(node.input):
            found |= set(node.output)
    return found


def _rounded(graph: onnx.GraphProto) -> set[str]:
    """Return the names of tensors that are kept as integers of a byte."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    found: set[str] = set()
    for node in reversed(graph.node):
        for name in node.output:
            after = users.get(name, [])
            kinds = {user.op_type for user in after}
            in_place = kinds <= _IN_PLACE and all(found.issuperset(u.output) for u in after)
            if node.op_type in _ROUNDING or (after and (kinds == {"QuantizeLinear"} or in_place)):
                found.add(name)
    for node in graph.node:
        if node.op_type in _MOVING and found.issuperset(node.input):
            found |= set(node.output)
    return found


def _most_alive(graph: onnx.GraphProto, sizes: Mapping[str, float]) -> float:
    last_use = {name: n for n, node in enumerate(graph.node) for name in node.input}
    last_use |= {output.name: len(graph.node) for output in graph.output}
    alive = {value.name for value in graph.input}
    most = 0.0
    for number, node in enumerate(graph.node):
        done = {name for name in node.input if last_use[name] == number} & alive
        if node.op_type in _IN_PLACE | _ROUNDING and done:
            alive -= done
            done = set()
        alive |= {name for name in node.output if name in sizes}
        most = max(most, sum(sizes[name] for name in alive | done))
        alive -= done
    return most


def _multiplications(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], constants: Collection[str]
) -> int:
    """Return those of a convolution: every weight, for each voxel of the coarser of both sides."""
    if node.op_type not in ("Conv", "ConvTranspose") or node.input[1] not in constants:
        return 0
    place = node.output[0] if node.op_type == "Conv" else node.input[0]
    return math.prod(shapes[node.input[1]]) * math.prod(shapes[place][2:])
