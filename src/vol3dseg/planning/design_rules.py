"""Rules for patch, batch and width: the largest that memory and time allow."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from vol3dseg.planning.grid_rules import POOLED, Topology, topology
from vol3dseg.space.box import Shape

LARGEST = 256**3  # voxels of a patch to begin with, of equal sides in mm (nnU-Net's)
WIDTH, WIDE = 16, 32
NARROWER = (8, 4)  # where memory allows no more
SUPERVISED = 3  # depth from which on the loss is taken at coarser levels as well
FEWEST_STEPS = 500  # that a patch of this size must leave time for
STEPS_TO_DOUBLE = 750  # left after the batch is doubled
STEPS_TO_WIDEN = 2000  # left with 32 filters
SMALLEST = 32**3  # voxels: time does not make patches smaller
BATCH, LARGEST_BATCH = 2, 4
BATCH_SHARE = 0.05  # of all voxels of the data set that a batch may hold (nnU-Net's)


@dataclass(frozen=True, slots=True)
class Design:
    """The size of a network and of what it sees at once."""

    patch: Shape
    levels: Topology
    width: int = WIDTH
    batch: int = BATCH

    @property
    def voxels(self) -> int:
        """Voxels of a patch."""
        return math.prod(self.patch)


@dataclass(frozen=True, slots=True)
class Room:
    """What memory and time allow: functions of a design."""

    fits: Callable[[Design], bool]
    steps: Callable[[Design], float]  # that there is time for


def design(
    spacing_mm: Sequence[float], shape: Sequence[float], all_voxels: float, room: Room
) -> Design | None:
    """Return the design for scans of a median shape; None where not even the smallest fits.

    Patches begin with the scan, or 256^3 voxels of equal sides in mm where that is smaller along an
    axis, rounded up to what the levels divide by. The axis that covers most of its scan gives way
    until batches of two fit into memory and there is time for 500 steps; time makes none smaller
    than 32^3 voxels. Then the batch doubles to 4 as long as it fits, 750 steps are left, and it
    shows at most 5 % of all voxels; last, the width doubles if 2000 steps are left.
    """
    chosen = _largest(spacing_mm, shape, room)
    if chosen is None:
        return None
    while chosen.batch < LARGEST_BATCH:
        double = replace(chosen, batch=2 * chosen.batch)
        seen = math.prod(min(p, n) for p, n in zip(chosen.patch, shape, strict=True))
        if double.batch * seen > BATCH_SHARE * all_voxels or not room.fits(double):
            break
        if room.steps(double) < STEPS_TO_DOUBLE:
            break
        chosen = double
    wide = replace(chosen, width=WIDE)
    if chosen.width == WIDTH and room.fits(wide) and room.steps(wide) >= STEPS_TO_WIDEN:
        return wide
    return chosen


def _largest(spacing_mm: Sequence[float], shape: Sequence[float], room: Room) -> Design | None:
    for width in (WIDTH, *NARROWER):
        for patch, levels in patches(spacing_mm, shape):
            each = Design(patch, levels, width)
            in_time = each.voxels <= SMALLEST or room.steps(each) >= FEWEST_STEPS
            if in_time and room.fits(each):
                return each
    return None


def patches(
    spacing_mm: Sequence[float], shape: Sequence[float]
) -> Iterator[tuple[Shape, Topology]]:
    """Give patches with their levels, from the largest to one of 8 voxels a side."""
    sides = _first(spacing_mm, shape)
    while True:
        levels = topology(spacing_mm, sides)
        i, j, k = (d * -(-n // d) for n, d in zip(sides, levels.divisor, strict=True))
        yield (i, j, k), levels
        sides = [i, j, k]
        able = [axis for axis in range(3) if sides[axis] > POOLED]
        if not able:
            return
        axis = max(able, key=lambda a: sides[a] / shape[a])
        sides[axis] = max(POOLED, sides[axis] - levels.divisor[axis])


def _first(spacing_mm: Sequence[float], shape: Sequence[float]) -> list[int]:
    side_mm = (LARGEST * math.prod(spacing_mm)) ** (1 / 3)
    return [
        max(1, min(math.ceil(n), round(side_mm / s)))
        for n, s in zip(shape, spacing_mm, strict=True)
    ]
