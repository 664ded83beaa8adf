"""Write an ONNX graph node by node, without inventing a name for every value."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike


class GraphBuilder:
    """Collects nodes and constants; a value is known by its name, a str.

    Parameters
    ----------
    prefix : str
        What every name begins with that is not given, so that it is not one of the network's.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(
        self,
        kind: str,
        *inputs: str,
        name: str = "",
        output: str = "",
        unused: int = 0,
        **facts: Any,
    ) -> str:
        """Append a node of the standard operators and return the name of its first output.

        Parameters
        ----------
        kind : str
            The operator.
        *inputs : str
            Names of values.
        name : str
            Of the node, for messages of the runtime.
        output : str
            Name of the result, if it must have a certain one.
        unused : int
            Outputs after the first, which the operator demands and nobody reads.
        **facts
            Attributes of the operator.
        """
        name = name or f"{self.prefix}{kind}_{len(self.nodes)}"
        output = output or name
        outputs = [output, *(f"{output}_unused_{n}" for n in range(unused))]
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), outputs, name=name, **facts))
        return output

    def constant(self, value: ArrayLike, dtype: DTypeLike) -> str:
        """Append a constant and return its name."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Append a list of int64, as operators want axes and sizes."""
        return self.constant(values, np.int64)
