"""How large a U-Net is, counted from its config alone: numbers, weights, arithmetic."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod

from vol3dseg.config import Config, ModelConfig
from vol3dseg.space.box import Shape

_CONVOLUTIONS = 2  # of a block
# Backward, a convolution is computed for its input and again for its weights.
_PASSES = 3


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """What decides how much memory a network takes.

    `outputs` are the numbers that all layers give out for one patch; `batch_norm` says whether a
    layer takes its statistics from all patches of a batch.
    """

    outputs: int
    weights: int
    batch_norm: bool


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a U-Net, for one patch."""

    voxels: int
    width: int
    kernel: int  # voxels that a convolution takes together


def levels(model: ModelConfig, patch: Shape) -> list[Level]:
    """Return the levels from the full grid down to the bottom."""
    found, sides = [], patch
    for number in range(model.depth + 1):
        found.append(Level(prod(sides), model.widths[number], prod(model.level_kernels[number])))
        if number < model.depth:
            i, j, k = zip(sides, model.level_strides[number], strict=True)
            sides = (i[0] // i[1], j[0] // j[1], k[0] // k[1])
    return found


def size_of_unet(config: Config) -> NetworkSize:
    """Return what the layers of the U-Net of a config give out for a patch, and its weights."""
    channels, classes = len(config.model_recipe.modalities), len(config.targets)
    model = config.model
    batch = model.norm == "batch"
    every = levels(model, config.recipe.patch_size)
    top, bottom = every[0], every[-1]
    each_norm = 4 if batch else 2  # scale and shift; batch norm keeps mean and variance too
    outputs = top.voxels * channels + top.voxels * classes
    weights = top.width * classes + classes
    before = channels
    for level in every:
        outputs += _CONVOLUTIONS * 3 * level.width * level.voxels  # convolution, norm, rectifier
        weights += _block_weights(level, before, each_norm)
        before = level.width
    if model.dropout > 0:
        outputs += bottom.width * bottom.voxels
    for number, (level, below) in enumerate(pairwise(every)):
        outputs += level.width * below.voxels  # pooled
        outputs += 3 * level.width * level.voxels  # brought up, and beside what was skipped
        outputs += _CONVOLUTIONS * 3 * level.width * level.voxels
        weights += below.width * level.width * prod(model.level_strides[number])
        weights += _block_weights(level, 2 * level.width, each_norm)
    return NetworkSize(outputs, weights, batch)


def flops_per_patch(config: Config) -> float:
    """Return multiplications and additions of a training step for each patch: convolutions only."""
    channels, classes = len(config.model_recipe.modalities), len(config.targets)
    every = levels(config.model, config.recipe.patch_size)
    total, before = every[0].voxels * every[0].width * classes, channels
    for level in every:
        total += level.voxels * level.kernel * (before * level.width + level.width**2)
        before = level.width
    for level, below in pairwise(every):
        total += level.voxels * level.kernel * (2 * level.width**2 + level.width**2)
        total += level.voxels * below.width * level.width  # one voxel below for each one here
    return 2.0 * _PASSES * total


def _block_weights(level: Level, before: int, each_norm: int) -> int:
    convolutions = level.kernel * level.width * (before + (_CONVOLUTIONS - 1) * level.width)
    return convolutions + _CONVOLUTIONS * each_norm * level.width
