"""The blocks of convolutions that the U-Net is built of."""

from collections.abc import Collection
from typing import Any

from vol3dseg.config import ModelConfig
from vol3dseg.training.backend import keras
from vol3dseg.training.networks.norms import SLOPE, make_norm

# Said at every layer, since ~/.keras/keras.json may set another default and tf2onnx needs this one.
FORMAT = "channels_last"
CONVOLUTIONS = 2  # of a plain block and of a residual one


def plain_block(
    x: Any, config: ModelConfig, level: int, part: str, in_float32: Collection[int] = ()
) -> Any:
    """Append convolutions of one level, each with its norm and rectifier."""
    for number in range(1, CONVOLUTIONS + 1):
        name = f"{part}_{level}_{number}"
        x = _rectified(_convolved(x, config, level, name, in_float32), name)
    return x


def plain_encoder(x: Any, config: ModelConfig, in_float32: Collection[int] = ()) -> list[Any]:
    """Return what each level makes of an image: a block, and from level to level the largest."""
    found: list[Any] = []
    for level in range(config.depth + 1):
        if found:
            stride, name = config.level_strides[level - 1], f"pool_{level - 1}"
            x = keras.layers.MaxPooling3D(stride, data_format=FORMAT, name=name)(x)
        part = "bottom" if level == config.depth else "encoder"
        x = plain_block(x, config, level, part, in_float32)
        found.append(x)
    return found


def residual_encoder(x: Any, config: ModelConfig, in_float32: Collection[int] = ()) -> list[Any]:
    """Return what each level makes of an image, each by the blocks of `config.level_blocks`.

    As in Isensee et al., "nnU-Net revisited", MICCAI 2024: a convolution makes the filters of the
    full grid, and the first block of every other level steps down.
    """
    x = _rectified(_convolved(x, config, 0, "stem", in_float32), "stem")
    found: list[Any] = []
    for level, blocks in enumerate(config.level_blocks):
        stride = config.level_strides[level - 1] if level else (1, 1, 1)
        for number in range(1, blocks + 1):
            name = f"encoder_{level}_{number}"
            step = stride if number == 1 else (1, 1, 1)
            x = _residual_block(x, config, level, name, in_float32, step)
        found.append(x)
    return found


def _residual_block(
    x: Any,
    config: ModelConfig,
    level: int,
    name: str,
    in_float32: Collection[int],
    stride: tuple[int, int, int],
) -> Any:
    """Append two convolutions that say what is to be added to their input; then the rectifier.

    He et al., "Deep residual learning", CVPR 2016. Where grids differ, the input is averaged over
    the voxels of the coarser one, and where filters do, mixed by a convolution of 1 x 1 x 1: no
    voxel of it is passed over, as by a convolution with a stride.
    """
    change = _convolved(x, config, level, f"{name}_1", in_float32, stride)
    change = _convolved(_rectified(change, f"{name}_1"), config, level, f"{name}_2", in_float32)
    if stride != (1, 1, 1):
        x = keras.layers.AveragePooling3D(stride, data_format=FORMAT, name=f"{name}_pool")(x)
    if x.shape[-1] != config.widths[level]:
        x = _convolved(x, config, level, f"{name}_match", in_float32, kernel=(1, 1, 1))
    return _rectified(keras.layers.Add(name=f"{name}_add")([x, change]), name)


def _convolved(
    x: Any,
    config: ModelConfig,
    level: int,
    name: str,
    in_float32: Collection[int],
    stride: tuple[int, int, int] = (1, 1, 1),
    kernel: tuple[int, int, int] | None = None,
) -> Any:
    """Append a convolution of a level and its norm."""
    x = keras.layers.Conv3D(
        config.widths[level],
        kernel or config.level_kernels[level],
        strides=stride,
        padding="same",
        data_format=FORMAT,
        use_bias=False,  # the norm would take it away and adds its own
        kernel_initializer="he_normal",
        dtype="float32" if level in in_float32 else None,
        name=f"{name}_conv",
    )(x)
    return make_norm(config, f"{name}_norm")(x)


def _rectified(x: Any, name: str) -> Any:
    return keras.layers.LeakyReLU(SLOPE, name=f"{name}_leaky")(x)
