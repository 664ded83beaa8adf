"""From a Keras model to an ONNX graph: one convention, no leftovers, checked.

Keras computes by TensorFlow and the graph is tf2onnx's, unless `KERAS_BACKEND` says torch: then it
is that of torch.onnx (`export.through_torch`).
"""

from typing import Any

import onnx

from vol3dseg.errors import ModelError
from vol3dseg.export.instance_norm import drop_unused
from vol3dseg.training.backend import keras
from vol3dseg.training.networks.building import Head, require_one_image
from vol3dseg.training.precision import in_float32

if keras.backend.backend() == "torch":
    from vol3dseg.export.through_torch import EXPORTERS as EXPORTERS
    from vol3dseg.export.through_torch import trace as trace
else:
    from vol3dseg.export.through_tensorflow import EXPORTERS as EXPORTERS
    from vol3dseg.export.through_tensorflow import trace as trace

INPUT = ("image", ("n", "c", "i", "j", "k"))
OUTPUT = ("probabilities", ("n", "class", "i", "j", "k"))
_CHANNEL_AXIS = 1
# A Transpose costs a copy of a whole feature map; a Reshape holds the sizes it was traced with.
_UNWANTED = ("Transpose", "Reshape")


def convert(
    model: Any, patch_size: tuple[int, int, int], head: Head = "softmax"
) -> onnx.ModelProto:
    """Turn a Keras model into an ONNX graph that takes any batch and any fitting size.

    `image` (n, c, i, j, k) in, `probabilities` (n, class, i, j, k) out, both float32; all
    dimensions but channels and classes symbolic; standard operators only, weights inside, no
    metadata yet. `patch_size` is any size that the model takes; `head` makes probabilities of
    logits.
    """
    require_one_image(model)
    model = in_float32(model)
    graph_model: onnx.ModelProto = trace(model, patch_size, head)
    _drop_idle_reshape(graph_model.graph)
    _name_ends(graph_model.graph)
    _forget_origin(graph_model, model.name)
    _check(graph_model)
    return graph_model


def _name_ends(graph: onnx.GraphProto) -> None:
    """Name input and output and their dimensions; tf2onnx says `Identity:0` and `unk__1`."""
    for value, (name, dimensions) in ((graph.input[0], INPUT), (graph.output[0], OUTPUT)):
        _rename(graph, value.name, name)
        value.name = name
        for axis, symbol in enumerate(dimensions):
            if axis != _CHANNEL_AXIS:
                value.type.tensor_type.shape.dim[axis].dim_param = symbol
    # Shapes of what lies between were those of the trace.
    del graph.value_info[:]


def _drop_idle_reshape(graph: onnx.GraphProto) -> None:
    """Remove the Reshape that the two changes of layout leave of an image with one channel.

    Moving an axis of one voxel is a Reshape to tf2onnx, and two of them are one that changes
    nothing but holds the sizes of the trace.
    """
    image = graph.input[0]
    shape = [d.dim_value for d in image.type.tensor_type.shape.dim]
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    for node in list(graph.node):
        if node.op_type != "Reshape" or node.input[0] != image.name:
            continue
        target = constants[node.input[1]].tolist() if node.input[1] in constants else []
        if shape[_CHANNEL_AXIS] == 1 and target[1:] == shape[1:]:
            _rename(graph, node.output[0], image.name)
            graph.node.remove(node)
    drop_unused(graph)  # the shape that it held


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def _forget_origin(model: onnx.ModelProto, name: str) -> None:
    """Drop names of the trace, and foreign operator sets, whose nodes fail the check."""
    model.graph.name, model.graph.doc_string, model.doc_string = name, "", ""
    kept = [opset for opset in model.opset_import if opset.domain in {"", "ai.onnx"}]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    del model.metadata_props[:]


def _check(model: onnx.ModelProto) -> None:
    """Refuse what exporters let pass: tf2onnx returns broken graphs instead of raising."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        detail = " ".join(str(error).split())
        raise ModelError(
            f"the exporter made a graph that is not valid: {detail}",
            expected="standard operators only",
            remedy="keep to layers that it knows",
        ) from error
    kinds = [node.op_type for node in model.graph.node]
    unwanted = [f"{kinds.count(kind)} {kind}" for kind in _UNWANTED if kind in kinds]
    if unwanted:
        raise ModelError(
            f"the graph has {', '.join(unwanted)}",
            expected="none, channels first throughout and no size baked in",
            remedy="of a network of your own, keep to layers that leave axes as they are: "
            "Conv3DTranspose, not UpSampling3D; InstanceNormalization of vol3dseg, not "
            "GroupNormalization. Of ours, reinstall: pip install 'vol3dseg[train]'",
        )
