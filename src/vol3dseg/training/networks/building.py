"""The network of a run: the config's U-Net, or one that is brought along, checked."""

import math
from collections.abc import Callable
from typing import Any, Literal

from vol3dseg.config import Config
from vol3dseg.errors import ModelError
from vol3dseg.space.box import Shape
from vol3dseg.training.backend import keras, tf
from vol3dseg.training.growing import stages_of
from vol3dseg.training.memory_estimate import NetworkSize
from vol3dseg.training.networks.deep_supervision import without_supervision
from vol3dseg.training.networks.unet import build_unet, encoder_of
from vol3dseg.training.precision import in_float32

Head = Literal["softmax", "sigmoid"]
# A keras.Model that gives logits, or what makes one of config, input channels and outputs.
Network = Any | Callable[[Config, int, int], Any]


def build_network(config: Config, network: Network | None = None) -> Any:
    """Return the U-Net of `config.model`, or the network that is given, checked; it gives logits.

    A callable takes the config, the number of modalities and that of outputs.
    """
    channels, outputs = len(config.model_recipe.modalities), len(config.targets)
    if network is None:
        deep, levels = config.training.deep_supervision, levels_in_float32(config)
        unet = build_unet(config.model, channels, outputs, deep, levels)
        if config.training.freeze == "encoder":
            for layer in encoder_of(unet):
                layer.trainable = False
        return unet
    _refuse_what_needs_ours(config)
    given = network if isinstance(network, keras.Model) else network(config, channels, outputs)
    require_network(given, channels, outputs, config.recipe.patch_size)
    if activation_of(given) is not None:
        raise ModelError(
            f"network {given.name!r} ends in a {activation_of(given)}",
            expected="logits, which losses and their gradients are exact with",
            remedy="leave out its last activation; probabilities are made afterwards",
        )
    return given


def _refuse_what_needs_ours(config: Config) -> None:
    training = config.training
    if training.deep_supervision:
        raise ModelError(
            "training.deep_supervision is on, and the network is not the config's",
            expected="the U-Net of `model`, whose levels are known",
            remedy="set it to false, or give your network a loss of its own",
        )
    if training.freeze:
        raise ModelError(
            f"training.freeze is {training.freeze}, and the network is not the config's",
            expected="the U-Net of `model`, whose parts are known",
            remedy="set it to null, and `trainable` of your own layers to False",
        )


def levels_in_float32(config: Config) -> frozenset[int]:
    """Return the levels whose convolutions must not be trained in bfloat16.

    Where a kernel is longer along i than what it runs over, oneDNN's gradient of it in bfloat16
    (TensorFlow 2.21) holds memory that nobody has written: huge, not finite, another each time.
    The smallest patch counts. These levels are small, so float32 costs next to nothing.
    """
    side = min(stage.size[0] for stage in stages_of(config))
    found = set()
    for level, kernel in enumerate(config.model.level_kernels):
        if level:
            side //= config.model.level_strides[level - 1][0]
        if side < kernel[0]:
            found.add(level)
    return frozenset(found)


def require_network(model: Any, channels: int, outputs: int, patch_size: Shape) -> None:
    """Check that a model takes images of any size and gives every voxel its outputs."""
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"the network is a {type(model).__name__}",
            expected="a keras.Model",
            remedy="give one, or a callable (config, channels, outputs) that returns one",
        )
    require_one_image(model)
    expected, found = (None, None, None, None, channels), tuple(model.input_shape)
    if found != expected:
        raise ModelError(
            f"network {model.name!r} takes {found}",
            expected=f"{expected}: any batch, any size, {channels} modalities last",
            remedy=f"begin with keras.Input((None, None, None, {channels}))",
        )
    shape = _output_shape(model, patch_size)
    if shape != (*patch_size, outputs):
        raise ModelError(
            f"network {model.name!r} makes {shape} of a patch of {patch_size}",
            expected=f"{(*patch_size, outputs)}, a number for each voxel and class or region",
            remedy="pad its convolutions, and give it one output for each class or region",
        )


def require_one_image(model: Any) -> None:
    """Check that a model has one input and one output."""
    ends = len(model.inputs), len(model.outputs)
    if ends != (1, 1):
        raise ModelError(
            f"network {model.name!r} has {ends[0]} inputs and {ends[1]} outputs",
            expected="one of each",
            remedy="make it a function of one image",
        )


def divisor_of(model: Any, patch_size: Shape) -> Shape:
    """Return what each side of an input must be a multiple of [voxels].

    Tried without computing anything: the smallest part of the patch's side by which it can grow.
    """
    i, j, k = (_step(model, patch_size, axis) for axis in range(3))
    return i, j, k


def _step(model: Any, size: Shape, axis: int) -> int:
    for step in (n for n in range(1, size[axis]) if size[axis] % n == 0):
        i, j, k = (side + step * (place == axis) for place, side in enumerate(size))
        shape = _output_shape(model, (i, j, k))
        if shape is not None and shape[:3] == (i, j, k):
            return step
    return size[axis]


def _output_shape(model: Any, size: Shape) -> tuple[int, ...] | None:
    """Return the shape of the output without its batch; None where the size does not fit.

    Traced by TensorFlow, since Keras' own inference of shapes lets unlike sides be concatenated.
    """
    signature = tf.TensorSpec((1, *size, model.input_shape[-1]), tf.float32)
    try:
        traced = tf.function(lambda image: model(image, training=False)).get_concrete_function(
            signature
        )
    except ValueError:
        return None
    return tuple(traced.structured_outputs.shape[1:])


def activation_of(model: Any) -> str | None:
    """Return "softmax" or "sigmoid" if the last layer of a model ends in one."""
    layer = model.outputs[0]._keras_history.operation
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return name if name in {"softmax", "sigmoid"} else None


def size_of(model: Any, patch_size: Shape) -> NetworkSize:
    """Return what decides how much memory a network takes, from shapes alone."""
    every = keras.Model(model.inputs, [layer.output for layer in model.layers])
    outputs = every.compute_output_spec(keras.KerasTensor((1, *patch_size, model.input_shape[-1])))
    norms = (isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    numbers = sum(math.prod(output.shape) for output in outputs)
    return NetworkSize(numbers, model.count_params(), any(norms))


def probabilities(model: Any, head: Head) -> Callable[[Any], Any]:
    """Return the function from images to probabilities of a model that gives logits, or those.

    A softmax is over outputs that exclude each other, a sigmoid of each by itself. Computed in
    float32, as where it is deployed, with the weights that the model has now.
    """
    model = in_float32(without_supervision(model))
    ends, activate = (
        activation_of(model),
        {"softmax": keras.ops.softmax, "sigmoid": keras.ops.sigmoid},
    )
    if ends not in {None, head}:
        raise ModelError(
            f"network {model.name!r} ends in a {ends}",
            expected=f"logits or a {head}",
            remedy=f"describe its outputs as {ends}, or leave out its last activation",
        )
    if ends == head:
        return lambda image: model(image, training=False)
    return lambda image: activate[head](model(image, training=False))
