"""One graph from raw intensities to labels, for users without Python.

The network as `vol3dseg.export.graph` converts it, with crop, normalisation and padding before it,
argmax and the way back behind it. Whole volumes go through at once, so it is offered where that is
what `vol3dseg predict` would get as well: outputs that depend on their receptive field alone.
"""

import onnx

from vol3dseg.errors import ModelError
from vol3dseg.export.graph_builder import GraphBuilder
from vol3dseg.export.standalone_steps import OUTPUT, crop_box, labels, pad_at_end, prepare
from vol3dseg.model.manifest import METADATA_KEY, Manifest
from vol3dseg.model.model_file import STANDALONE_KEY, Standalone

_SIDES = ("i", "j", "k")
# The opset of `vol3dseg.export.graph`, whose operators the steps are written in.
_OPSET = 17
_NETWORK, _STEPS = "network/", "standalone/"


def require_standalone(manifest: Manifest, source: str) -> None:
    """Refuse a model that cannot be one graph from raw intensities to labels.

    Parameters
    ----------
    manifest : Manifest
    source : str
        Where the model comes from, for the message.

    Raises
    ------
    ModelError
        Its network looks beyond its receptive field (instance norm), its recipe resamples or
        corrects bias fields, or a modality's name cannot be that of an input.
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
        (
            recipe.spacing_mm is not None,
            f"its recipe resamples to {recipe.spacing_mm} mm; prepare and train with "
            "recipe.spacing_mm: null",
        ),
        (
            recipe.bias_correction is not None,
            "its recipe corrects bias fields, which ONNX has no operators for; prepare and train "
            "with recipe.bias_correction: null",
        ),
        (bool(taken), f"{taken} cannot be names of inputs; name these modalities otherwise"),
        (
            manifest.outputs.kind != "softmax",
            f"its outputs are {manifest.outputs.kind}s of regions, and the graph takes the most "
            "probable class",
        ),
        (
            bool(manifest.tiling.mirror),
            f"its outputs are averages over mirrored axes {list(manifest.tiling.mirror)}, and the "
            "graph runs the network once",
        ),
    ]
    found = [text for wrong, text in reasons if wrong]
    if found:
        raise ModelError(
            f"{source}: cannot be exported with --standalone: {'; '.join(found)}; or export without"
            " --standalone and use vol3dseg predict"
        )


def make_standalone(network: onnx.ModelProto, manifest: Manifest) -> onnx.ModelProto:
    """Put everything that must be done before and after a network into its graph.

    Parameters
    ----------
    network : onnx.ModelProto
        `image` (n, c, i, j, k) in, `probabilities` (n, class, i, j, k) out. It is left as it is.
    manifest : Manifest

    Returns
    -------
    onnx.ModelProto
        One (i, j, k) float32 input for each modality, under its name: raw intensities in axes
        closest to RAS. `labels` (i, j, k) uint8 out, in the values to write. Any size will do. The
        metadata hold the manifest and how the graph is called.

    Raises
    ------
    ModelError
        The model cannot be standalone (`require_standalone`), or its opset is not 17.
    """
    require_standalone(manifest, network.graph.name)
    opsets = {opset.domain or "ai.onnx": opset.version for opset in network.opset_import}
    if opsets != {"ai.onnx": _OPSET}:
        raise ModelError(
            f"{network.graph.name}: uses the operator sets {opsets}; expected ai.onnx {_OPSET}, "
            "which the steps round the network are written in; export without --standalone"
        )
    inner = onnx.compose.add_prefix(network, _NETWORK).graph
    build = GraphBuilder(_STEPS)
    recipe, classes = manifest.recipe, manifest.labels.classes
    box = crop_box(build, recipe)
    image = prepare(build, recipe, box)
    sides = pad_at_end(build, image, manifest.network.divisor, inner.input[0].name)
    build.nodes.extend(inner.node)
    values = tuple(label.write for label in classes)
    labels(build, inner.output[0].name, sides, box, recipe.modalities[0], values)
    graph = onnx.helper.make_graph(
        build.nodes,
        f"{network.graph.name}-standalone",
        [_end(name, onnx.TensorProto.FLOAT) for name in recipe.modalities],
        [_end(OUTPUT, onnx.TensorProto.UINT8)],
        [*inner.initializer, *build.constants],
    )
    return _complete(graph, network.ir_version, manifest)


def _end(name: str, kind: int) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, kind, _SIDES)


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
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
    )
    facts = {METADATA_KEY: manifest.model_dump_json(), STANDALONE_KEY: call.model_dump_json()}
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    return model
