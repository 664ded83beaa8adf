"""A network drafted by what is known of the machine, measured, and drafted again until it holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from vol3dseg.config import Config
from vol3dseg.errors import ConfigError
from vol3dseg.planning.choices import Choice, config_of
from vol3dseg.planning.design_rules import Design, Room, design, patches
from vol3dseg.planning.reasons import design_choices
from vol3dseg.planning.step_speed import Measure
from vol3dseg.planning.workload import Speed, Workload, growth_share

_TRIAL_SIDE = 64  # voxels
_ROUNDS = 3  # of measuring what was chosen


@dataclass(frozen=True, slots=True)
class Limits:
    """What a training may take; `given` says whether somebody has set the memory."""

    memory_mb: float
    seconds: float
    given: bool = True


@dataclass(frozen=True, slots=True)
class Draft:
    """What is chosen before the network, and what is known of the work."""

    fixed: list[Choice]
    work: Workload
    limits: Limits
    cases: int

    def config(self, design: Design) -> Config:
        """Return the config with this network, for the estimates."""
        return config_of([*self.fixed, *design_choices(design, self.work, 0.0, given=False)])

    def design(self, spacing_mm: Sequence[float], speed: Speed) -> Design:
        """Return the network that memory and time allow; ConfigError where there is none."""
        work, limits = self.work, self.limits

        def fits(design: Design) -> bool:
            estimate = work.memory(self.config(design), speed)
            return estimate.total_mb <= limits.memory_mb

        def steps(design: Design) -> float:
            config = self.config(design)
            left = limits.seconds - work.around_s(config, speed)
            return left / (work.step_s(config, speed) * growth_share(config))

        all_voxels = self.cases * work.voxels
        chosen = design(spacing_mm, work.shape, all_voxels, Room(fits, steps))
        if chosen is None:
            raise ConfigError(
                f"{limits.memory_mb:.0f} MB of memory are too little for the smallest network",
                expected=f"more than the {speed.program_mb:.0f} MB that the program takes",
                remedy="give more with --memory",
            )
        return chosen


def settled(draft: Draft, spacing_mm: Sequence[float], measure: Measure) -> tuple[Design, Speed]:
    """Return a network that is chosen by the speed that it has itself, and that speed.

    Others may be quicker or slower for their arithmetic than the one that they were chosen by. Of
    two that are chosen by each other's speed it is the smaller.
    """
    chosen = _trial(draft, spacing_mm)
    measured = {chosen: measure(draft.config(chosen))}
    for _ in range(_ROUNDS):
        again = draft.design(spacing_mm, measured[chosen])
        if again in measured:
            chosen = min(chosen, again, key=lambda each: each.voxels * each.batch * each.width)
            break
        measured[again] = measure(draft.config(again), measured[chosen])
        chosen = again
    return chosen, measured[chosen]


def _trial(draft: Draft, spacing_mm: Sequence[float]) -> Design:
    """Return a network to measure the machine by: that of a patch of at most 64 voxels a side."""
    shape = [min(n, _TRIAL_SIDE) for n in draft.work.shape]
    patch, levels = next(patches(spacing_mm, shape))
    return Design(patch, levels)
