"""The network: a 3-D U-Net, and how far one of its outputs can see.

The shape is that of Çiçek et al., "3D U-Net: learning dense volumetric segmentation from sparse
annotation", MICCAI 2016, with the padded convolutions and leaky rectifiers of later years.
"""

from collections.abc import Sequence
from typing import Any

from vol3dseg.config import ModelConfig
from vol3dseg.training.backend import keras

EPSILON = 1e-5
# Keras' default of 0.99 needs some 500 steps to forget its start; an epoch has a few dozen.
_MOMENTUM = 0.9
_SLOPE = 0.01
# Said at every layer, since ~/.keras/keras.json may set another default and tf2onnx needs this one.
_FORMAT = "channels_last"
_CONVOLUTIONS = 2


@keras.saving.register_keras_serializable(package="vol3dseg")
class InstanceNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Give every channel of every sample mean 0 and variance 1, then scale and shift it.

    Ulyanov et al., "Instance normalization: the missing ingredient for fast stylization", 2016.
    ``keras.layers.GroupNormalization(groups=-1)`` computes the same by way of reshapes, which make
    some twenty nodes and two transposes of each layer in ONNX. `epsilon` is added to the variance;
    a constant channel comes out as its shift.
    """

    def __init__(self, epsilon: float = EPSILON, **options: Any) -> None:
        super().__init__(**options)
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make scale and shift, one number for each channel."""
        shape = (input_shape[-1],)
        self.scale = self.add_weight(
            shape=shape, initializer="ones", name="scale", dtype="float32", autocast=False
        )
        self.shift = self.add_weight(
            shape=shape, initializer="zeros", name="shift", dtype="float32", autocast=False
        )

    def call(self, inputs: Any) -> Any:
        """Normalise a (n, i, j, k, c) tensor; statistics in float32 whatever the policy."""
        values = keras.ops.cast(inputs, "float32")
        centred = values - _mean(values)
        # Squares of differences, not the difference of squares, which cancels badly in float32.
        variance = _mean(keras.ops.square(centred))
        normal = centred * keras.ops.rsqrt(variance + self.epsilon)
        return keras.ops.cast(normal * self.scale + self.shift, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what a saved model needs to make the layer again."""
        return {**super().get_config(), "epsilon": self.epsilon}


def _mean(values: Any) -> Any:
    """Return the (n, 1, 1, 1, c) mean of each channel, one axis after the other.

    TensorFlow adds up all axes at once in one float32 sum a channel, which is wrong by 1 % for a
    channel of 96 x 96 x 96 voxels most of which are equal, as outside the body: every addition then
    rounds the same way. The short sums along one axis are right to 1e-6.
    """
    for axis in (3, 2, 1):
        values = keras.ops.mean(values, axis=axis, keepdims=True)
    return values


def build_unet(config: ModelConfig, channels: int, classes: int) -> Any:
    """Build an untrained, uncompiled network for `classes` outputs, background included.

    (n, i, j, k, c) float32 in, (n, i, j, k, class) float32 logits out; i, j and k must be multiples
    of `config.divisor`.
    """
    image = keras.Input((None, None, None, channels), name="image")
    x, skips = image, []
    for level in range(config.depth):
        x = _block(x, config, level, "encoder")
        skips.append(x)
        stride = config.level_strides[level]
        x = keras.layers.MaxPooling3D(stride, data_format=_FORMAT, name=f"pool_{level}")(x)
    x = _block(x, config, config.depth, "bottom")
    if config.dropout > 0:
        dropout = keras.layers.SpatialDropout3D(config.dropout, data_format=_FORMAT, name="dropout")
        x = dropout(x)
    for level in reversed(range(config.depth)):
        up = keras.layers.Conv3DTranspose(
            config.widths[level],
            config.level_strides[level],
            strides=config.level_strides[level],
            data_format=_FORMAT,
            use_bias=False,  # a constant that the next norm takes away, and one more node in ONNX
            name=f"up_{level}",
        )
        x = keras.layers.Concatenate(name=f"skip_{level}")([skips[level], up(x)])
        x = _block(x, config, level, "decoder")
    # In float32 under every policy: logits in float16 have three digits.
    head = keras.layers.Conv3D(classes, 1, data_format=_FORMAT, dtype="float32", name="head")
    return keras.Model(image, head(x), name="unet")


def receptive_field_radius(config: ModelConfig) -> tuple[int, int, int]:
    """Return how far from an output voxel an input voxel can lie that it depends on [voxels].

    Follows the interval [low, high] of voxels that output voxel x depends on, from the output back
    to the input, along each axis by itself:

    - a convolution of width 3 widens it by 1 on either side, so a block by 2;
    - a transposed convolution of kernel and stride s makes voxel v of voxel floor(v / s), so the
      interval becomes [floor(low / s), floor(high / s)] one level down;
    - pooling makes voxel v of voxels s v to s v + s - 1: [s low, s high + s - 1] one level up;
    - a skip connection sees a part of what the way through the bottom sees.

    Rounding makes the result depend on x modulo the divisor, so every alignment is tried and the
    worst counts. With strides of 2 throughout the blocks alone reach 6 * 2**depth - 4 voxels and
    rounding adds 2**depth - 1, which makes 7 * 2**depth - 5: 9 for depth 1, 23 for depth 2, 107 for
    depth 4. Batch norm and dropout reach no further at inference. With instance norm every voxel of
    the input bears on every output by way of its statistics; the radius then says how far the
    convolutions alone reach.
    """
    i, j, k = (
        max(_reach(voxel, strides) for voxel in range(divisor))
        for divisor, strides in zip(
            config.divisor, zip(*config.level_strides, strict=True), strict=True
        )
    )
    return i, j, k


def _reach(voxel: int, strides: Sequence[int]) -> int:
    low = high = voxel
    for stride in strides:
        low, high = (low - _CONVOLUTIONS) // stride, (high + _CONVOLUTIONS) // stride
    low, high = low - _CONVOLUTIONS, high + _CONVOLUTIONS
    for stride in reversed(strides):
        low = stride * low - _CONVOLUTIONS
        high = stride * high + stride - 1 + _CONVOLUTIONS
    return max(voxel - low, high - voxel)


def _block(x: Any, config: ModelConfig, level: int, part: str) -> Any:
    """Append convolutions of one level, each with its norm and rectifier."""
    for number in range(1, _CONVOLUTIONS + 1):
        name = f"{part}_{level}_{number}"
        x = keras.layers.Conv3D(
            config.widths[level],
            3,
            padding="same",
            data_format=_FORMAT,
            use_bias=False,  # the norm would take it away and add its own
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)
        x = _norm(config, f"{name}_norm")(x)
        x = keras.layers.LeakyReLU(_SLOPE, name=f"{name}_leaky")(x)
    return x


def _norm(config: ModelConfig, name: str) -> Any:
    if config.norm == "batch":
        return keras.layers.BatchNormalization(momentum=_MOMENTUM, epsilon=EPSILON, name=name)
    return InstanceNormalization(name=name)
