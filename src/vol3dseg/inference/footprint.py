"""What a network takes for each voxel of its input, counted from its graph."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

# Their output takes the place of their input; runtimes fuse most of them with what comes before.
_IN_PLACE = {"LeakyRelu", "Relu", "BatchNormalization", "Softmax", "Add", "Mul", "Sub"}
_SIDE = 2  # of the input that is counted, in units of the divisor


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a network takes for each voxel of its input.

    Parameters
    ----------
    live_numbers : float
        That must be kept at once, at most: inputs and outputs of layers that are still needed.
    multiplications : float
        Of convolutions; each comes with an addition.
    """

    live_numbers: float
    multiplications: float


def footprint(model: onnx.ModelProto, divisor: int) -> Footprint:
    """Count what a network takes, layer after layer in the order of its graph.

    Parameters
    ----------
    model : onnx.ModelProto
        Its input is (n, c, i, j, k).
    divisor : int
        What the sides of an input must be multiples of [voxels].
    """
    side = _SIDE * divisor
    sizes, shapes = {}, _shapes(model, side)
    for name, shape in shapes.items():
        sizes[name] = math.prod(shape)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    voxels = side**3
    work = sum(_multiplications(node, shapes, weights) for node in model.graph.node)
    return Footprint(_most_alive(model.graph, sizes) / voxels, work / voxels)


def _shapes(model: onnx.ModelProto, side: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor for one cube of `side` voxels."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    dims = sized.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, (1, dims[1].dim_value, side, side, side), strict=True):
        dim.dim_value = size
    for output in sized.graph.output:
        output.type.tensor_type.ClearField("shape")
    del sized.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(sized, strict_mode=True, data_prop=True).graph
    known = [*graph.input, *graph.value_info, *graph.output]
    return {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known}


def _most_alive(graph: onnx.GraphProto, sizes: Mapping[str, int]) -> int:
    last_use = {name: n for n, node in enumerate(graph.node) for name in node.input}
    last_use |= {output.name: len(graph.node) for output in graph.output}
    alive = {value.name for value in graph.input}
    most = 0
    for number, node in enumerate(graph.node):
        done = {name for name in node.input if last_use[name] == number} & alive
        if node.op_type in _IN_PLACE and done:
            alive -= done
            done = set()
        alive |= {name for name in node.output if name in sizes}
        most = max(most, sum(sizes[name] for name in alive | done))
        alive -= done
    return most


def _multiplications(
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[int, ...]],
    weights: Mapping[str, tuple[int, ...]],
) -> int:
    """Return those of a convolution: every weight, for each voxel of the coarser of both sides."""
    if node.op_type not in ("Conv", "ConvTranspose") or node.input[1] not in weights:
        return 0
    place = node.output[0] if node.op_type == "Conv" else node.input[0]
    return math.prod(weights[node.input[1]]) * math.prod(shapes[place][2:])
