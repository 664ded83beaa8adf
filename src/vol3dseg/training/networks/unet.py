"""The network: a 3-D U-Net.

The shape is that of Çiçek et al., "3D U-Net: learning dense volumetric segmentation from sparse
annotation", MICCAI 2016, with the padded convolutions and leaky rectifiers of later years.
"""

from collections.abc import Collection
from typing import Any

from vol3dseg.config import ModelConfig
from vol3dseg.training.backend import keras
from vol3dseg.training.networks.blocks import (
    FORMAT,
    plain_block,
    plain_encoder,
    residual_encoder,
)
from vol3dseg.training.networks.deep_supervision import DeeplySupervised, supervised_levels

_ENCODER = ("stem_", "encoder_", "bottom_")


def build_unet(
    config: ModelConfig,
    channels: int,
    classes: int,
    deep_supervision: bool = False,
    in_float32: Collection[int] = (),
) -> Any:
    """Build an untrained, uncompiled network for `classes`, background included, or regions.

    (n, i, j, k, c) float32 in, (n, i, j, k, class) float32 logits out; i, j and k must be
    multiples of `config.divisor`. With deep supervision it is a `DeeplySupervised`, which begins
    with the same weights. Convolutions of the levels `in_float32` compute so under every policy.
    """
    image = keras.Input((None, None, None, channels), name="image")
    encode = residual_encoder if config.encoder == "residual" else plain_encoder
    *skips, x = encode(image, config, in_float32)
    if config.dropout > 0:
        dropout = keras.layers.SpatialDropout3D(config.dropout, data_format=FORMAT, name="dropout")
        x = dropout(x)
    decoded = {}
    for level in reversed(range(config.depth)):
        up = keras.layers.Conv3DTranspose(
            config.widths[level],
            config.level_strides[level],
            strides=config.level_strides[level],
            data_format=FORMAT,
            use_bias=False,  # a constant that the next norm takes away, and one more node in ONNX
            name=f"up_{level}",
        )
        x = keras.layers.Concatenate(name=f"skip_{level}")([skips[level], up(x)])
        decoded[level] = x = plain_block(x, config, level, "decoder", in_float32)
    own = _head(classes, "head")(x)
    if not deep_supervision:
        return keras.Model(image, own, name="unet")
    others = [_head(classes, f"head_{n}")(decoded[n]) for n in supervised_levels(config.depth)]
    return DeeplySupervised(image, [own, *others], name="unet")


def encoder_of(unet: Any) -> list[Any]:
    """Return the layers down to the bottom, whichever encoder it is."""
    return [layer for layer in unet.layers if layer.name.startswith(_ENCODER)]


def _head(classes: int, name: str) -> Any:
    # In float32 under every policy: logits in float16 have three digits.
    return keras.layers.Conv3D(classes, 1, data_format=FORMAT, dtype="float32", name=name)
