"""How large everything is that a graph makes of an image, found without making any of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from vol3dseg.model.operators import quoted

_FEW = 64  # numbers of a constant that may say sizes, axes or limits
_MOST = 2**48  # numbers, far beyond what any check lets pass, and within what integers can count
_INVALID = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
Shape = tuple[int, ...]


class Unfit(Exception):  # noqa: N818 - says what it is
    """A graph that no network of ours has.

    Parameters
    ----------
    found, expected : str
    """

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a graph makes of one image."""

    output: Shape
    of_image: int  # numbers in all outputs of all layers
    of_weights: int  # the same of layers that the image has no part in
    multiplications: int  # of windows


def sizes_of(model: onnx.ModelProto, image: Shape) -> Sizes:
    """Return what a graph of known operators makes of an image of (n, c, i, j, k) voxels.

    Raises
    ------
    Unfit
        It is not a valid graph, a size depends on values, or a window lies beside its input.
    """
    graph, shapes = model.graph, shapes_of(model, image)
    constant = {tensor.name for tensor in graph.initializer}
    made, work = {True: 0, False: 0}, 0
    for node in graph.node:
        alone = constant.issuperset(node.input)
        if alone:
            constant |= set(node.output)
        for name in filter(None, node.output):
            sides = shapes.get(name, ())
            if not sides or min(sides) < 1 or math.prod(sides) > _MOST:
                raise Unfit(
                    f"{node.op_type} makes {quoted(name)} of {sides} numbers",
                    "a size that can be made",
                )
            made[alone] += math.prod(sides)
        work += _multiplications(node, shapes)
    return Sizes(shapes[graph.output[0].name], made[False], made[True], work)


def shapes_of(model: onnx.ModelProto, image: Shape) -> dict[str, Shape]:
    """Return the shapes of all values for one image; 0 stands for a side that is not known.

    Raises
    ------
    Unfit
        The graph is not valid.
    """
    graph, small = model.graph, onnx.GraphProto(name="sizes")
    small.node.extend(graph.node)
    small.input.append(_value(graph.input[0].name, onnx.TensorProto.FLOAT, image))
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= _FEW:
            small.initializer.append(tensor)
        else:  # without its numbers, which would be copied
            small.input.append(_value(tensor.name, tensor.data_type, tensor.dims))
    sized = onnx.helper.make_model(
        small, opset_imports=model.opset_import, ir_version=max(model.ir_version, 4)
    )
    try:
        onnx.checker.check_model(sized)
        found = onnx.shape_inference.infer_shapes(sized, check_type=True, strict_mode=True).graph
    except (*_INVALID, ValueError, RuntimeError) as error:  # of text that is none, deep inside
        said = " ".join(str(error).split())
        raise Unfit(f"is not valid ({quoted(said)})", "a graph that fits together") from error
    known = [*found.input, *found.value_info]
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known}
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def _value(name: str, kind: int, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def _multiplications(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Return those of a convolution or pooling, whose window must not lie beside its input."""
    facts = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type in {"Conv", "ConvTranspose"}:
        weights = shapes[node.input[1]]
        kernel, each = weights[2:], math.prod(weights)
    elif node.op_type in {"MaxPool", "AveragePool"}:
        kernel = tuple(facts["kernel_shape"])
        each = math.prod(kernel) * shapes[node.input[0]][1]
    else:
        return 0
    pads, spread = facts.get("pads", ()), facts.get("dilations", (1,) * len(kernel))
    reach = [n * (side - 1) for n, side in zip(spread, kernel, strict=True)] * 2
    # OpenVINO ends the process where a window has nothing but padding to look at.
    if len(kernel) != 3 or any(p > r for p, r in zip(pads, reach, strict=False)):
        raise Unfit(
            f"{node.op_type} {quoted(node.name)} pads by {list(pads)} for {list(kernel)} voxels",
            "less than the kernel",
        )
    place = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
    return each * math.prod(shapes[place][2:])
