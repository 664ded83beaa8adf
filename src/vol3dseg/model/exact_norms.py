"""Instance and group norms whose sums are taken axis by axis, so that float32 suffices.

Runtimes on the CPU add up all voxels of a channel one after the other. Where many are equal, as in
the air around a body, each addition is rounded the same way: a norm is wrong by a thousandth, and
labels of hundreds in a million change. Sums of rows, of planes of these, and of the volume are of
few numbers each, and are the same by any number of threads.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_AXES = (4, 3, 2)  # the fastest first
_LEAST = np.array([np.finfo(np.float32).min], dtype=np.float32)


def write_exact_norms(model: onnx.ModelProto) -> int:
    """Write instance norms and global averages as arithmetic; returns how many there were.

    Averages are what group norms are made of. Norms whose scale or shift is not among the weights
    are left as they are.
    """
    graph, count = model.graph, 0
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        made = _Arithmetic(graph, node.output[0])
        if node.op_type == "InstanceNormalization" and weights.keys() >= set(node.input[1:]):
            made.norm(node, weights)
        elif node.op_type == "GlobalAveragePool":
            made.add("Identity", "", made.mean("mean", node.input[0]))
        nodes += made.nodes or [node]
        count += bool(made.nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    return count


class _Arithmetic:
    """What stands for a node of a graph, as it is written."""

    def __init__(self, graph: onnx.GraphProto, result: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph, self._result = graph, result

    def constant(self, what: str, values: NDArray[np.float32]) -> str:
        name = f"{self._result}.exact.{what}"
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, what: str, *of: str, **attributes: Any) -> str:
        name = f"{self._result}.exact.{what}" if what else self._result
        self.nodes.append(helper.make_node(kind, of, [name], name=name, **attributes))
        return name

    def mean(self, what: str, of: str) -> str:
        least = self.constant(f"{what}.least", _LEAST)
        for axis in _AXES:
            of = self.add("ReduceMean", f"{what}.{axis}", of, axes=[axis], keepdims=1)
            if axis != _AXES[-1]:  # which changes nothing: OpenVINO makes one sum of all three else
                of = self.add("Max", f"{what}.{axis}.kept", of, least)
        return of

    def norm(self, norm: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> None:
        add, image = self.add, norm.input[0]
        found = {each.name: helper.get_attribute_value(each) for each in norm.attribute}
        scale, shift = (
            self.constant(what, numpy_helper.to_array(weights[name]).reshape(-1, 1, 1, 1))
            for what, name in zip(("scale", "shift"), norm.input[1:], strict=True)
        )
        least = np.array([found.get("epsilon", 1e-5)], dtype=np.float32)
        epsilon = self.constant("epsilon", least)
        centred = add("Sub", "centred", image, self.mean("mean", image))
        variance = self.mean("variance", add("Mul", "squared", centred, centred))
        deviation = add("Sqrt", "deviation", add("Add", "above", variance, epsilon))
        factor = add("Div", "factor", scale, deviation)
        add("Add", "", add("Mul", "scaled", centred, factor), shift)
