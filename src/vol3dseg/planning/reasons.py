"""The choices that follow from a design, with their reasons."""

import math

from vol3dseg.planning.choices import Choice
from vol3dseg.planning.design_rules import (
    BATCH_SHARE,
    FEWEST_STEPS,
    LARGEST_BATCH,
    NARROWER,
    STEPS_TO_DOUBLE,
    STEPS_TO_WIDEN,
    SUPERVISED,
    WIDE,
    Design,
)
from vol3dseg.planning.grid_rules import POOLED, WITHIN
from vol3dseg.planning.workload import Workload


def design_choices(chosen: Design, work: Workload, memory_mb: float, given: bool) -> list[Choice]:
    """Return patch, batch, width and levels; `given` says whether somebody set the memory."""
    return [
        _patch(
            chosen,
            work,
            f"{memory_mb:.0f} MB, " + ("as given" if given else "85 % of what is free"),
        ),
        *_levels(chosen),
        _width(chosen),
        Choice(
            "training.deep_supervision",
            chosen.levels.depth >= SUPERVISED,
            f"with a depth of {SUPERVISED} or more, coarser levels learn as well (nnU-Net's rule)",
        ),
        Choice(
            "training.batch_size",
            chosen.batch,
            f"2, or {LARGEST_BATCH} where it fits, {STEPS_TO_DOUBLE} steps are "
            f"left, and it shows at most {100 * BATCH_SHARE:.0f} % of the data set's voxels "
            "(nnU-Net's share)",
        ),
    ]


def _patch(chosen: Design, work: Workload, limit: str) -> Choice:
    sides = "x".join(map(str, work.shape))
    patch = " x ".join(map(str, chosen.patch))
    covers = math.prod(min(1.0, p / n) for p, n in zip(chosen.patch, work.shape, strict=True))
    return Choice(
        "recipe.patch_size",
        list(chosen.patch),
        f"the median scan has {sides} voxels on the working grid; {patch} show "
        f"{100 * covers:.0f} % of it. The axis that covers most of its scan gives way until a "
        f"batch of two fits into {limit}, and time for {FEWEST_STEPS} steps is left; multiples "
        f"of {list(chosen.levels.divisor)}",
    )


def _levels(chosen: Design) -> list[Choice]:
    levels = chosen.levels
    return [
        Choice(
            "model.depth",
            levels.depth,
            f"an axis is halved as long as it has {POOLED} voxels or more and its spacing is below "
            f"{WITHIN:g} times the finest",
        ),
        Choice(
            "model.strides",
            [list(stride) for stride in levels.strides],
            "what each of these steps divides i, j, k by",
        ),
        Choice(
            "model.kernels",
            [list(kernel) for kernel in levels.kernels],
            f"of each level: 1 along an axis whose spacing is {WITHIN:g} times the finest or more, "
            "else 3",
        ),
    ]


def _width(chosen: Design) -> Choice:
    why = f"halved for want of memory, from 16 to {chosen.width}"
    if chosen.width not in NARROWER:
        why = f"16, or {WIDE} where memory and at least {STEPS_TO_WIDEN} steps allow it"
    return Choice("model.width", chosen.width, why)
