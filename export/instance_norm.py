"""One ONNX pass: the arithmetic of instance normalisation becomes `InstanceNormalization` nodes.

tf2onnx writes the layer `vol3dseg.training.networks.unet.InstanceNormalization` as a dozen small
nodes, many of which read and write the whole feature map::

    m = mean(x)
    d = Sub(x, m)
    r = Reciprocal(Sqrt(Add(mean(Mul(d, d)), epsilon)))
    y = Add(Mul(Mul(d, r), scale), shift)

where a mean is one ReduceMean for each of i, j, k, or one GlobalAveragePool.

One node for all of it is quicker and is what other runtimes recognise. TensorFlow and tf2onnx may
reorder the factors, fold away a scale of ones or a shift of zeros, and leave a Reshape where a
Transpose of a (n, 1, 1, 1, c) tensor was; every such form is known here, and nothing else is
touched.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vol3dseg.errors import ModelError

Node = onnx.NodeProto
_MEANS = ("ReduceMean", "GlobalAveragePool")


@dataclass(frozen=True, slots=True)
class _Norm:
    """One instance norm found in a graph: what replaces it, and the names of its first and last."""

    source: str
    output: str
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    epsilon: float


class _Index:
    """Who makes and who takes each tensor of a graph, and which tensors are constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self._maker = {name: node for node in graph.node for name in node.output}
        self._takers: dict[str, list[Node]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._takers[name].append(node)

    def maker(self, name: str, *kinds: str) -> Node | None:
        """Return the node of one of these kinds that makes the tensor, if there is one."""
        node = self._maker.get(name)
        return node if node is not None and node.op_type in kinds else None

    def takers(self, name: str) -> list[Node]:
        """Return the nodes that take the tensor, each once; none for an output of the graph."""
        return [] if name in self.outputs else self._takers[name]

    def other(self, node: Node, name: str) -> str:
        """Return the input of a two-sided node that is not `name`."""
        first, second = node.input
        return str(second if first == name else first)

    def per_channel(self, name: str, channels: int) -> NDArray[np.float32] | None:
        """Return a constant as one number for each channel, or None if it is no such thing."""
        value = self.constants.get(name)
        if value is None or value.shape not in {(), (1,), *_per_channel_shapes(channels)}:
            return None
        return np.broadcast_to(value.reshape(-1), channels).astype(np.float32)


def fuse_instance_norms(model: onnx.ModelProto, expected: int) -> None:
    """Replace the arithmetic of every instance norm by one node, in place.

    Parameters
    ----------
    model : onnx.ModelProto
        As tf2onnx made it; its tensors are (n, c, i, j, k).
    expected : int
        How many the Keras model has.

    Raises
    ------
    ModelError
        Another number was found, or a part of one is left.
    """
    graph = model.graph
    index = _Index(graph)
    found = [norm for node in graph.node if (norm := _match(index, node)) is not None]
    for number, norm in enumerate(found):
        _replace(graph, norm, number)
    drop_unused(graph)
    left = sum(node.op_type in _MEANS for node in graph.node)
    if len(found) != expected or left:
        raise ModelError(
            f"instance norm: {len(found)} of {expected} layers became one InstanceNormalization "
            f"node each and {left} averages are left over; expected {expected} and 0; this tf2onnx "
            "writes them in an unknown way, reinstall: pip install 'vol3dseg[train]'"
        )


def _match(index: _Index, node: Node) -> _Norm | None:
    """Return the instance norm that begins with this node, which subtracts the mean."""
    if node.op_type != "Sub":
        return None
    source, difference = node.input[0], node.output[0]
    channels = _channels(index, source)
    if channels is None or not _is_mean(index, node.input[1], source, channels):
        return None
    squares = [n for n in index.takers(difference) if _is_square(n)]
    others = [n for n in index.takers(difference) if not _is_square(n)]
    if len(squares) != 1 or len(others) != 1 or others[0].op_type != "Mul":
        return None
    return _match_affine(index, source, difference, squares[0].output[0], channels)


def _match_affine(
    index: _Index, source: str, difference: str, square: str, channels: int
) -> _Norm | None:
    """Walk from the centred values over all factors to the shift, where the norm ends."""
    scale, epsilon, name = np.ones(channels, np.float32), None, difference
    while (product := _only_taker(index, name, "Mul")) is not None:
        for factor in _factors(index, index.other(product, name)):
            constant = index.per_channel(factor, channels)
            if constant is not None:
                scale = scale * constant
            elif epsilon is None:
                epsilon = _epsilon(index, factor, square, channels)
                if epsilon is None:
                    return None
            else:
                return None
        name = product.output[0]
    if epsilon is None:
        return None
    total = _only_taker(index, name, "Add")
    shift = index.per_channel(index.other(total, name), channels) if total is not None else None
    if total is None or shift is None:
        return _Norm(source, name, scale, np.zeros(channels, np.float32), epsilon)
    return _Norm(source, total.output[0], scale, shift, epsilon)


def _only_taker(index: _Index, name: str, kind: str) -> Node | None:
    """Return the one node that takes a tensor, squares of it aside, if it is of this kind."""
    takers = [node for node in index.takers(name) if not _is_square(node)]
    return takers[0] if len(takers) == 1 and takers[0].op_type == kind else None


def _factors(index: _Index, name: str) -> list[str]:
    """Return what is multiplied to make a tensor: itself, or the factors of its product."""
    product = index.maker(name, "Mul")
    if product is None or len(index.takers(name)) != 1:
        return [name]
    return [factor for side in product.input for factor in _factors(index, side)]


def _epsilon(index: _Index, name: str, square: str, channels: int) -> float | None:
    """Return the epsilon of 1 / sqrt(mean(square) + epsilon), or None if it is no such thing."""
    inverse = index.maker(_before_reshape(index, name, channels), "Reciprocal")
    root = index.maker(inverse.input[0], "Sqrt") if inverse else None
    total = index.maker(root.input[0], "Add") if root else None
    if total is None:
        return None
    for variance, constant in (total.input, total.input[::-1]):
        epsilon = index.constants.get(constant)
        if epsilon is not None and epsilon.size == 1:
            return float(epsilon.item()) if _is_mean(index, variance, square, channels) else None
    return None


def _is_mean(index: _Index, name: str, source: str, channels: int) -> bool:
    """Tell whether a tensor is the mean of `source` over i, j, k, by one node or axis by axis."""
    name, axes = _before_reshape(index, name, channels), set()
    while (node := index.maker(name, *_MEANS)) is not None:
        axes |= _axes(node)
        name = node.input[0]
    return name == source and axes == {2, 3, 4}


def _axes(node: Node) -> set[int]:
    if node.op_type == "GlobalAveragePool":
        return {2, 3, 4}
    return {axis for a in node.attribute if a.name == "axes" for axis in a.ints}


def _before_reshape(index: _Index, name: str, channels: int) -> str:
    """Step over a Reshape that leaves (n, c, 1, 1, 1) as it is."""
    node = index.maker(name, "Reshape")
    shape = index.constants.get(node.input[1]) if node else None
    if node is None or shape is None or tuple(shape[1:]) != (channels, 1, 1, 1):
        return name
    return str(node.input[0])


def _is_square(node: Node) -> bool:
    return node.op_type == "Mul" and node.input[0] == node.input[1]


def _channels(index: _Index, name: str) -> int | None:
    """Return the channels of a tensor that a convolution with constant weights makes."""
    convolution = index.maker(name, "Conv")
    weights = index.constants.get(convolution.input[1]) if convolution else None
    return None if weights is None else int(weights.shape[0])


def _per_channel_shapes(channels: int) -> set[tuple[int, ...]]:
    return {(1, channels, 1, 1, 1), (channels, 1, 1, 1), (1, 1, 1, 1, 1)}


def _replace(graph: onnx.GraphProto, norm: _Norm, number: int) -> None:
    """Put one node where the last of the norm's nodes stood; the others lose their use."""
    names = [f"instance_norm_{number}.{part}" for part in ("scale", "shift")]
    for name, values in zip(names, (norm.scale, norm.shift), strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    place = next(n for n, node in enumerate(graph.node) if norm.output in node.output)
    fused: Any = onnx.helper.make_node(
        "InstanceNormalization",
        [norm.source, *names],
        [norm.output],
        name=f"instance_norm_{number}",
        epsilon=norm.epsilon,
    )
    graph.node[place].CopyFrom(fused)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes, last to first, and constants that nothing takes any more."""
    wanted = {value.name for value in graph.output}
    for place in reversed(range(len(graph.node))):
        if wanted.isdisjoint(graph.node[place].output):
            del graph.node[place]
        else:
            wanted.update(graph.node[place].input)
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in wanted:
            del graph.initializer[place]
