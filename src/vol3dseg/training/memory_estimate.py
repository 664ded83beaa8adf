"""How much memory a training will take, told before its first step, and which batch fits into it.

The network's part is proportional to the outputs of all its layers: the backward pass needs most of
them, and some more beside. The factors were measured with TensorFlow 2.21 and oneDNN on a CPU over
patches of 32 to 128 voxels, widths of 8 to 32, depths of 2 to 5 and four classes;
`python -m benchmarks.memory` compares the estimate with the peak of the report's batches.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from vol3dseg.config import Config, ModelConfig
from vol3dseg.preprocessing.store import StoredCase

_FLOAT = 4  # bytes
_MB = 2**20
# Memory of a step over the outputs of all layers: instance norm keeps the centred values as well.
_KEPT = {"instance": 1.4, "batch": 1.27}
# Weights, their gradient, the two moments of Adam, and a copy that oneDNN lays out for itself.
_COPIES_OF_WEIGHTS = 5
_GRAPH_MB = 150.0
# Of what is free; the rest is for what else the machine does, and for the estimate's own error.
_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Peak memory of a training [MB].

    Parameters
    ----------
    start_mb : float
        What the process has before the first step: Python, TensorFlow.
    network_mb : float
        Weights with their optimizer, the outputs of layers and their gradients.
    patches_mb : float
        Cases that are kept in memory, and batches that are read ahead.
    """

    start_mb: float
    network_mb: float
    patches_mb: float

    @property
    def total_mb(self) -> float:
        """All of it [MB]."""
        return self.start_mb + self.network_mb + self.patches_mb

    def __str__(self) -> str:
        return (
            f"about {self.total_mb / 1024:.1f} GB (network {self.network_mb / 1024:.1f}, patches "
            f"{self.patches_mb / 1024:.1f}, program {self.start_mb / 1024:.1f})"
        )


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """How a batch goes through the network.

    Parameters
    ----------
    size : int
        Patches at once; a divisor of the batch size.
    estimate : MemoryEstimate
    free_mb : float or None
        What the process could take beside what it has [MB]; None where that is not known.
    """

    size: int
    estimate: MemoryEstimate
    free_mb: float | None

    @property
    def fits(self) -> bool:
        """Whether the estimate lies below what is free, with a margin; True if nothing is known."""
        if self.free_mb is None:
            return True
        return self.estimate.total_mb - self.estimate.start_mb <= _SHARE * self.free_mb


def choose_micro_batch(
    config: Config,
    training: Iterable[StoredCase],
    validation: Iterable[StoredCase],
    start_mb: float,
    free_mb: float | None,
) -> MicroBatch:
    """Return the micro-batch of the config, or the largest that fits where it leaves that open.

    Parameters
    ----------
    config : Config
    training, validation : iterable of StoredCase
    start_mb : float
        What the process has now [MB].
    free_mb : float or None
        What it could take beside that [MB].

    Returns
    -------
    MicroBatch
        A single patch where not even that fits; see `fits`.
    """
    batch, given = config.training.batch_size, config.training.micro_batch
    sizes = [given] if given else [n for n in range(batch, 0, -1) if batch % n == 0]
    kept = _kept_mb(training, config.training.cache_mb) + _kept_mb(
        validation, config.training.cache_mb // 4
    )
    choices = [
        MicroBatch(
            size,
            MemoryEstimate(start_mb, _network_mb(config, size), kept + _ahead_mb(config, size)),
            free_mb,
        )
        for size in sizes
    ]
    return next((choice for choice in choices if choice.fits), choices[-1])


def describe_micro_batch(config: Config, chosen: MicroBatch) -> list[str]:
    """Return in words what a training will take, and what is computed over which patches."""
    free = "" if chosen.free_mb is None else f"; {chosen.free_mb / 1024:.1f} GB are free"
    lines = [f"memory at its peak: {chosen.estimate}{free}"]
    if not chosen.fits:
        lines.append(
            "warning: that may be more than there is; use a smaller training.micro_batch, "
            "training.cache_mb, model.width or recipe.patch_size"
        )
    batch = config.training.batch_size
    if chosen.size < batch:
        lines.append(
            f"a batch of {batch} goes through the network as {batch // chosen.size} micro-batches "
            f"of {chosen.size}, whose gradients are averaged; {_seen(config, chosen.size)}"
        )
    return lines


def _seen(config: Config, size: int) -> str:
    norm = (
        "instance norm sees each patch by itself, as it would in a whole batch"
        if config.model.norm == "instance"
        else f"batch norm takes its statistics from {size} patches, not from the whole batch"
    )
    pooled = "dice" in config.training.loss
    return norm + f"; the loss pools Dice over {size} patches" * pooled


def _network_mb(config: Config, patches: int) -> float:
    recipe, model = config.model_recipe, config.model
    channels, classes = len(recipe.modalities), len(config.labels.classes)
    outputs = math.prod(recipe.patch_size) * _outputs_per_voxel(model, channels, classes)
    weights = _weights(model, channels, classes) * _FLOAT / _MB
    return (
        _GRAPH_MB
        + _COPIES_OF_WEIGHTS * weights
        + _KEPT[model.norm] * patches * outputs * _FLOAT / _MB
    )


def _outputs_per_voxel(model: ModelConfig, channels: int, classes: int) -> float:
    """Return the numbers that all layers give out for each voxel of the input."""
    numbers = channels + 2.0 * classes  # the input, the head and its softmax
    for level, width in enumerate(model.widths):
        share = 8.0**-level
        block = 6 * width  # two convolutions, each with norm and rectifier
        bottom = level == model.depth
        # Encoder, decoder, its transposed convolution and the concatenation; the pooled encoder.
        numbers += block * share if bottom else (2 * block + 3 * width + width / 8) * share
    return numbers


def _weights(model: ModelConfig, channels: int, classes: int) -> int:
    widths = model.widths
    count, before = widths[0] * classes, channels
    for level, width in enumerate(widths):
        count += 27 * width * (before + width)
        if level < model.depth:
            count += 8 * width * widths[level + 1] + 27 * width * 3 * width
        before = width
    return count


def _kept_mb(cases: Iterable[StoredCase], limit_mb: int) -> float:
    """Return what `CaseReader` will hold of these cases [MB]."""
    return min(sum(case.memory_bytes for case in cases) / _MB, limit_mb)


def _ahead_mb(config: Config, size: int) -> float:
    """Return the batches that wait: two for each thread, and those that TensorFlow holds [MB]."""
    voxels = math.prod(config.recipe.patch_size)
    patch = voxels * (len(config.model_recipe.modalities) * _FLOAT + 1) / _MB
    return patch * size * (2 * config.training.workers + 3)
