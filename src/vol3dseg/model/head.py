"""The last convolution of a network, apart from the rest, where it makes much of little.

Where a convolution of 1x1x1 makes 117 outputs of 32 features, features are what a tile holds, what
is averaged over its mirrored views, and outputs are made of them some thousand voxels at a time, as
they are added up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[np.float32]

_SMALL = 2**18  # multiplications at once: OpenBLAS takes more threads for more
_PLAIN = {"kernel_shape": [1] * 3, "strides": [1] * 3, "dilations": [1] * 3, "pads": [0] * 6}


@dataclass(frozen=True, slots=True)
class Head:
    """What makes outputs of features, of several networks side by side or of one."""

    weights: Array  # (network, output, feature)
    biases: Array  # (network, output)

    @property
    def features(self) -> int:
        """Of each voxel, in all."""
        networks, _, each = self.weights.shape
        return int(networks * each)

    @property
    def outputs(self) -> int:
        """Of each voxel, in all."""
        return int(self.biases.size)

    @property
    def averaged(self) -> "Head":
        """What makes the mean of all networks' outputs."""
        weights = np.hstack(list(self.weights))[None] / len(self.weights)
        return Head(weights.astype(np.float32), self.biases.mean(axis=0)[None])

    def groups(self, most: int) -> Iterator[slice]:
        """Cut the outputs into groups of at most so many, each of one network."""
        networks, each = self.biases.shape
        for first in range(0, networks * each, each):
            for start in range(first, first + each, most):
                yield slice(start, min(start + most, first + each))

    def apply(self, features: Array, group: slice) -> Array:
        """Return the (output, ...) values of one of `groups`, of (feature, ...) ones."""
        network, first = divmod(group.start, self.biases.shape[1])
        wanted = slice(first, first + group.stop - group.start)
        weights = self.weights[network, wanted]
        count, each = weights.shape
        own = features[network * each : (network + 1) * each]
        known = own.reshape(each, -1)
        found = np.empty((count, known.shape[1]), dtype=np.float32)
        step = max(1, _SMALL // weights.size)
        for start in range(0, known.shape[1], step):
            columns = slice(start, start + step)
            np.matmul(weights, known[:, columns], out=found[:, columns])
        found += self.biases[network, wanted, None]
        return found.reshape(count, *own.shape[1:])


def take_head(model: onnx.ModelProto, networks: int = 1) -> Head | None:
    """Take the last convolution off so many networks side by side, and return it.

    None where they do not end in one of 1x1x1 whose weights are in the file, or where features are
    no fewer than outputs; nothing is changed then.
    """
    graph = model.graph
    end = graph.output[0]
    last = next(each for each in graph.node if end.name in each.output)
    if networks > 1 and (last.op_type != "Concat" or len(last.input) != networks):
        return None
    found = [_convolution(graph, name) for name in (last.input if networks > 1 else [end.name])]
    nodes = [node for node, _ in filter(None, found)]
    weights = [array for _, array in filter(None, found)]
    if len(nodes) < networks or len({array.shape for array in weights}) > 1:
        return None
    outputs, features = weights[0].shape[:2]
    if outputs <= features:
        return None
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    biases = np.zeros((networks, outputs), dtype=np.float32)
    for row, node in zip(biases, nodes, strict=True):
        if len(node.input) > 2:
            row[:] = onnx.numpy_helper.to_array(tensors[node.input[2]])
        graph.node.remove(node)
    used = {name for each in graph.node for name in each.input}
    for name in {name for node in nodes for name in node.input[1:]} - used:
        graph.initializer.remove(tensors[name])
    if networks > 1:
        last.input[:] = [node.input[0] for node in nodes]
    else:
        end.name = nodes[0].input[0]
    end.type.tensor_type.shape.dim[1].dim_value = networks * features
    kernels = np.stack(weights).reshape(networks, outputs, features)
    return Head(kernels.astype(np.float32), biases)


def _convolution(graph: onnx.GraphProto, output: str) -> tuple[onnx.NodeProto, NDArray[Any]] | None:
    """Return the node that makes a network's output and its weights, if it is but a product."""
    node = next(each for each in graph.node if output in each.output)
    facts = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    others = [name for name, value in facts.items() if value != {**_PLAIN, "group": 1}.get(name)]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    if node.op_type != "Conv" or others or not tensors.keys() >= set(node.input[1:]):
        return None
    weights = onnx.numpy_helper.to_array(tensors[node.input[1]])
    made = {name for each in graph.node for name in each.output}
    uses = [name for each in graph.node for name in each.input].count(output)
    uses += [each.name for each in graph.output].count(output)
    alone = node.input[0] in made and uses == 1
    return (node, weights) if alone and weights.shape[2:] == (1, 1, 1) else None
