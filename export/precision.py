"""Spell out the instance norms that onnxruntime's own kernel gets wrong.

The kernel of `InstanceNormalization` on the CPU adds up a channel in float32, one voxel after the
other. Where many voxels are equal, as outside the body, every addition rounds the same way and the
error grows with their number: on patches of 32 x 32 x 32 voxels, half of them background, the
normalised values were off by 3e-4. Means taken axis by axis are right to 1e-6, so a norm that is
off on real patches is written as the arithmetic it stands for, as in
`vol3dseg.training.networks.unet`. The others stay one node each, which is quicker.
"""

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from vol3dseg.export.instance_norm import drop_unused

# Of values with a deviation near 1; over a dozen layers this stays well below 1e-4 in probability.
_LARGEST_ERROR = 1e-5


def spell_out_imprecise_norms(model: onnx.ModelProto, patches: NDArray[np.float32]) -> int:
    """Replace `InstanceNormalization` nodes that are imprecise on real patches by arithmetic.

    Parameters
    ----------
    model : onnx.ModelProto
        As `vol3dseg.export.graph.convert` makes it; changed in place.
    patches : (n, i, j, k, c) array of float32

    Returns
    -------
    int
        How many were replaced.
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
