"""A Keras model as tf2onnx writes it, channels first."""

from typing import Any

import onnx

from vol3dseg.export.instance_norm import fuse_instance_norms, marked_instance_norms
from vol3dseg.extras import load_extra
from vol3dseg.recipe.graph_values import OPSET
from vol3dseg.training.backend import tf
from vol3dseg.training.networks.building import Head, probabilities

tf2onnx = load_extra("tf2onnx", "train")

EXPORTERS = ("tensorflow", "tf2onnx")  # named in the manifest


def trace(model: Any, patch_size: tuple[int, int, int], head: Head) -> onnx.ModelProto:
    """Convert with fixed sides, from (n, c, i, j, k) images to probabilities in the same layout.

    With symbolic sides tf2onnx puts some fifty nodes of shape arithmetic round each transposed
    convolution. No operator of the network needs to know a side, so they are fixed here and
    made symbolic afterwards. They are twice the patch: a level of a single voxel would
    be simplified in ways that hold for a single voxel only.

    tf2onnx keeps the layout of its input and knows no other option for five axes, so the
    network is wrapped into two changes of layout; its optimiser cancels them against its own.
    """
    sides = tuple(2 * side for side in patch_size)
    signature = tf.TensorSpec((None, model.input_shape[-1], *sides), tf.float32, name="image")
    network = probabilities(model, head)

    def channels_first(image: Any) -> Any:
        return tf.transpose(network(tf.transpose(image, (0, 2, 3, 4, 1))), (0, 4, 1, 2, 3))

    with marked_instance_norms(model) as norms:
        traced = tf.function(channels_first, input_signature=[signature])
        made: onnx.ModelProto
        made, _ = tf2onnx.convert.from_function(traced, [signature], opset=OPSET)
    fuse_instance_norms(made.graph, norms)
    return made
