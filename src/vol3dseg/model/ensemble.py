"""Several networks as one: a graph of them all, which gives their mean or all that they give."""

from collections.abc import Sequence

import onnx

from vol3dseg.errors import ModelError
from vol3dseg.model.onnx_bytes import MOST_BYTES

_MOST = MOST_BYTES - 2**24  # of networks; a manifest and a case to replay come on top


def average(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Put several graphs into one whose output is the mean of theirs.

    They run one after the other, and their outputs are added up as they come: the new graph takes
    the memory of one of them, all the weights, and one more output. Models have one input and one
    output, the same in all, and no inner graphs; they are left as they are. Without metadata.
    """
    mean, outputs = _together(models, "mean")
    graph, total = mean.graph, outputs[0]
    for number, added in enumerate(outputs[1:], start=1):
        before, total = total, f"sum_{number}"
        graph.node.append(onnx.helper.make_node("Add", [before, added], [total]))
    share = onnx.helper.make_tensor("share", onnx.TensorProto.FLOAT, [], [1 / len(models)])
    graph.initializer.append(share)
    graph.node.append(onnx.helper.make_node("Mul", [total, share.name], [graph.output[0].name]))
    return mean


def side_by_side(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Put several graphs into one that gives the channels of all, one model's after another's.

    As in `average`, but for the memory of all outputs.
    """
    joined, outputs = _together(models, "all")
    (end,) = joined.graph.output
    end.type.tensor_type.shape.dim[1].dim_value *= len(models)
    joined.graph.node.append(onnx.helper.make_node("Concat", outputs, [end.name], axis=1))
    return joined


def tell_apart(mean: onnx.ModelProto, members: int) -> bool:
    """Let a graph of `average` also give what its networks give, behind their mean; in place.

    Returns whether it is a graph of so many networks; else nothing is changed.
    """
    graph, (end,) = mean.graph, mean.graph.output
    outputs = [f"member_{number}/{end.name}" for number in range(members)]
    made = {name: node for node in graph.node for name in node.output}
    if not made.keys() >= {end.name, *outputs} or f"member_{members}/{end.name}" in made:
        return False
    whole = f"mean/{end.name}"
    last = made[end.name]
    last.output[list(last.output).index(end.name)] = whole
    end.type.tensor_type.shape.dim[1].dim_value *= 1 + members
    graph.node.append(onnx.helper.make_node("Concat", [whole, *outputs], [end.name], axis=1))
    return True


def _together(models: Sequence[onnx.ModelProto], what: str) -> tuple[onnx.ModelProto, list[str]]:
    """Return a graph of all models that makes nothing of their outputs yet, and their names."""
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
    if size > _MOST:
        raise ModelError(
            f"{len(models)} networks take {size / 2**20:.0f} MB together",
            where=first.graph.name,
            expected=f"at most {_MOST / 2**20:.0f} MB, which ONNX can hold in one file",
            remedy="take fewer folds (--folds), or export each by itself (--each)",
        )
    (image,), (output,) = first.graph.input, first.graph.output
    joined = onnx.ModelProto(ir_version=first.ir_version, producer_name="vol3dseg")
    joined.opset_import.extend(first.opset_import)
    joined.graph.name = f"{what} of {len(models)}"
    joined.graph.input.append(image)
    joined.graph.output.append(output)
    outputs = []
    for number, model in enumerate(models):
        _add_member(joined.graph, model.graph, f"member_{number}/")
        outputs.append(f"member_{number}/{output.name}")
    return joined, outputs


def _add_member(graph: onnx.GraphProto, member: onnx.GraphProto, prefix: str) -> None:
    """Put a network into a graph, all its names but that of the input with a prefix.

    Weights are copied once and never held twice: there may be two gigabytes of them.
    """
    image = member.input[0].name
    for node in member.node:
        made = graph.node.add()
        made.CopyFrom(node)
        made.name = node.name and prefix + node.name
        made.input[:] = [n if n in ("", image) else prefix + n for n in node.input]
        made.output[:] = [n and prefix + n for n in node.output]
    for tensor in member.initializer:
        weights = graph.initializer.add()
        weights.CopyFrom(tensor)
        weights.name = prefix + tensor.name


def _interface(model: onnx.ModelProto) -> str:
    found = []
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        sides = ", ".join(str(d.dim_param or d.dim_value) for d in tensor.shape.dim)
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        found.append(f"{value.name} ({sides}) {kind}")
    opsets = [f"{opset.domain or 'ai.onnx'} {opset.version}" for opset in model.opset_import]
    return ", ".join([*found, *sorted(opsets)])
