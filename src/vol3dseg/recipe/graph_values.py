"""Write an ONNX graph as expressions: `(image - low) / width` appends nodes to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike

OPSET = 17  # of the operators that steps are written in
Operand: TypeAlias = "Value | float | np.floating[Any]"


@dataclass(eq=False)
class Graph:
    """Nodes and constants so far; `prefix` tells names that are made from the network's."""

    prefix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(
        self, kind: str, *inputs: "Value", dtype: DTypeLike, outputs: int = 1, **facts: Any
    ) -> "Value":
        """Append a node of the standard operators and return its first output, of type `dtype`.

        `outputs` are how many the operator has, `facts` its attributes. `name` among them is that
        of the node, for messages of the runtime, and of its output.
        """
        name = facts.pop("name", f"{self.prefix}{kind}_{len(self.nodes)}")
        names = [name, *(f"{name}_unused_{n}" for n in range(1, outputs))]
        inner = [value.name for value in inputs]
        self.nodes.append(onnx.helper.make_node(kind, inner, names, name=name, **facts))
        return Value(self, name, np.dtype(dtype))

    def input(self, name: str, dtype: DTypeLike) -> "Value":
        """Return a value that comes from outside."""
        return Value(self, name, np.dtype(dtype))

    def constant(self, value: ArrayLike, dtype: DTypeLike = np.int64) -> "Value":
        """Append a constant."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(value, dtype), name))
        return Value(self, name, np.dtype(dtype))


def _operator(kind: str) -> Callable[["Value", Operand], "Value"]:
    return lambda value, other: value.then(kind, other)


@dataclass(frozen=True, eq=False)
class Value:
    """A value in a graph; with numbers, which become constants of its type, it makes others."""

    graph: Graph
    name: str
    dtype: np.dtype[Any]

    def then(
        self, kind: str, *others: Operand, dtype: DTypeLike | None = None, **facts: Any
    ) -> "Value":
        """Append a node whose first input is this value; without `dtype` it has that of this."""
        inputs = [
            each if isinstance(each, Value) else self.graph.constant(each, self.dtype)
            for each in others
        ]
        return self.graph.add(kind, self, *inputs, dtype=dtype or self.dtype, **facts)

    __add__ = _operator("Add")
    __sub__ = _operator("Sub")
    __mul__ = _operator("Mul")
    __truediv__ = _operator("Div")
    __mod__ = _operator("Mod")
    at_least = _operator("Max")
    at_most = _operator("Min")

    def __rsub__(self, other: float) -> "Value":
        return self.graph.constant(other, self.dtype) - self

    def to(self, dtype: DTypeLike) -> "Value":
        """Return it as another type."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.then("Cast", dtype=dtype, to=kind)

    def differs(self, other: float) -> "Value":
        """Mark where it is not a number."""
        return self.then("Equal", other, dtype=np.bool_).then("Not")

    def where(self, yes: "Value", no: Operand) -> "Value":
        """Choose between two by this, which marks places."""
        other = no if isinstance(no, Value) else self.graph.constant(no, yes.dtype)
        return self.graph.add("Where", self, yes, other, dtype=yes.dtype)

    def total(self) -> "Value":
        """Return the sum of all elements."""
        return self.then("ReduceSum", keepdims=0)

    def shape(self) -> "Value":
        """Return its sides."""
        return self.then("Shape", dtype=np.int64)

    def flat(self) -> "Value":
        """Return it in one dimension."""
        return self.then("Reshape", self.graph.constant([-1]))

    def part(self, start: "Value", stop: "Value", axes: tuple[int, ...]) -> "Value":
        """Return a part of it, half-open along `axes`."""
        return self.then("Slice", start, stop, self.graph.constant(axes))

    def joined(self, *others: "Value", axis: int) -> "Value":
        """Return it with others behind it along an axis."""
        return self.then("Concat", *others, axis=axis)
