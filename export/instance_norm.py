"""Instance norms on their way to ONNX: one node each, or arithmetic where that is imprecise.

tf2onnx would write the layer `vol3dseg.training.networks.norms.InstanceNormalization` as a dozen
small nodes, many of which read and write the whole feature map. One node for all of it is quicker
and is what other runtimes recognise. So while the model is traced, each such layer passes its input
through an operator with a name of ours instead, in whose place an `InstanceNormalization` node is
put, with the layer's scale and shift.

onnxruntime's kernel of that node on the CPU adds up a channel in float32, one voxel after the
other. Where many voxels are equal, as outside the body, every addition rounds the same way and the
error grows with their number: on patches of 32 x 32 x 32 voxels, half of them background, the
normalised values were off by 3e-4. Means taken axis by axis, as the layer does, are right to 1e-6,
so a norm that is off on real patches is spelled out as the arithmetic that it stands for.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vol3dseg.errors import ModelError
from vol3dseg.extras import load_extra
from vol3dseg.training.backend import tf
from vol3dseg.training.networks.norms import InstanceNormalization

onnxruntime = load_extra("onnxruntime", "cpu")

_MARK = re.compile(r"vol3dseg_instance_norm_(\d+)$")
# Of values with a deviation near 1; over a dozen layers this stays well below 1e-4 in probability.
_LARGEST_ERROR = 1e-5


@contextmanager
def marked_instance_norms(model: Any) -> Iterator[list[Any]]:
    """Let instance norms leave a mark in what is traced, in place of their arithmetic.

    Yields a list that is filled while the model is called: the layer of each mark, by its number.
    """
    marked: list[Any] = []

    def mark_of(layer: Any) -> Any:
        def mark(inputs: Any, training: bool | None = None) -> Any:
            marked.append(layer)
            # Any operator does that changes no layout and that tf2onnx keeps as a single node.
            return tf.raw_ops.Erf(x=inputs, name=f"vol3dseg_instance_norm_{len(marked) - 1}")

        return mark

    parts: list[Any] = model._flatten_layers()
    norms = [part for part in parts if isinstance(part, InstanceNormalization)]
    for norm in norms:
        setattr(norm, "call", mark_of(norm))  # noqa: B010 - on this object alone
    try:
        yield marked
    finally:
        for norm in norms:
            delattr(norm, "call")


def fuse_instance_norms(graph: onnx.GraphProto, marked: list[Any]) -> None:
    """Replace the marks by `InstanceNormalization` nodes, in place, in a channels-first graph."""
    left = dict(enumerate(marked))
    for node in graph.node:
        mark = _MARK.search(node.name)
        if mark is not None:
            _replace(graph, node, left.pop(int(mark[1])), f"instance_norm_{mark[1]}")
    if left:
        raise ModelError(
            f"instance norm: {len(marked) - len(left)} of {len(marked)} layers became one node",
            expected="all of them",
            remedy="this tf2onnx does not keep what it is given; reinstall: "
            "pip install 'vol3dseg[train]'",
        )


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, layer: Any, name: str) -> None:
    constants = {f"{name}.scale": layer.scale, f"{name}.shift": layer.shift}
    for key, weight in constants.items():
        values = weight.numpy().astype(np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(values, key))
    inputs, output = [node.input[0], *constants], node.output[0]
    node.CopyFrom(
        onnx.helper.make_node(
            "InstanceNormalization", inputs, [output], name=name, epsilon=layer.epsilon
        )
    )


def spell_out_imprecise_norms(model: onnx.ModelProto, patches: NDArray[np.float32]) -> int:
    """Replace `InstanceNormalization` nodes that are imprecise on real patches by arithmetic.

    Patches are (n, i, j, k, c). The model is changed in place; returns how many were replaced.
    """
    graph = model.graph
    errors = _errors(model, patches)
    nodes = list(graph.node)
    del graph.node[:]
    for number, node in enumerate(nodes):
        if errors.get(node.output[0], 0.0) > _LARGEST_ERROR:
            graph.node.extend(_arithmetic(graph, node, f"norm_{number}"))
        else:
            graph.node.append(node)
    drop_unused(graph)  # scales and shifts of the nodes that are gone
    return sum(error > _LARGEST_ERROR for error in errors.values())


def _errors(model: onnx.ModelProto, patches: NDArray[np.float32]) -> dict[str, float]:
    """Return for each norm, by its output, the largest difference to float64 over all patches."""
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    if not norms:
        return {}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(dict.fromkeys(name for n in norms for name in (n.input[0], n.output[0])))
    for name in names:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        watched.graph.output.append(value)
    content, providers = watched.SerializeToString(), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(content, providers=providers)
    errors = {node.output[0]: 0.0 for node in norms}
    for patch in patches:
        image = np.ascontiguousarray(np.moveaxis(patch, -1, 0)[None])
        values = dict(zip(names, session.run(names, {"image": image}), strict=True))
        for node in norms:
            scale, shift = (constants[name] for name in node.input[1:3])
            exact = _exact(values[node.input[0]], scale, shift, _epsilon(node))
            error = float(np.abs(values[node.output[0]] - exact).max())
            errors[node.output[0]] = max(errors[node.output[0]], error)
    return errors


def _exact(
    values: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    epsilon: float,
) -> NDArray[np.float64]:
    """Normalise an (n, c, i, j, k) array in float64."""
    wide = values.astype(np.float64)
    mean = wide.mean(axis=(2, 3, 4), keepdims=True)
    variance = wide.var(axis=(2, 3, 4), keepdims=True)
    factor = scale.reshape(-1, 1, 1, 1) / np.sqrt(variance + epsilon)
    return np.asarray((wide - mean) * factor + shift.reshape(-1, 1, 1, 1))


def _epsilon(node: onnx.NodeProto) -> float:
    return next((float(a.f) for a in node.attribute if a.name == "epsilon"), 1e-5)


def _arithmetic(
    graph: onnx.GraphProto, node: onnx.NodeProto, prefix: str
) -> Iterator[onnx.NodeProto]:
    """Yield nodes that compute what `node` does; adds their constants to `graph`."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    column = (1, -1, 1, 1, 1)
    added = {
        f"{prefix}_scale": constants[node.input[1]].reshape(column),
        f"{prefix}_shift": constants[node.input[2]].reshape(column),
        f"{prefix}_epsilon": np.array([_epsilon(node)], dtype=np.float32),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in added.items())
    scale, shift, epsilon = added

    def step(kind: str, inputs: list[str], name: str) -> onnx.NodeProto:
        return onnx.helper.make_node(kind, inputs, [name], name=name)

    def mean(source: str, name: str) -> Iterator[onnx.NodeProto]:
        for axis in (4, 3, 2):
            result = f"{name}_{axis}"
            yield onnx.helper.make_node(
                "ReduceMean", [source], [result], name=result, axes=[axis], keepdims=1
            )
            source = result

    part = {p: f"{prefix}_{p}" for p in ("off", "square", "sum", "std", "f", "z")}
    yield from mean(node.input[0], f"{prefix}_mean")
    yield step("Sub", [node.input[0], f"{prefix}_mean_2"], part["off"])
    yield step("Mul", [part["off"], part["off"]], part["square"])
    yield from mean(part["square"], f"{prefix}_variance")
    yield step("Add", [f"{prefix}_variance_2", epsilon], part["sum"])
    yield step("Sqrt", [part["sum"]], part["std"])
    yield step("Div", [scale, part["std"]], part["f"])
    yield step("Mul", [part["off"], part["f"]], part["z"])
    yield step("Add", [part["z"], shift], node.output[0])


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
