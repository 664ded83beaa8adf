"""One graph from raw intensities to labels, for users without Python.

The network as `vol3dseg.export.graph` converts it, with what `prepare` does and padding before it,
the choice of classes and the way back behind it. Whole volumes go through at once, so it is offered
where that is what `vol3dseg predict` would get as well: outputs that depend on their receptive
field alone.
"""

import numpy as np
import onnx

from vol3dseg.errors import ModelError
from vol3dseg.model.file_check import STANDALONE_KEY, Standalone
from vol3dseg.model.manifest import METADATA_KEY, Manifest
from vol3dseg.preprocessing.prepare import graph_obstacles, write_prepare
from vol3dseg.recipe.cropping import AXES, WrittenBox
from vol3dseg.recipe.graph_values import OPSET, Graph, Value
from vol3dseg.space.box import Shape

OUTPUT = "labels"
LEFT_TO_THE_USER = (
    "the standalone graph does not post-process labels, for ONNX has no operators for components; "
    "what vol3dseg predict does stands in its manifest under postprocessing"
)
_NETWORK, _STEPS = "network/", "standalone/"


def require_standalone(manifest: Manifest, source: str) -> None:
    """Refuse a model, which comes from `source`, that cannot be one graph from scan to labels.

    ModelError: its network looks beyond its receptive field (instance norm), its recipe cannot be
    written into a graph, or a modality's name cannot be that of an input.
    """
    recipe, network = manifest.recipe, manifest.network
    taken = [m for m in recipe.modalities if m == OUTPUT or m.startswith((_NETWORK, _STEPS))]
    reasons = [
        (
            not network.local,
            f"its network ({network.architecture.get('norm', 'unknown')} norm) looks at the whole "
            "of what it is given, and a whole scan is not the patch that it was trained on; train "
            "with model.norm: batch",
        ),
        (bool(taken), f"{taken} cannot be names of inputs; name these modalities otherwise"),
        (
            bool(manifest.tiling.mirror),
            f"its outputs are averages over mirrored axes {list(manifest.tiling.mirror)}, and the "
            "graph runs the network once",
        ),
    ]
    found = [*(text for wrong, text in reasons if wrong), *graph_obstacles(recipe)]
    if found:
        raise ModelError(
            f"cannot be exported with --standalone: {'; '.join(found)}",
            where=source,
            remedy="or export without --standalone and use vol3dseg predict",
        )


def make_standalone(network: onnx.ModelProto, manifest: Manifest) -> onnx.ModelProto:
    """Put everything that must be done before and after a network into its graph.

    The network, which is left as it is, takes `image` (n, c, i, j, k) and gives `probabilities` (n,
    class, i, j, k). The result takes raw intensities in axes closest to RAS, (i, j, k) float32 of
    any size under the name of each modality, and gives `labels` (i, j, k) uint8, in the values to
    write. Its metadata hold the manifest and how the graph is called. ModelError: the model cannot
    be standalone (`require_standalone`), or is of another opset.
    """
    require_standalone(manifest, network.graph.name)
    opsets = {opset.domain or "ai.onnx": opset.version for opset in network.opset_import}
    if opsets != {"ai.onnx": OPSET}:
        raise ModelError(
            f"uses the operator sets {opsets}",
            where=network.graph.name,
            expected=f"ai.onnx {OPSET}, which the steps round the network are written in",
            remedy="export without --standalone",
        )
    inner = onnx.compose.add_prefix(network, _NETWORK).graph
    graph, recipe = Graph(_STEPS), manifest.recipe
    image, box = write_prepare(graph, recipe)
    sides = _pad(image, manifest.network.divisor, inner.input[0].name)
    graph.nodes.extend(inner.node)
    probabilities = graph.input(inner.output[0].name, np.float32)
    inside = _cropped(manifest.outputs.write_decide(probabilities, manifest.labels), sides)
    whole = graph.input(recipe.modalities[0], np.float32)
    _write_labels(inside, box, whole, [label.write for label in manifest.labels.classes])
    made = onnx.helper.make_graph(
        graph.nodes,
        f"{network.graph.name}-standalone",
        [_end(name, onnx.TensorProto.FLOAT) for name in recipe.modalities],
        [_end(OUTPUT, onnx.TensorProto.UINT8)],
        [*inner.initializer, *graph.constants],
    )
    return _complete(made, network.ir_version, manifest)


def _pad(image: Value, divisor: Shape, name: str) -> Value:
    """Append padding to multiples of the divisor, as `name`; returns the (3,) sides before it."""
    graph = image.graph
    sides = image.shape().part(graph.constant([2]), graph.constant([5]), (0,))
    missing = (0 - sides) % graph.constant(divisor)
    image.then("Pad", graph.constant([0] * 7).joined(missing, axis=0), 0, name=name)
    return sides


def _cropped(classes: Value, sides: Value) -> Value:
    """Return (1, i, j, k) indices as (i, j, k), without padding."""
    graph = classes.graph
    one = classes.then("Squeeze", graph.constant([0]))
    return one.part(graph.constant([0, 0, 0]), sides, AXES)


def _write_labels(classes: Value, box: WrittenBox, whole: Value, values: list[int]) -> None:
    """Append `OUTPUT` in the size of `whole`: 0 outside the box and for a scan of zeros."""
    graph = classes.graph
    table = box.found.differs(0).where(graph.constant(values, np.uint8), 0)
    pads = box.start.joined(whole.shape() - box.stop, axis=0)
    table.then("Gather", classes).then("Pad", pads, 0, name=OUTPUT)


def _end(name: str, kind: int) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, kind, ("i", "j", "k"))


def _complete(graph: onnx.GraphProto, ir_version: int, manifest: Manifest) -> onnx.ModelProto:
    """Let the graph say what it is, in metadata for programs and in words for viewers of graphs."""
    call = Standalone(
        inputs=manifest.recipe.modalities,
        axes=manifest.recipe.orientation,
        output=OUTPUT,
        values={label.name: label.write for label in manifest.labels.classes},
    )
    for value in graph.input:
        value.doc_string = f"raw intensities of {value.name}, axes i, j, k closest to {call.axes}"
    graph.output[0].doc_string = ", ".join(f"{v} = {n}" for n, v in call.values.items())
    model = onnx.helper.make_model(
        graph,
        producer_name="vol3dseg",
        ir_version=ir_version,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    facts = {METADATA_KEY: manifest.model_dump_json(), STANDALONE_KEY: call.model_dump_json()}
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    return model
