"""Layers of torch in an ONNX graph, with weights by torch's names, as MONAI's networks need them.

A weight keeps its name in the graph. Each must be there, in its size; see `refuse_unused`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from pydantic import BeforeValidator, Field, Strict

from vol3dseg.errors import ModelError, some_of
from vol3dseg.model.operators import quoted
from vol3dseg.schema import Frozen, Real, Share
from vol3dseg.space.box import Shape

_IR_VERSION = 8
_OPSET = 17
_REMEDY = "give the weights that belong to this network_def"
ONE: Shape = (1, 1, 1)


def _named(value: Any) -> Any:
    """Let a name, or a name with a mapping of options, be one mapping."""
    name, *more = value if isinstance(value, list | tuple) and value else [value]
    options = more[0] if len(more) == 1 and isinstance(more[0], Mapping) else {}
    plain = isinstance(name, str) and len(more) <= 1
    return {**options, "name": name.lower()} if plain else value


def three(value: Any) -> Any:
    """Let one number stand for those along i, j and k."""
    return [value] * 3 if isinstance(value, int) else value


class _Norm(Frozen):
    name: Literal["instance", "batch", "group"]
    affine: bool | None = None
    eps: Annotated[float, Strict(), Field(gt=0, le=1)] = 1e-5
    momentum: Share | None = None  # of statistics, while training
    track_running_stats: bool | None = None
    num_groups: Annotated[int, Strict(), Field(ge=1, le=2**10)] = 1


class _Activation(Frozen):
    name: Literal["relu", "leakyrelu", "prelu"]
    inplace: bool = False
    negative_slope: Annotated[float, Strict(), Field(ge=-10, le=10)] = 0.01
    num_parameters: Annotated[int, Strict(), Field(ge=1, le=2**14)] = 1
    init: Real = 0.25  # before training


Norm = Annotated[_Norm, BeforeValidator(_named)]
Activation = Annotated[_Activation, BeforeValidator(_named)]
Channels = Annotated[int, Strict(), Field(ge=1, le=2**14)]
Side = Annotated[int, Strict(), Field(ge=1, le=64)]
Triple = Annotated[tuple[Side, Side, Side], BeforeValidator(three)]


class Value(NamedTuple):
    """What a layer gives: its name in the graph, and how many channels it has."""

    name: str
    channels: int


class Layers:
    """A graph as it grows, and which weights are in it."""

    def __init__(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._state = state
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._used: set[str] = set()

    def model(self, kind: str, image: int, logits: Value) -> onnx.ModelProto:
        """Return the whole: `image` (n, channel, i, j, k) to `logits` of any such size."""
        self._nodes[-1].output[0] = "logits"  # of the node that made them
        ends = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", count, "i", "j", "k"])
            for name, count in (("image", image), ("logits", logits.channels))
        ]
        constants = list(self._constants.values())
        graph = helper.make_graph(self._nodes, kind, ends[:1], ends[1:], constants)
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(
            graph, producer_name="vol3dseg", opset_imports=[opset], ir_version=_IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def refuse_unused(self, known: Iterable[str] = ()) -> None:
        """Refuse weights that are not in the graph, but for those that are `known` to be idle."""
        left = self._state.keys() - self._used - set(known)
        unknown = [name for name in left if not name.endswith(".num_batches_tracked")]
        if unknown:
            found = some_of([quoted(name) for name in sorted(unknown)])
            raise ModelError(f"holds weights of no layer: {found}", remedy=_REMEDY)

    def convolution(
        self, name: str, value: Value, features: int, kernel: Shape, stride: Shape = ONE,
        *, bias: bool = True, pads: Sequence[int] | None = None,
    ) -> Value:  # fmt: skip
        """Write a convolution; without `pads` it keeps the size, as odd kernels can."""
        wanted = [self._weights(f"{name}.weight", (features, value.channels, *kernel))]
        wanted += [self._weights(f"{name}.bias", (features,))] if bias else []
        pads = [side // 2 for side in kernel] if pads is None else pads
        window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": [*pads, *pads]}
        return self.add("Conv", name, [value.name, *wanted], features, **window)

    def transposed(
        self, name: str, value: Value, features: int, kernel: Shape, stride: Shape,
        *, bias: bool = True, pads: Sequence[int] = (0, 0, 0), more: Sequence[int] = (0, 0, 0),
    ) -> Value:  # fmt: skip
        """Write a transposed convolution; `more` is torch's output_padding."""
        wanted = [self._weights(f"{name}.weight", (value.channels, features, *kernel))]
        wanted += [self._weights(f"{name}.bias", (features,))] if bias else []
        window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": [*pads, *pads]}
        if any(more):
            window["output_padding"] = list(more)
        return self.add("ConvTranspose", name, [value.name, *wanted], features, **window)

    def norm(self, name: str, value: Value, norm: _Norm) -> Value:
        """Write a norm: instance norms have no weights unless told, the others have."""
        shape = (value.channels,)
        affine = norm.name != "instance" if norm.affine is None else norm.affine
        names = [f"{name}.weight", f"{name}.bias"]
        for each, number in zip(names, (1, 0), strict=True):
            if affine:
                self._weights(each, shape)
            else:
                self._constant(each, np.full(shape, number, np.float32))
        if norm.name == "batch" or norm.track_running_stats:
            kept = [f"{name}.running_mean", f"{name}.running_var"]
            names += [self._weights(each, shape) for each in kept]
            kind, more = "BatchNormalization", {"epsilon": norm.eps}
        elif norm.name == "group":
            return self._group_norm(name, value, norm, names)
        else:
            kind, more = "InstanceNormalization", {"epsilon": norm.eps}
        return self.add(kind, name, [value.name, *names], value.channels, **more)

    def _group_norm(self, name: str, value: Value, norm: _Norm, names: Sequence[str]) -> Value:
        """Write a group norm as arithmetic: runtimes have none before opset 21, or a slow one.

        A convolution of what is left of each channel takes the mean over its group.
        """
        channels, groups = value.channels, norm.num_groups
        if channels % groups:
            raise ModelError(f"{quoted(name)} has {channels} channels in {groups} groups")
        each = channels // groups
        mean = np.kron(np.eye(groups), np.full((each, each), 1 / each)).astype(np.float32)
        self._constant(f"{name}.mean", mean.reshape(channels, channels, *ONE))
        self._constant(f"{name}.epsilon", np.array([norm.eps], np.float32))

        def over_group(what: str, of: str) -> str:
            pooled = self.add("GlobalAveragePool", f"{name}.{what}.pooled", [of], channels).name
            return self.add("Conv", f"{name}.{what}", [pooled, f"{name}.mean"], channels).name

        def made(kind: str, what: str, *of: str) -> str:
            return self.add(kind, f"{name}.{what}", of, channels).name

        scale, shift = (self._per_channel(each, channels) for each in names)
        centred = made("Sub", "centred", value.name, over_group("average", value.name))
        variance = over_group("variance", made("Mul", "squared", centred, centred))
        deviation = made("Sqrt", "deviation", made("Add", "above", variance, f"{name}.epsilon"))
        factor = made("Div", "factor", scale, deviation)
        return Value(made("Add", "normed", made("Mul", "scaled", centred, factor), shift), channels)

    def _per_channel(self, name: str, channels: int) -> str:
        """Give weights of channels the axes of an image; returns their name."""
        values = numpy_helper.to_array(self._constants[name])
        self._constant(name, values.reshape(channels, *ONE))
        return name

    def activation(self, name: str, value: Value, activation: _Activation) -> Value:
        """Write an activation."""
        if activation.name == "relu":
            return self.add("Relu", name, [value.name], value.channels)
        if activation.name == "leakyrelu":
            slope = activation.negative_slope
            return self.add("LeakyRelu", name, [value.name], value.channels, alpha=slope)
        slopes = self._weights(f"{name}.weight", (activation.num_parameters,), (-1, 1, 1, 1))
        return self.add("PRelu", name, [value.name, slopes], value.channels)

    def joined(self, name: str, *parts: Value) -> Value:
        """Write channels after each other."""
        channels = sum(part.channels for part in parts)
        return self.add("Concat", name, [part.name for part in parts], channels, axis=1)

    def added(self, name: str, one: Value, other: Value) -> Value:
        """Write a sum."""
        return self.add("Add", name, [one.name, other.name], one.channels)

    def doubled(self, name: str, value: Value) -> Value:
        """Write linear interpolation to twice the size along i, j and k."""
        self._constant(f"{name}.scales", np.array([1, 1, 2, 2, 2], np.float32))
        given = [value.name, "", f"{name}.scales"]
        way: dict[str, Any] = {
            "mode": "linear",
            "coordinate_transformation_mode": "half_pixel",
        }
        return self.add("Resize", name, given, value.channels, **way)

    def reordered(self, value: Value, order: Sequence[int]) -> Value:
        """Write channels in another order, as a convolution that changes nothing else."""
        name, matrix = "reordered", np.eye(value.channels, dtype=np.float32)[list(order)]
        self._constant(f"{name}.weight", matrix.reshape(*matrix.shape, *ONE))
        inputs = [value.name, f"{name}.weight"]
        return self.add("Conv", name, inputs, len(order), kernel_shape=ONE)

    def add(
        self, kind: str, name: str, inputs: Sequence[str], channels: int, **attributes: Any
    ) -> Value:
        """Write a node."""
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return Value(name, channels)

    def _weights(
        self, name: str, shape: tuple[int, ...], as_shape: tuple[int, ...] | None = None
    ) -> str:
        if name not in self._state:
            raise ModelError(f"holds no weights {quoted(name)}", remedy=_REMEDY)
        weights = self._state[name]
        if weights.shape != shape or weights.dtype != np.float32:
            found = f"its weights {quoted(name)} are {list(weights.shape)} {weights.dtype}"
            raise ModelError(found, expected=f"{list(shape)} float32", remedy=_REMEDY)
        if not np.isfinite(weights).all():
            raise ModelError(f"its weights {quoted(name)} are not finite", expected="numbers")
        self._used.add(name)
        self._constant(name, np.ascontiguousarray(weights.reshape(as_shape or shape)))
        return name

    def _constant(self, name: str, values: NDArray[np.float32]) -> None:
        self._constants[name] = numpy_helper.from_array(values, name)
