"""What a training has to do, and how long and how much memory that takes on this machine."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

from vol3dseg.config import Config
from vol3dseg.planning.memory_model import (
    MB,
    PROGRAM_MB,
    MemoryEstimate,
    estimate_memory,
    voxel_bytes,
)
from vol3dseg.planning.network_size import flops_per_patch, size_of_unet
from vol3dseg.space.box import Shape

# Forward alone, of forward and twice backward.
_FORWARD = 1 / 3
_SINGLE = 2.0  # times as long in float32 as in half precision
# A volume at prediction over the volume itself: patches that overlap by half along three axes, or
# tiles with a halo.
_BLENDED, _TILED = 8.0, 1.5
# Of a validation volume beside the network: its graph is built for its shape, and it is scored.
_VOLUME_S = 0.5
_END_S = 5.0  # page, manifest and what else is written last
# Of a step of whole patches, what does not shrink with them: epochs of the preset hippocampus took
# 4.9, 10.4, 19 and 32 s with 7, 26, 55 and 100 % of its voxels, on two cores in bfloat16.
_FIXED = 0.1


Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast this machine trains.

    Parameters
    ----------
    flops_per_s : float
        Arithmetic of convolutions in a training step over the time of the step: what else a step
        does counts as if it were their slowness.
    start_s : float
        From the start of the program to its first step [s].
    program_mb : float
        What the program has in memory before that [MB].
    precision : str
        What it was measured in; "auto" where that is not known.
    how : str
        What was measured, in words.
    """

    flops_per_s: float
    start_s: float = 20.0
    program_mb: float = PROGRAM_MB
    precision: Precision = "auto"
    how: str = "given"

    def faster(self, times: float) -> Self:
        """Return the same with so many times the arithmetic in a second."""
        return replace(self, flops_per_s=times * self.flops_per_s)


@dataclass(frozen=True, slots=True)
class Workload:
    """The prepared cases of a training.

    Parameters
    ----------
    training, validation : int
        Cases.
    shape : (3,) tuple of int
        Their median sides [voxels].
    voxels : float
        Mean voxels of a case.
    """

    training: int
    validation: int
    shape: Shape
    voxels: float

    def pieces(self, config: Config) -> int:
        """Return how many patches the training cases hold, tiled: what an epoch draws."""
        each = max(1, round(self.voxels / math.prod(config.recipe.patch_size)))
        return self.training * each

    def steps(self, config: Config) -> int:
        """Return the steps of an epoch."""
        given = config.training.steps_per_epoch
        return given or max(1, math.ceil(self.pieces(config) / config.training.batch_size))

    def memory(self, config: Config, speed: Speed) -> MemoryEstimate:
        """Return the memory at its peak."""
        if config.training.precision == "auto":
            config = config.chosen(precision=speed.precision)
        parts_mb = [
            count * self.voxels * voxel_bytes(config) / MB
            for count in (self.training, self.validation)
        ]
        network, at_once = size_of_unet(config), config.training.at_once
        return estimate_memory(config, network, at_once, parts_mb[0], parts_mb[1], speed.program_mb)

    def step_s(self, config: Config, speed: Speed) -> float:
        """Return the time of a step [s]."""
        return config.training.batch_size * flops_per_patch(config) / speed.flops_per_s

    def epoch_s(self, config: Config, speed: Speed) -> float:
        """Return the mean time of an epoch with what is judged after it [s]."""
        training = config.training
        patches = self.validation * training.validation_patches
        judged = patches * self._forward_s(config, speed)
        if training.validate_every is not None:
            volumes = min(self.validation, training.validation_volumes or self.validation)
            judged += self._volumes_s(volumes, config, speed) / training.validate_every
        steps = self.steps(config) * growth_share(config)
        return steps * self.step_s(config, speed) + judged

    def around_s(self, config: Config, speed: Speed) -> float:
        """Return the time before the first epoch and after the last, which scores volumes [s]."""
        return speed.start_s + _END_S + self._volumes_s(self.validation, config, speed)

    def seconds(self, config: Config, speed: Speed) -> float:
        """Return the time of the whole training [s]."""
        return self.around_s(config, speed) + config.training.epochs * self.epoch_s(config, speed)

    def _volumes_s(self, count: int, config: Config, speed: Speed) -> float:
        """Return the time that so many volumes take to be segmented and judged [s]."""
        times = _TILED if config.model.local else _BLENDED
        patches = times * max(1.0, self.voxels / math.prod(config.recipe.patch_size))
        return count * (patches * self._forward_s(config, speed) + _VOLUME_S)

    def _forward_s(self, config: Config, speed: Speed) -> float:
        """Return the time of a patch that is judged, which is done in float32 [s]."""
        slower = 1.0 if speed.precision in {"auto", "float32"} else _SINGLE
        return slower * _FORWARD * flops_per_patch(config) / speed.flops_per_s


def growth_share(config: Config) -> float:
    """Return the mean time of a step, while patches grow, over that with whole patches."""
    grow, whole = config.training.grow_patch, config.recipe.patch_size
    if grow is None or grow.batch == "voxels":
        return 1.0
    sizes = [grow.sides(n, whole, config.model.divisor) for n in range(grow.stages - 1)]
    small = sum(step_share(math.prod(size) / math.prod(whole)) for size in sizes) / len(sizes)
    return grow.epochs * small + 1 - grow.epochs


def step_share(voxels: float) -> float:
    """Return the time of a step over that with whole patches, from its share of their voxels."""
    return _FIXED + (1 - _FIXED) * voxels
