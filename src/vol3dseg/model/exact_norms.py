"""Instance norms whose sums are taken axis by axis, so that float32 suffices.

Runtimes on the CPU add up all voxels of a channel one after the other. Where many are equal, as in
the air around a body, each addition is rounded the same way: a norm is wrong by a thousandth, and
labels of hundreds in a million change. Sums of rows, of planes of these, and of the volume are of
few numbers each.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_AXES = (4, 3, 2)  # the fastest first
_LEAST = np.array([np.finfo(np.float32).min], dtype=np.float32)


def write_exact_norms(model: onnx.ModelProto) -> int:
    """Write the instance norms of a graph as arithmetic; returns how many there were.

    Those whose scale or shift is not among the weights, or that normalise other than volumes, are
    left as they are.
    """
    graph, count = model.graph, 0
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "InstanceNormalization" and weights.keys() >= set(node.input[1:]):
            nodes += _written(graph, node, weights)
            count += 1
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return count


def _written(
    graph: onnx.GraphProto, norm: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """Return what a norm is made of."""
    image, result, nodes = norm.input[0], norm.output[0], list[onnx.NodeProto]()
    found = {each.name: helper.get_attribute_value(each) for each in norm.attribute}

    def constant(what: str, values: NDArray[np.float32]) -> str:
        name = f"{result}.exact.{what}"
        graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def add(kind: str, what: str, *of: str, **attributes: object) -> str:
        name = f"{result}.exact.{what}" if what else result
        nodes.append(helper.make_node(kind, of, [name], name=name, **attributes))
        return name

    def mean(what: str, of: str) -> str:
        for axis in _AXES:
            of = add("ReduceMean", f"{what}.{axis}", of, axes=[axis], keepdims=1)
            if axis != _AXES[-1]:  # which changes nothing: OpenVINO makes one sum of all three else
                of = add("Max", f"{what}.{axis}.kept", of, least)
        return of

    least = constant("least", _LEAST)
    scale, shift = (
        constant(what, numpy_helper.to_array(weights[name]).reshape(-1, 1, 1, 1))
        for what, name in zip(("scale", "shift"), norm.input[1:], strict=True)
    )
    epsilon = constant("epsilon", np.array([found.get("epsilon", 1e-5)], dtype=np.float32))
    centred = add("Sub", "centred", image, mean("mean", image))
    variance = mean("variance", add("Mul", "squared", centred, centred))
    deviation = add("Sqrt", "deviation", add("Add", "above", variance, epsilon))
    factor = add("Div", "factor", scale, deviation)
    add("Add", "", add("Mul", "scaled", centred, factor), shift)
    return nodes
