"""How far one output of the U-Net can see."""

from vol3dseg.config import ModelConfig
from vol3dseg.model.reach import Level, reach
from vol3dseg.training.networks.blocks import CONVOLUTIONS


def receptive_field_radius(config: ModelConfig) -> tuple[int, int, int]:
    """Return how far from an output voxel an input voxel can lie that it depends on [voxels].

    See `reach`, to which each level is said by what its parts are:

    - a plain block is two convolutions of width k, and widens an interval by k - 1;
    - pooling makes voxel v of voxels s v to s v + s - 1;
    - the step down of a residual encoder pools as well, and has a convolution of width k beside
      it, which is padded by k - s voxels, the smaller half of them before: voxel v of voxels
      s v - floor((k - s) / 2) on, k of them.

    With kernels of 3 and strides of 2 throughout the blocks alone reach
    6 * 2**depth - 4 voxels and rounding adds 2**depth - 1, which makes 7 * 2**depth - 5: 9 for
    depth 1, 23 for depth 2, 107 for depth 4. Batch norm and dropout reach no further at inference.
    With instance norm every voxel of the input bears on every output by way of its statistics; the
    radius then says how far the convolutions alone reach.
    """
    i, j, k = (reach(_levels(config, axis)) for axis in range(3))
    return i, j, k


def _levels(config: ModelConfig, axis: int) -> list[Level]:
    strides = [1, *(each[axis] for each in config.level_strides)]
    kernels = [each[axis] for each in config.level_kernels]
    if config.encoder == "plain":
        each = (CONVOLUTIONS * (kernel // 2) for kernel in kernels)
        return [Level(n, n, s, 0, s - 1) for n, s in zip(each, strides, strict=True)]
    levels: list[Level] = []
    for kernel, stride, blocks in zip(kernels, strides, config.level_blocks, strict=True):
        # The stem of the full grid is one convolution more; below, the first one steps down.
        convolutions = CONVOLUTIONS * blocks + (-1 if levels else 1)
        before = max(kernel - stride, 0) // 2
        after = max(kernel - 1 - before, stride - 1)
        half = kernel // 2
        levels.append(Level(convolutions * half, CONVOLUTIONS * half, stride, before, after))
    return levels
