"""How much memory a training takes, from the size of its network and of its data.

The network's part is proportional to the outputs of all its layers: the backward pass needs most of
them, and some more beside. The factors were measured with TensorFlow 2.21 and oneDNN on a CPU over
patches of 32 to 128 voxels, widths of 8 to 32, depths of 2 to 5 and four classes;
`python -m benchmarks.memory` and `python -m benchmarks.planning` compare estimate and peak.
"""

import math
from dataclasses import dataclass

from vol3dseg.config import Config
from vol3dseg.planning.network_size import NetworkSize

MB = 2**20
# What Python with TensorFlow has before the first step, where nobody has measured it [MB].
PROGRAM_MB = 650.0
# Of what is free; the rest is for what else the machine does, and for the estimate's own error.
USABLE = 0.85
_FLOAT = 4  # bytes
_BYTES = {"bfloat16": 2, "float16": 2}  # of what layers give out
# Memory of a step over the outputs of all layers: instance norm keeps the centred values as well.
_KEPT, _KEPT_BATCH_NORM = 1.4, 1.27
# Weights, their gradient, the two moments of Adam, and a copy that oneDNN lays out for itself.
_COPIES_OF_WEIGHTS = 5
_GRAPH_MB = 150.0


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


def estimate_memory(
    config: Config,
    network: NetworkSize,
    at_once: int,
    training_mb: float,
    validation_mb: float,
    start_mb: float = PROGRAM_MB,
) -> MemoryEstimate:
    """Return what a training takes whose network sees `at_once` patches at a time.

    `training_mb` and `validation_mb` are all prepared cases of these parts, image and label [MB].
    """
    cache_mb = config.training.cache_mb
    kept = min(training_mb, cache_mb) + min(validation_mb, cache_mb // 4)
    ahead = kept + _ahead_mb(config, at_once)
    bytes_each = _BYTES.get(config.training.precision, _FLOAT)
    network_mb = _network_mb(network, at_once, bytes_each)
    if config.training.ema is not None:  # a copy of its own
        network_mb += network.weights * _FLOAT / MB
    return MemoryEstimate(start_mb, network_mb, ahead)


def voxel_bytes(config: Config) -> int:
    """Return what a voxel takes in memory: its modalities and its label [bytes]."""
    return len(config.model_recipe.modalities) * _FLOAT + 1


def _network_mb(network: NetworkSize, patches: int, bytes_each: int) -> float:
    kept = (_KEPT_BATCH_NORM if network.batch_norm else _KEPT) * patches * network.outputs
    return _GRAPH_MB + (_COPIES_OF_WEIGHTS * network.weights * _FLOAT + kept * bytes_each) / MB


def _ahead_mb(config: Config, size: int) -> float:
    """Return the batches that wait: two for each thread, and those that TensorFlow holds [MB]."""
    patch = math.prod(config.recipe.patch_size) * voxel_bytes(config) / MB
    return patch * size * (2 * config.training.workers + 3)
