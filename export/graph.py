"""From a Keras model to an ONNX graph: one convention, no leftovers, checked."""

from typing import Any

import onnx

from vol3dseg.errors import ModelError
from vol3dseg.export.instance_norm import drop_unused, fuse_instance_norms, marked_instance_norms
from vol3dseg.extras import load_extra
from vol3dseg.recipe.graph_values import OPSET
from vol3dseg.training.backend import tf
from vol3dseg.training.networks.building import Head, probabilities, require_one_image

tf2onnx = load_extra("tf2onnx", "train")

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
    with marked_instance_norms(model) as norms:
        graph_model = _trace(model, patch_size, head)
    _drop_idle_reshape(graph_model.graph)
    _name_ends(graph_model.graph)
    fuse_instance_norms(graph_model.graph, norms)
    _forget_origin(graph_model, model.name)
    _check(graph_model)
    return graph_model


def _trace(model: Any, patch_size: tuple[int, int, int], head: Head) -> onnx.ModelProto:
    """Convert with fixed sides.

    With symbolic sides tf2onnx puts some fifty nodes of shape arithmetic round each transposed
    convolution. No operator of the network needs to know a side, so they are fixed here and
    made symbolic afterwards. They are twice the patch: a level of a single voxel would
    be simplified in ways that hold for a single voxel only.

    tf2onnx keeps the layout of its input and knows no other option for five axes, so the
    network is wrapped into two changes of layout; its optimiser cancels them against its own.
    """
    sides = tuple(2 * side for side in patch_size)
    signature = tf.TensorSpec((None, model.input_shape[-1], *sides), tf.float32, name=INPUT[0])
    network = probabilities(model, head)

    def channels_first(image: Any) -> Any:
        return tf.transpose(network(tf.transpose(image, (0, 2, 3, 4, 1))), (0, 4, 1, 2, 3))

    traced = tf.function(channels_first, input_signature=[signature])
    graph_model: onnx.ModelProto
    graph_model, _ = tf2onnx.convert.from_function(traced, [signature], opset=OPSET)
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
    """Refuse what tf2onnx lets pass: it returns broken graphs instead of raising."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        detail = " ".join(str(error).split())
        raise ModelError(
            f"tf2onnx made a graph that is not valid: {detail}",
            expected="standard operators only",
            remedy="keep to layers that tf2onnx knows",
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
