"""How large a U-Net is, counted from its config alone: numbers, weights, arithmetic."""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from vol3dseg.config import Config, ModelConfig
from vol3dseg.space.box import Shape

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
class _Level:
    """One level of a U-Net, for one patch."""

    voxels: int
    width: int
    kernel: int  # voxels that a convolution takes together


@dataclass(frozen=True, slots=True)
class _Part:
    """Layers: the numbers that they give out, their weights, and their multiplications."""

    outputs: int
    weights: int = 0
    products: int = 0

    def __add__(self, other: "_Part") -> "_Part":
        return _Part(
            self.outputs + other.outputs,
            self.weights + other.weights,
            self.products + other.products,
        )


def size_of_unet(config: Config) -> NetworkSize:
    """Return what the layers of the U-Net of a config give out for a patch, and its weights."""
    whole = _unet(config)
    return NetworkSize(whole.outputs, whole.weights, config.model.norm == "batch")


def flops_per_patch(config: Config) -> float:
    """Return multiplications and additions of a training step for each patch: convolutions only."""
    return 2.0 * _PASSES * _unet(config).products


def supervised_levels(depth: int) -> range:
    """Return the levels with outputs of their own: all of the decoder but the coarsest.

    A level whose voxels hold most structures whole has little to say about them, so neither the
    bottom nor the level above it has one.
    """
    return range(1, depth - 1)


def _unet(config: Config) -> _Part:
    model = config.model
    channels, classes = len(config.model_recipe.modalities), len(config.targets)
    every = _levels(model, config.recipe.patch_size)
    encoder = _residual_encoder if model.encoder == "residual" else _plain_encoder
    found = _Part(every[0].voxels * channels) + encoder(every, channels, model)
    if model.dropout > 0:
        found += _Part(every[-1].width * every[-1].voxels)
    for number, (level, below) in enumerate(pairwise(every)):
        numbers = level.width * level.voxels
        # A voxel is made of one below, and put beside what was skipped.
        weights = below.width * level.width * prod(model.level_strides[number])
        found += _Part(3 * numbers, weights, numbers * below.width)
        found += _plain_block(level, 2 * level.width, model)
    heads = supervised_levels(model.depth) if config.training.deep_supervision else ()
    for level in (every[0], *(every[number] for number in heads)):
        numbers = level.voxels * classes
        found += _Part(numbers, (level.width + 1) * classes, numbers * level.width)
    return found


def _levels(model: ModelConfig, patch: Shape) -> list[_Level]:
    """Return the levels from the full grid down to the bottom."""
    found, sides = list[_Level](), patch
    for number in range(model.depth + 1):
        found.append(_Level(prod(sides), model.widths[number], prod(model.level_kernels[number])))
        if number < model.depth:
            i, j, k = zip(sides, model.level_strides[number], strict=True)
            sides = (i[0] // i[1], j[0] // j[1], k[0] // k[1])
    return found


def _plain_encoder(every: list[_Level], channels: int, model: ModelConfig) -> _Part:
    found = _plain_block(every[0], channels, model)
    for above, level in pairwise(every):
        found += _Part(above.width * level.voxels)  # pooled
        found += _plain_block(level, above.width, model)
    return found


def _residual_encoder(every: list[_Level], channels: int, model: ModelConfig) -> _Part:
    before = every[0].width
    found = _convolved(every[0], channels, model) + _rectified(every[0])
    for number, (level, blocks) in enumerate(zip(every, model.level_blocks, strict=True)):
        if number:
            found += _Part(before * level.voxels)  # pooled
        for _ in range(blocks):
            found += _convolved(level, before, model) + _rectified(level)
            found += _convolved(level, level.width, model)
            if before != level.width:
                found += _convolved(replace(level, kernel=1), before, model)
            found += _rectified(level) + _rectified(level)  # of which the first is the sum
            before = level.width
    return found


def _plain_block(level: _Level, before: int, model: ModelConfig) -> _Part:
    first = _convolved(level, before, model) + _rectified(level)
    return first + _convolved(level, level.width, model) + _rectified(level)


def _convolved(level: _Level, before: int, model: ModelConfig) -> _Part:
    """Return a convolution of `before` filters and its norm."""
    numbers, weights = level.voxels * level.width, level.kernel * before * level.width
    # Scale and shift; batch norm keeps mean and variance too.
    norm = (4 if model.norm == "batch" else 2) * level.width
    return _Part(2 * numbers, weights + norm, level.voxels * weights)


def _rectified(level: _Level) -> _Part:
    return _Part(level.voxels * level.width)
