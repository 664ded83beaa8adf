"""The network: a 3-D U-Net.

The shape is that of Çiçek et al., "3D U-Net: learning dense volumetric segmentation from sparse
annotation", MICCAI 2016, with the padded convolutions and leaky rectifiers of later years.
"""

from typing import Any

from vol3dseg.config import ModelConfig
from vol3dseg.training.backend import keras
from vol3dseg.training.networks.norms import make_norm

_SLOPE = 0.01
# Said at every layer, since ~/.keras/keras.json may set another default and tf2onnx needs this one.
_FORMAT = "channels_last"
CONVOLUTIONS = 2


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


def _block(x: Any, config: ModelConfig, level: int, part: str) -> Any:
    """Append convolutions of one level, each with its norm and rectifier."""
    for number in range(1, CONVOLUTIONS + 1):
        name = f"{part}_{level}_{number}"
        x = keras.layers.Conv3D(
            config.widths[level],
            config.level_kernels[level],
            padding="same",
            data_format=_FORMAT,
            use_bias=False,  # the norm would take it away and add its own
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)
        x = make_norm(config, f"{name}_norm")(x)
        x = keras.layers.LeakyReLU(_SLOPE, name=f"{name}_leaky")(x)
    return x
