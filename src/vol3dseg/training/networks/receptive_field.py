"""How far one output of the U-Net can see."""

from itertools import pairwise
from typing import NamedTuple

from vol3dseg.config import ModelConfig
from vol3dseg.training.networks.blocks import CONVOLUTIONS


class _Level(NamedTuple):
    """One level along one axis, by what its parts add to either side of an interval [voxels].

    `encoder` and `decoder` are its convolutions there; the step down to it, from the grid above
    by `stride`, makes voxel v of voxels stride v - before to stride v + after.
    """

    encoder: int
    decoder: int
    stride: int
    before: int
    after: int


def receptive_field_radius(config: ModelConfig) -> tuple[int, int, int]:
    """Return how far from an output voxel an input voxel can lie that it depends on [voxels].

    Follows the interval [low, high] of voxels that output voxel x depends on, from the output back
    to the input, along each axis by itself:

    - a convolution of width k widens it by (k - 1) / 2 on either side, so a plain block by k - 1;
    - a transposed convolution of kernel and stride s makes voxel v of voxel floor(v / s), so the
      interval becomes [floor(low / s), floor(high / s)] one level down;
    - pooling makes voxel v of voxels s v to s v + s - 1: [s low, s high + s - 1] one level up;
    - the step down of a residual encoder pools as well, and has a convolution of width k beside
      it, which is padded by k - s voxels, the smaller half of them before: voxel v of voxels
      s v - floor((k - s) / 2) on, k of them;
    - a skip connection sees a part of what the way through the bottom sees.

    Rounding makes the result depend on x modulo the divisor, so every alignment is tried and the
    worst counts. With kernels of 3 and strides of 2 throughout the blocks alone reach
    6 * 2**depth - 4 voxels and rounding adds 2**depth - 1, which makes 7 * 2**depth - 5: 9 for
    depth 1, 23 for depth 2, 107 for depth 4. Batch norm and dropout reach no further at inference.
    With instance norm every voxel of the input bears on every output by way of its statistics; the
    radius then says how far the convolutions alone reach.
    """
    i, j, k = (
        max(_reach(voxel, _levels(config, axis)) for voxel in range(config.divisor[axis]))
        for axis in range(3)
    )
    return i, j, k


def _levels(config: ModelConfig, axis: int) -> list[_Level]:
    strides = [1, *(each[axis] for each in config.level_strides)]
    kernels = [each[axis] for each in config.level_kernels]
    if config.encoder == "plain":
        each = (CONVOLUTIONS * (kernel // 2) for kernel in kernels)
        return [_Level(n, n, s, 0, s - 1) for n, s in zip(each, strides, strict=True)]
    levels: list[_Level] = []
    for kernel, stride, blocks in zip(kernels, strides, config.level_blocks, strict=True):
        # The stem of the full grid is one convolution more; below, the first one steps down.
        convolutions = CONVOLUTIONS * blocks + (-1 if levels else 1)
        before = max(kernel - stride, 0) // 2
        after = max(kernel - 1 - before, stride - 1)
        half = kernel // 2
        levels.append(_Level(convolutions * half, CONVOLUTIONS * half, stride, before, after))
    return levels


def _reach(voxel: int, levels: list[_Level]) -> int:
    low = high = voxel
    for above, below in pairwise(levels):
        low, high = (low - above.decoder) // below.stride, (high + above.decoder) // below.stride
    for level in reversed(levels[1:]):
        low, high = low - level.encoder, high + level.encoder
        low, high = level.stride * low - level.before, level.stride * high + level.after
    low, high = low - levels[0].encoder, high + levels[0].encoder
    return max(voxel - low, high - voxel)
