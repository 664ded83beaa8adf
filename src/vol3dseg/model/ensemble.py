"""Several networks as one: a graph that holds them all and gives the mean of their outputs."""

from collections.abc import Sequence

import onnx

from vol3dseg.errors import ModelError
from vol3dseg.model.onnx_bytes import MOST_BYTES


def average(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Put several graphs into one whose output is the mean of theirs.

    They run one after the other, and their outputs are added up as they come: the new graph takes
    the memory of one of them, all the weights, and one more output. Models have one input and one
    output, the same in all, and no inner graphs; they are left as they are. Without metadata.
    """
    if not models:
        raise ModelError("there are no graphs to average", expected="at least one")
    first = models[0]
    for number, model in enumerate(models[1:], start=2):
        if _interface(model) != _interface(first):
            raise ModelError(
                f"graph {number} of {len(models)} has the interface {_interface(model)}",
                where=model.graph.name,
                expected=f"that of the first, {_interface(first)}",
            )
    size = sum(model.ByteSize() for model in models)
    if size > MOST_BYTES:
        raise ModelError(
            f"{len(models)} networks take {size / 2**20:.0f} MB together",
            where=first.graph.name,
            expected=f"at most {MOST_BYTES / 2**20:.0f} MB, which ONNX can hold in one file",
            remedy="export every fold by itself, with --each",
        )
    (image,), (output,) = first.graph.input, first.graph.output
    nodes, weights, total = [], [], ""
    for number, model in enumerate(models):
        prefix = f"member_{number}/"
        part = onnx.compose.add_prefix(model, prefix).graph
        for node in part.node:
            node.input[:] = [image.name if n == prefix + image.name else n for n in node.input]
        nodes += part.node
        weights += part.initializer
        total, before = prefix + output.name, total
        if before:
            total = f"sum_{number}"
            nodes.append(onnx.helper.make_node("Add", [before, prefix + output.name], [total]))
    share = onnx.helper.make_tensor("share", onnx.TensorProto.FLOAT, [], [1 / len(models)])
    nodes.append(onnx.helper.make_node("Mul", [total, share.name], [output.name]))
    name = f"mean of {len(models)}"
    graph = onnx.helper.make_graph(nodes, name, [image], [output], [*weights, share])
    mean = onnx.helper.make_model(
        graph,
        producer_name="vol3dseg",
        ir_version=first.ir_version,
        opset_imports=first.opset_import,
    )
    onnx.checker.check_model(mean, full_check=True)
    return mean


def _interface(model: onnx.ModelProto) -> str:
    found = []
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        sides = ", ".join(str(d.dim_param or d.dim_value) for d in tensor.shape.dim)
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        found.append(f"{value.name} ({sides}) {kind}")
    opsets = [f"{opset.domain or 'ai.onnx'} {opset.version}" for opset in model.opset_import]
    return ", ".join([*found, *sorted(opsets)])
