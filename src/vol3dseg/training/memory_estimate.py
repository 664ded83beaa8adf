"""How much memory a training will take, told before its first step, and which batch fits into it.

The network's part is proportional to the outputs of all its layers: the backward pass needs most of
them, and some more beside. The factors were measured with TensorFlow 2.21 and oneDNN on a CPU over
patches of 32 to 128 voxels, widths of 8 to 32, depths of 2 to 5 and four classes;
`python -m benchmarks.memory` compares the estimate with the peak of the report's batches.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from vol3dseg.config import Config
from vol3dseg.preprocessing.store import StoredCase

_FLOAT = 4  # bytes
_MB = 2**20
# Memory of a step over the outputs of all layers: instance norm keeps the centred values as well.
_KEPT, _KEPT_BATCH_NORM = 1.4, 1.27
# Weights, their gradient, the two moments of Adam, and a copy that oneDNN lays out for itself.
_COPIES_OF_WEIGHTS = 5
_GRAPH_MB = 150.0
# Of what is free; the rest is for what else the machine does, and for the estimate's own error.
_SHARE = 0.85


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
class MemoryEstimate:
    """Peak memory of a training [MB].

    `start_mb` is what the process has before the first step; `network_mb` takes in weights with
    their optimizer, the outputs of layers and their gradients; `patches_mb` cases that are kept in
    memory and batches that are read ahead.
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
    """How a batch goes through the network: `size` patches at once, a divisor of the batch.

    `free_mb` is what the process could take beside what it has [MB]; None where that is not known.
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
    network: NetworkSize,
    training: Iterable[StoredCase],
    validation: Iterable[StoredCase],
    start_mb: float,
    free_mb: float | None,
) -> MicroBatch:
    """Return the micro-batch of the config, or the largest that fits where it leaves that open.

    A single patch where not even that fits. `start_mb` is what the process has now, `free_mb` what
    it could take beside that [MB].
    """
    batch, given = config.training.batch_size, config.training.micro_batch
    sizes = [given] if given else [n for n in range(batch, 0, -1) if batch % n == 0]
    kept = _kept_mb(training, config.training.cache_mb) + _kept_mb(
        validation, config.training.cache_mb // 4
    )
    choices = [
        MicroBatch(
            size,
            MemoryEstimate(start_mb, _network_mb(network, size), kept + _ahead_mb(config, size)),
            free_mb,
        )
        for size in sizes
    ]
    return next((choice for choice in choices if choice.fits), choices[-1])


def describe_micro_batch(config: Config, network: NetworkSize, chosen: MicroBatch) -> list[str]:
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
            f"of {chosen.size}, whose gradients are averaged; {_seen(config, network, chosen.size)}"
        )
    return lines


def _seen(config: Config, network: NetworkSize, size: int) -> str:
    norm = (
        f"batch norm takes its statistics from {size} patches, not from the whole batch"
        if network.batch_norm
        else "each patch is normalised by itself, as it would be in a whole batch"
    )
    pooled = "dice" in config.training.loss
    return norm + f"; the loss pools Dice over {size} patches" * pooled


def _network_mb(network: NetworkSize, patches: int) -> float:
    kept = _KEPT_BATCH_NORM if network.batch_norm else _KEPT
    numbers = _COPIES_OF_WEIGHTS * network.weights + kept * patches * network.outputs
    return _GRAPH_MB + numbers * _FLOAT / _MB


def _kept_mb(cases: Iterable[StoredCase], limit_mb: int) -> float:
    """Return what `CaseReader` will hold of these cases [MB]."""
    return min(sum(case.memory_bytes for case in cases) / _MB, limit_mb)


def _ahead_mb(config: Config, size: int) -> float:
    """Return the batches that wait: two for each thread, and those that TensorFlow holds [MB]."""
    voxels = math.prod(config.recipe.patch_size)
    patch = voxels * (len(config.model_recipe.modalities) * _FLOAT + 1) / _MB
    return patch * size * (2 * config.training.workers + 3)
