"""The last convolution of a network, apart from the rest, where it makes much of little.

A convolution of 1x1x1 commutes with all that is done to its outputs until labels are decided:
weighted means over tiles, means over mirrored views, linear interpolation. Where it makes 117
outputs of 32 features, features are what is blended and brought to the grid of the scan.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from vol3dseg.errors import ModelError

Array = NDArray[np.float32]

_FEWER = 2  # times; logits may be added up in float16, features may not
_SMALL = 2**18  # multiplications at once: OpenBLAS takes more threads for more
_CACHED = 2**18  # outputs at once: they stay in the processor's cache
_PLAIN = {"kernel_shape": [1] * 3, "strides": [1] * 3, "dilations": [1] * 3, "pads": [0] * 6}


@dataclass(frozen=True, slots=True)
class Head:
    """Outputs as products of features with weights, of which the last are added alone."""

    weights: Array  # (features + 1, output)

    @property
    def features(self) -> int:
        """Of each voxel."""
        return len(self.weights) - 1

    def apply(self, features: Iterator[Array], voxels: int) -> Iterator[tuple[slice, Array]]:
        """Give the (voxel, output) values of some voxels after the others, and which they are.

        `features` are arrays of so many voxels in all.
        """
        number, outputs = self.weights.shape
        block = max(1, _SMALL // self.weights.size)
        padded = block * -(-voxels // block)
        known = np.empty((number, padded), dtype=np.float32)
        for row, values in zip(known, features, strict=False):
            row[:voxels] = values.ravel()
        known[:-1, voxels:] = 0
        known[-1] = 1
        step = block * max(1, _CACHED // (outputs * block))
        for start in range(0, voxels, step):
            blocks = known[:, start : start + step].reshape(number, -1, block)
            found = np.matmul(blocks.transpose(1, 2, 0), self.weights).reshape(-1, outputs)
            stop = min(start + step, voxels)
            yield slice(start, stop), found[: stop - start]


def take_head(model: onnx.ModelProto) -> Head:
    """Take the last convolution off a network, and return it.

    ModelError: the network does not end in one of 1x1x1, whose weights are in the file.
    """
    found = _last_convolution(model)
    if found is None:
        raise ModelError(
            "ends in another layer than a convolution of 1x1x1, so its features cannot be blended",
            expected="a last convolution, as tiling.blends in its manifest says",
            remedy="adopt the model again",
        )
    graph, (node, weights) = model.graph, found
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    outputs, features = weights.shape[:2]
    matrix = np.zeros((features + 1, outputs), dtype=np.float32)
    matrix[:-1] = weights.reshape(outputs, features).T
    if len(node.input) > 2:
        matrix[-1] = onnx.numpy_helper.to_array(tensors[node.input[2]])
    graph.node.remove(node)
    used = {name for each in graph.node for name in each.input}
    for name in set(node.input[1:]) - used:
        graph.initializer.remove(tensors[name])
    end = graph.output[0]
    end.name = node.input[0]
    end.type.tensor_type.shape.dim[1].dim_value = features
    return Head(matrix)


def what_to_blend(model: onnx.ModelProto) -> Literal["outputs", "features"]:
    """Return which of both takes less memory and time, for `Tiling.blends`."""
    found = _last_convolution(model)
    if found is None:
        return "outputs"
    outputs, features = found[1].shape[:2]
    return "features" if _FEWER * features <= outputs else "outputs"


def _last_convolution(model: onnx.ModelProto) -> tuple[onnx.NodeProto, NDArray[Any]] | None:
    """Return the node that makes the output and its weights, if all it does is a product."""
    graph, output = model.graph, model.graph.output[0].name
    node = next(each for each in graph.node if output in each.output)
    facts = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    others = [name for name, value in facts.items() if value != {**_PLAIN, "group": 1}.get(name)]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    if node.op_type != "Conv" or others or not tensors.keys() >= set(node.input[1:]):
        return None
    weights = onnx.numpy_helper.to_array(tensors[node.input[1]])
    before = {name for each in graph.node for name in each.output}
    used = {name for each in graph.node for name in each.input}
    alone = node.input[0] in before and output not in used
    return (node, weights) if alone and weights.shape[2:] == (1, 1, 1) else None
