"""How far one output of the U-Net can see."""

from collections.abc import Sequence

from vol3dseg.config import ModelConfig
from vol3dseg.training.networks.unet import CONVOLUTIONS


def receptive_field_radius(config: ModelConfig) -> tuple[int, int, int]:
    """Return how far from an output voxel an input voxel can lie that it depends on [voxels].

    Follows the interval [low, high] of voxels that output voxel x depends on, from the output back
    to the input, along each axis by itself:

    - a convolution of width k widens it by (k - 1) / 2 on either side, so a block by k - 1;
    - a transposed convolution of kernel and stride s makes voxel v of voxel floor(v / s), so the
      interval becomes [floor(low / s), floor(high / s)] one level down;
    - pooling makes voxel v of voxels s v to s v + s - 1: [s low, s high + s - 1] one level up;
    - a skip connection sees a part of what the way through the bottom sees.

    Rounding makes the result depend on x modulo the divisor, so every alignment is tried and the
    worst counts. With kernels of 3 and strides of 2 throughout the blocks alone reach
    6 * 2**depth - 4 voxels and rounding adds 2**depth - 1, which makes 7 * 2**depth - 5: 9 for
    depth 1, 23 for depth 2, 107 for depth 4. Batch norm and dropout reach no further at inference.
    With instance norm every voxel of the input bears on every output by way of its statistics; the
    radius then says how far the convolutions alone reach.
    """
    axes = zip(
        config.divisor,
        zip(*config.level_strides, strict=True),
        zip(*config.level_kernels, strict=True),
        strict=True,
    )
    i, j, k = (
        max(_reach(voxel, strides, kernels) for voxel in range(divisor))
        for divisor, strides, kernels in axes
    )
    return i, j, k


def _reach(voxel: int, strides: Sequence[int], kernels: Sequence[int]) -> int:
    *widenings, bottom = (CONVOLUTIONS * (kernel // 2) for kernel in kernels)
    steps = list(zip(strides, widenings, strict=True))
    low = high = voxel
    for stride, wider in steps:
        low, high = (low - wider) // stride, (high + wider) // stride
    low, high = low - bottom, high + bottom
    for stride, wider in reversed(steps):
        low = stride * low - wider
        high = stride * high + stride - 1 + wider
    return max(voxel - low, high - voxel)
