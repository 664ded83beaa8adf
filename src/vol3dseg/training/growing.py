"""Which patches make a batch, while they grow: a function of the number of the batch alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vol3dseg.config import Config
from vol3dseg.planning.workload import step_share
from vol3dseg.space.box import Shape


@dataclass(frozen=True, slots=True)
class Stage:
    """From `first_epoch` on, `patches` of `size` go through the network at once."""

    size: Shape
    patches: int
    first_epoch: int


def stages_of(config: Config) -> list[Stage]:
    """Return how the patches of a training grow; a single stage where they do not."""
    training, whole = config.training, config.recipe.patch_size
    grow, at_once = training.grow_patch, training.at_once
    if grow is None:
        return [Stage(whole, at_once, 0)]
    growing, found = math.floor(grow.epochs * training.epochs), list[Stage]()
    for number in range(grow.stages):
        size = grow.sides(number, whole, config.model.divisor)
        more = math.prod(whole) // math.prod(size) if grow.batch == "voxels" else 1
        first = math.ceil(number * growing / (grow.stages - 1))
        if found and found[-1].first_epoch == first:
            found.pop()  # too few epochs for all stages
        if not found or found[-1].size != size:
            found.append(Stage(size, at_once * more, first))
    return found


def patches_of(stages: Sequence[Stage], steps: int, batch: int) -> tuple[Shape, range]:
    """Return the size and the numbers of the patches of a batch, `steps` of which make an epoch.

    Batches here are what goes through the network at once: micro-batches.
    """
    begun = [stage for stage in stages if stage.first_epoch * steps <= batch]
    now, first = begun[-1], 0
    for stage, after in pairwise(begun):
        first += (after.first_epoch - stage.first_epoch) * steps * stage.patches
    first += (batch - now.first_epoch * steps) * now.patches
    return now.size, range(first, first + now.patches)


def step_shares(config: Config) -> list[float]:
    """Return the share of the time of whole patches that a step of each epoch takes."""
    training, stages = config.training, stages_of(config)
    whole = math.prod(config.recipe.patch_size) * training.at_once
    drawn = [patches_of(stages, 1, epoch) for epoch in range(training.epochs)]
    return [step_share(math.prod(size) * len(numbers) / whole) for size, numbers in drawn]


def describe_growth(stages: Sequence[Stage]) -> str | None:
    """Return in words how patches grow; None where they do not."""
    if len(stages) == 1:
        return None
    parts = [
        f"{' x '.join(map(str, stage.size))} from epoch {stage.first_epoch + 1}"
        + f" ({stage.patches} at once)"
        for stage in stages
    ]
    return f"patches grow: {', '.join(parts)}"
