"""A trained network of nnU-Net as an ONNX graph, written from its weights by name.

A weight keeps its name of torch's in the graph. Each must be there, in its size; what is left must
be what torch keeps twice, or what only training needs.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from vol3dseg.errors import ModelError, some_of
from vol3dseg.export.nnunet.architecture import Architecture, Stage, along
from vol3dseg.model.operators import quoted
from vol3dseg.space.box import Shape

_OPSET, _IR_VERSION = 17, 8
_ONE: Shape = (1, 1, 1)
_OTHER_HEAD = re.compile(
    r"decoder\.seg_layers\.([0-9]{1,3})\.(?:weight|bias)"
)  # of deep supervision
_REMEDY = "its trainer built another network than the plans say; run it with nnU-Net"


def write_network(
    architecture: Architecture,
    state: Mapping[str, NDArray[Any]],
    channels: int,
    outputs: int,
    axes: tuple[int, int, int],
    where: object = "",
) -> onnx.ModelProto:
    """Return the graph of a network: `image` (n, channel, i, j, k) to `logits` of any such size.

    Parameters
    ----------
    architecture : Architecture
    state : mapping of array
        Weights by torch's names.
    channels, outputs : int
        Of the image, and of the logits.
    axes : (3,) tuple of int
        Which of i, j, k (0, 1, 2) each axis of nnU-Net's network is: `Plans.file_axes`.
    where : object
        The checkpoint, for messages.

    Raises
    ------
    ModelError
        A weight is missing, of another size, not finite, or unknown.
    """
    model = onnx.ModelProto(ir_version=_IR_VERSION, producer_name="vol3dseg")
    model.opset_import.append(helper.make_opsetid("", _OPSET))
    model.graph.name = architecture.kind
    for ends, name, count in (
        (model.graph.input, "image", channels),
        (model.graph.output, "logits", outputs),
    ):
        sides: list[str | int | None] = ["n", count, "i", "j", "k"]
        ends.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sides))
    writer = _Writer(model.graph, architecture, state, axes)
    try:
        writer.head(writer.decoder(writer.encoder(channels)), outputs)
        writer.refuse_unused()
    except ModelError as error:
        raise error.at(where) from None
    return model


class _Value(NamedTuple):
    """What a layer gives: its name in the graph, and how many channels it has."""

    name: str
    channels: int


class _Writer:
    """A graph as it grows, and which weights are in it."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        architecture: Architecture,
        state: Mapping[str, NDArray[Any]],
        axes: tuple[int, int, int],
    ) -> None:
        self._graph, self._written = graph, set[str]()
        self._network, self._state, self._axes = architecture, state, axes

    def encoder(self, channels: int) -> list[_Value]:
        """Write all levels on the way down; returns what each of them gives."""
        value, stages, given = _Value("image", channels), self._network.stages, []
        if self._network.residual:
            stem = self._network.stem
            value = self._layer("encoder.stem.convs.0", value, stem, stages[0].kernel)
        for number, stage in enumerate(stages):
            for block in range(stage.blocks):
                stride = _ONE if block else stage.stride
                if self._network.residual:
                    name = f"encoder.stages.{number}.blocks.{block}"
                    value = self._block(name, value, stage, stride)
                else:
                    name = f"encoder.stages.{number}.0.convs.{block}"
                    value = self._layer(name, value, stage.features, stage.kernel, stride)
            given.append(value)
        return given

    def decoder(self, skips: Sequence[_Value]) -> _Value:
        """Write all levels on the way up; returns what the finest of them gives."""
        value, stages = skips[-1], self._network.stages
        for number, (below, stage) in enumerate(pairwise(reversed(stages))):
            skip, name = skips[-2 - number], f"decoder.transpconvs.{number}"
            up = self._transposed(name, value, stage.features, below.stride)
            parts, joined = [up.name, skip.name], f"decoder.stages.{number}.joined"
            value = self._add("Concat", joined, parts, up.channels + skip.channels, axis=1)
            for convolution in range(stage.decoder):
                name = f"decoder.stages.{number}.convs.{convolution}"
                value = self._layer(name, value, stage.features, stage.kernel)
        return value

    def head(self, features: _Value, outputs: int) -> None:
        """Write the finest of the layers that make logits."""
        name = f"decoder.seg_layers.{len(self._network.stages) - 2}"
        self._convolution(name, features, outputs, _ONE, _ONE, bias=True, given="logits")

    def refuse_unused(self) -> None:
        """Refuse weights that are not in the graph, and that it does not go without either."""
        last = len(self._network.stages) - 2
        unknown = []
        for name, weights in self._state.items():
            level = _OTHER_HEAD.fullmatch(name)
            if name in self._written or (level and int(level[1]) < last):
                continue
            if self._network.statistics and name.endswith(".num_batches_tracked"):
                continue
            twin = self._first_name(name)
            if twin not in self._written:
                unknown.append(quoted(name))
            elif not _equal(weights, self._state[twin]):
                raise ModelError(
                    f"{quoted(name)} and {quoted(twin)} differ", expected="one weight, kept twice"
                )
        if unknown:
            raise ModelError(
                f"holds weights of no layer: {some_of(unknown)}",
                expected=f"those of a {self._network.kind} alone",
                remedy=_REMEDY,
            )

    def _block(self, name: str, value: _Value, stage: Stage, stride: Shape) -> _Value:
        """Write its convolutions, beside which their input is pooled and projected as needed."""
        features, skip, at = stage.features, value, 0
        if within := stage.bottleneck:
            inner = self._layer(f"{name}.conv1", value, within, _ONE)
            inner = self._layer(f"{name}.conv2", inner, within, stage.kernel, stride)
            inner = self._layer(f"{name}.conv3", inner, features, _ONE, activated=False)
        else:
            inner = self._layer(f"{name}.conv1", value, features, stage.kernel, stride)
            inner = self._layer(f"{name}.conv2", inner, features, stage.kernel, activated=False)
        if stride != _ONE:
            sides = along(stride, self._axes)
            window: dict[str, Any] = {"kernel_shape": sides, "strides": sides}
            pooled, at = f"{name}.skip.0", 1
            skip = self._add("AveragePool", pooled, [skip.name], skip.channels, **window)
        if value.channels != features:
            projected = f"{name}.skip.{at}"
            skip = self._layer(projected, skip, features, _ONE, bias=False, activated=False)
        added = self._add("Add", f"{name}.added", [inner.name, skip.name], features)
        return self._activation(name, added)

    def _first_name(self, name: str) -> str:
        """Return the name that torch lists first for weights that stand in several modules."""
        name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
        norms = r"\.all_modules\.[12]\." if self._network.dropout else r"\.all_modules\.1\."
        return re.sub(norms, ".norm.", name.replace(".all_modules.0.", ".conv."))

    def _layer(
        self,
        name: str,
        value: _Value,
        features: int,
        kernel: Shape,
        stride: Shape = _ONE,
        *,
        bias: bool = True,
        activated: bool = True,
    ) -> _Value:
        """Write a convolution, its norm, and mostly an activation."""
        bias = bias and self._network.bias
        value = self._convolution(f"{name}.conv", value, features, kernel, stride, bias=bias)
        value = self._norm(f"{name}.norm", value)
        return self._activation(name, value) if activated else value

    def _convolution(
        self,
        name: str,
        value: _Value,
        features: int,
        kernel: Shape,
        stride: Shape,
        *,
        bias: bool,
        given: str = "",
    ) -> _Value:
        wanted = [self._weights(f"{name}.weight", (features, value.channels, *kernel))]
        wanted += [self._weights(f"{name}.bias", (features,))] if bias else []
        sides = along(kernel, self._axes)
        window: dict[str, Any] = {
            "kernel_shape": sides,
            "strides": along(stride, self._axes),
            "pads": [side // 2 for side in sides] * 2,
        }
        return self._add("Conv", name, [value.name, *wanted], features, given, **window)

    def _transposed(self, name: str, value: _Value, features: int, stride: Shape) -> _Value:
        wanted = [self._weights(f"{name}.weight", (value.channels, features, *stride))]
        wanted += [self._weights(f"{name}.bias", (features,))] if self._network.bias else []
        sides = along(stride, self._axes)
        window: dict[str, Any] = {"kernel_shape": sides, "strides": sides}
        return self._add("ConvTranspose", name, [value.name, *wanted], features, **window)

    def _norm(self, name: str, value: _Value) -> _Value:
        names, shape = [f"{name}.weight", f"{name}.bias"], (value.channels,)
        if self._network.affine:
            names = [self._weights(each, shape) for each in names]
        else:
            for each, number in zip(names, (1, 0), strict=True):
                self._constant(each, np.full(shape, number, np.float32))
        kind = "InstanceNormalization"
        if self._network.statistics:
            kind = "BatchNormalization"
            kept = (f"{name}.running_mean", f"{name}.running_var")
            names += [self._weights(each, shape) for each in kept]
        epsilon = self._network.epsilon
        return self._add(kind, name, [value.name, *names], value.channels, epsilon=epsilon)

    def _activation(self, name: str, value: _Value) -> _Value:
        if self._network.slope:
            slope, given = self._network.slope, f"{name}.nonlin"
            return self._add("LeakyRelu", given, [value.name], value.channels, alpha=slope)
        return self._add("Relu", f"{name}.nonlin", [value.name], value.channels)

    def _add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[str],
        channels: int,
        given: str = "",
        **attributes: Any,
    ) -> _Value:
        made = _Value(given or name, channels)
        node = helper.make_node(kind, inputs, [made.name], name=name, **attributes)
        self._graph.node.append(node)
        return made

    def _weights(self, name: str, shape: tuple[int, ...]) -> str:
        """Put weights into the graph, their last three axes as ours; returns their name."""
        if name not in self._state:
            raise ModelError(
                f"holds no weights {quoted(name)}",
                expected=f"those of a {self._network.kind} as its plans say",
                remedy=_REMEDY,
            )
        weights = self._state[name]
        if weights.shape != shape or weights.dtype != np.float32:
            raise ModelError(
                f"its weights {quoted(name)} are {list(weights.shape)} {weights.dtype}",
                expected=f"{list(shape)} float32, as its plans say",
                remedy=_REMEDY,
            )
        if not np.isfinite(weights).all():
            raise ModelError(
                f"its weights {quoted(name)} are not finite",
                expected="numbers that training has not lost",
                remedy="adopt another fold or checkpoint",
            )
        if len(shape) == 5:
            weights = weights.transpose(0, 1, *along((2, 3, 4), self._axes))
        self._constant(name, np.ascontiguousarray(weights))
        return name

    def _constant(self, name: str, values: NDArray[np.float32]) -> None:
        tensor = self._graph.initializer.add()  # in its place at once: it may be large
        tensor.name, tensor.data_type = name, onnx.TensorProto.FLOAT
        tensor.dims.extend(values.shape)
        tensor.raw_data = values.astype("<f4", copy=False).tobytes()
        self._written.add(name)


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    same = one.__array_interface__["data"] == other.__array_interface__["data"]
    return one.shape == other.shape and (
        (same and one.strides == other.strides) or np.array_equal(one, other)
    )
