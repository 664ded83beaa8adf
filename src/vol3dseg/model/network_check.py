"""Whether a graph is the network that its manifest describes, before a runtime sees it.

Everything that a predictor relies on is looked at here, and sized before anything of that size is
made: a file of a kilobyte can ask for all memory, and a hundred nodes for a week.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import onnx

from vol3dseg.errors import ModelError
from vol3dseg.model.graph_sizes import Unfit, sizes_of
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.operators import (
    OPERATORS,
    STEPS,
    UNBOUNDED,
    quoted,
    unknown_operators,
    wrong_attributes,
)

OLDEST_OPSET = 13  # before it, Softmax was over all axes behind the one that it names
MOST_NODES = 4000  # which OpenVINO takes half a minute to lay out; time grows with their square
MOST_NUMBERS = 2**18  # for each voxel of the input, of all that layers make
MOST_MULTIPLICATIONS = 10**8  # for each voxel: ten of the largest networks in one
_MOST_OF_WEIGHTS = 8  # times their number, of what layers make of weights alone
_SPARE = 2**18
_SIDES = (3, 5, 7)  # of an input that is tried, in units of the divisor: no two have a factor
_LARGEST = 2**23  # voxels of the smallest input
_FLOAT = onnx.TensorProto.FLOAT
_KINDS = {  # of weights, and the field that holds them unless they are raw
    _FLOAT: ("<f4", "float_data"),
    onnx.TensorProto.INT64: ("<i8", "int64_data"),
    onnx.TensorProto.INT32: ("<i4", "int32_data"),
    onnx.TensorProto.INT8: ("i1", "int32_data"),
    onnx.TensorProto.UINT8: ("u1", "int32_data"),
    onnx.TensorProto.BOOL: ("?", "int32_data"),
}


def require_known_steps(model: onnx.ModelProto, path: str | Path) -> None:
    """Refuse a standalone graph with operators that none of ours has; it is not run here."""
    unknown = unknown_operators(model, OPERATORS.keys() | STEPS)
    if unknown:
        raise ModelError(
            f"uses the operators {unknown}", where=path, expected="what vol3dseg export-onnx writes"
        )


def require_sound_network(model: onnx.ModelProto, manifest: Manifest, path: str | Path) -> None:
    """Refuse a graph that a predictor cannot rely on, or that takes more than any network needs.

    Raises
    ------
    ModelError
    """
    for fault in network_faults(model, manifest, path):
        raise fault


def network_faults(
    model: onnx.ModelProto, manifest: Manifest | None, path: str | Path
) -> Iterator[ModelError]:
    """Give all for which a network is refused; without a manifest, what can be told without one.

    Sizes are found of what is sound otherwise, of nothing else.
    """
    given = () if manifest is None else _end_faults(model, manifest)
    sound = True
    for unfit in chain(_operator_faults(model), _weight_faults(model.graph), given):
        sound = False
        yield _refusal(unfit, path)
    if sound and manifest is not None:
        yield from (_refusal(unfit, path) for unfit in _size_faults(model, manifest))


def _refusal(unfit: Unfit, path: str | Path) -> ModelError:
    return ModelError(unfit.found, where=path, expected=unfit.expected, remedy="export it again")


def _operator_faults(model: onnx.ModelProto) -> Iterator[Unfit]:
    graph, expected = model.graph, "layers of a segmentation network (docs/security.md)"
    unknown = unknown_operators(model, OPERATORS)
    if unknown:
        yield Unfit(f"uses the operators {unknown}", expected)
    if len(graph.node) > MOST_NODES:
        yield Unfit(f"has {len(graph.node)} nodes", f"at most {MOST_NODES}")
    for node in graph.node:
        wrong = wrong_attributes(node) if node.op_type in OPERATORS else []
        if wrong:
            yield Unfit(f"{node.op_type} {quoted(node.name)} has an unfit {wrong[0]}", expected)
    if model.functions or model.training_info or graph.sparse_initializer:
        yield Unfit("has functions, training steps or sparse weights", "a graph of plain layers")
    versions = [opset.version for opset in model.opset_import]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        yield Unfit(
            f"is written in the operator sets {versions}", f"one of {OLDEST_OPSET} to {newest}"
        )


def _weight_faults(graph: onnx.GraphProto) -> Iterator[Unfit]:
    for tensor in graph.initializer:
        if tensor.data_type not in _KINDS or any(n < 0 for n in tensor.dims):
            yield Unfit(f"weights {quoted(tensor.name)} are of an unknown type or size", "numbers")
            continue
        dtype, field = _KINDS[tensor.data_type]
        typed, count = getattr(tensor, field), math.prod(tensor.dims)
        held = sorted((len(tensor.raw_data) / np.dtype(dtype).itemsize, len(typed)))
        if held != [0, count]:
            yield Unfit(
                f"weights {quoted(tensor.name)} of {list(tensor.dims)} hold {sum(held):g} numbers",
                f"{count}",
            )
            continue
        values = np.frombuffer(tensor.raw_data, dtype) if tensor.raw_data else np.array(typed)
        if tensor.data_type == _FLOAT and not np.isfinite(values).all():
            yield Unfit(f"weights {quoted(tensor.name)} are not finite", "numbers")


def _end_faults(model: onnx.ModelProto, manifest: Manifest) -> Iterator[Unfit]:
    """Give other names, axes, channels or types of input and output."""
    found = f"{_described(model.graph.input)} to {_described(model.graph.output)}"
    channels, outputs = len(manifest.recipe.modalities), manifest.outputs
    given = manifest.tiling.graph_channels(outputs.channels)
    expected = f"{_end('image', channels)} to {_end(outputs.values, given)}"
    if found != expected:
        yield Unfit(f"goes from {found}", f"from {expected}, as its manifest says")
    far = sorted({node.op_type for node in model.graph.node} & UNBOUNDED)
    if far and manifest.network.local:
        yield Unfit(
            f"has {', '.join(far)}, which look at all of a tile",
            "outputs that depend on their receptive field alone, as its manifest says",
        )


def _described(ends: Sequence[onnx.ValueInfoProto]) -> str:
    return ", ".join(map(_found_end, ends)) or "nothing"


def _found_end(end: onnx.ValueInfoProto) -> str:
    tensor = end.type.tensor_type
    name, dims = quoted(end.name)[1:-1], [each.dim_value for each in tensor.shape.dim]
    if len(dims) != 5:
        return f"{name} of {len(dims)} axes"
    kind = "float32" if tensor.elem_type == _FLOAT else f"type {tensor.elem_type}"
    batch, channels, *sides = dims
    return _end(name, channels, sides if any(sides) else "any", kind, batch)


def _end(
    name: str, channels: int, sides: object = "any", kind: str = "float32", batch: int = 0
) -> str:
    one_size = "" if batch < 2 else f", {batch} at a time"
    return f"{name} ({channels} channels, {sides} voxels, {kind}{one_size})"


def _size_faults(model: onnx.ModelProto, manifest: Manifest) -> Iterator[Unfit]:
    """Give an output that is not as large as its input, and layers that are too large."""
    smallest = manifest.network.divisor
    if math.prod(smallest) > _LARGEST:
        yield Unfit(f"takes no less than {smallest} voxels", f"at most {_LARGEST} of them")
        return
    sides = tuple(n * side for n, side in zip(_SIDES, smallest, strict=True))
    image = (1, len(manifest.recipe.modalities), *sides)
    wanted = (1, manifest.tiling.graph_channels(manifest.outputs.channels), *sides)
    try:
        found = sizes_of(model, image)
    except Unfit as unfit:
        yield unfit
        return
    if found.output != wanted:
        yield Unfit(f"makes {found.output} of {image} voxels", f"{wanted}, as its manifest says")
    brought = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    if found.of_weights > _MOST_OF_WEIGHTS * brought + _SPARE:
        yield Unfit(f"makes {found.of_weights} numbers of {brought} weights", "layers of an image")
    voxels = math.prod(sides)
    numbers, work = found.of_image // voxels, found.multiplications // voxels
    if numbers > MOST_NUMBERS or work > MOST_MULTIPLICATIONS:
        yield Unfit(
            f"makes {numbers} numbers by {work} multiplications for each voxel",
            f"at most {MOST_NUMBERS} by {MOST_MULTIPLICATIONS}",
        )
