"""What scores are where a mask is empty: rules with names, as others have them.

Where neither reference nor prediction has a structure, Dice is 0 / 0 and there is no surface; where
one of them has it alone, no distance exists. What counts then decides means more than most models
do, so every output names its rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot, inf, nan
from typing import Literal, get_args

from vol3dseg.errors import EvaluationError
from vol3dseg.space.geometry import Geometry

EmptyRule = Literal["undefined", "one", "brats-2020", "brats-2023", "metrics-reloaded", "diagonal"]


@dataclass(frozen=True, slots=True)
class EmptyMasks:
    """One rule; NaN is left out of means."""

    meaning: str  # for reports
    dice: float  # where both are empty
    overlap: float  # IoU, precision, sensitivity where both are empty
    distance_mm: float  # HD, HD95, ASSD where both are empty
    surface_dice: float  # where both are empty
    missed_mm: float  # distances where one is empty alone; infinite: the diagonal of the volume

    def neither(self, metric: str) -> float:
        """Return a metric of overlap where both are empty."""
        return self.dice if metric == "dice" else self.overlap

    def missed_on(self, grid: Geometry) -> float:
        """Return the distance [mm] where only one of both has a structure."""
        if self.missed_mm != inf:
            return self.missed_mm
        return hypot(*(n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True)))


_OVERLAP = "Dice, IoU, precision, sensitivity"
_LEFT_OUT = "left out of the means"
_ALWAYS = (
    "Where only one of the two has it, Dice, IoU and surface Dice are 0; precision without "
    "predicted voxels and sensitivity without reference voxels are undefined and "
    f"{_LEFT_OUT}."
)
_NEITHER = "Where neither reference nor prediction has a structure,"
_ONES = f"{_NEITHER} {_OVERLAP} and surface Dice count as 1, and distances as 0"
_WITHOUT = (
    f"Distances are undefined then and {_LEFT_OUT}, which flatters them: the number of cases that "
    "a mean rests on says how much."
)

RULES: Mapping[EmptyRule, EmptyMasks] = {
    "undefined": EmptyMasks(
        f"{_NEITHER} {_OVERLAP}, distances and surface Dice are undefined and {_LEFT_OUT}. "
        f"{_ALWAYS} {_WITHOUT}",
        nan, nan, nan, nan, nan,
    ),
    "one": EmptyMasks(f"{_ONES}. {_ALWAYS} {_WITHOUT}", 1.0, 1.0, 0.0, 1.0, nan),
    "brats-2020": EmptyMasks(
        f"{_ONES}, as the BraTS challenge counted until 2022. {_ALWAYS} Distances are 373.13 mm "
        "then, the diagonal of a BraTS volume.",
        1.0, 1.0, 0.0, 1.0, hypot(240, 240, 155),
    ),
    "brats-2023": EmptyMasks(
        f"{_ONES}, as the BraTS challenge counts since 2023. {_ALWAYS} Distances are 374 mm then.",
        1.0, 1.0, 0.0, 1.0, 374.0,
    ),
    "metrics-reloaded": EmptyMasks(
        f"{_NEITHER} Dice and surface Dice count as 1, and distances as 0; IoU, precision and "
        f"sensitivity are undefined and {_LEFT_OUT}, as MetricsReloaded has it. {_ALWAYS} "
        f"{_WITHOUT}",
        1.0, nan, 0.0, 1.0, nan,
    ),
    "diagonal": EmptyMasks(
        f"{_NEITHER} {_OVERLAP}, distances and surface Dice are undefined and {_LEFT_OUT}. "
        f"{_ALWAYS} Distances are the diagonal of the volume then.",
        nan, nan, nan, nan, inf,
    ),
}  # fmt: skip


def require_rule(name: str) -> None:
    """Refuse a name that no rule has."""
    if name not in RULES:
        raise EvaluationError(
            f"empty={name!r} is no rule for empty masks",
            expected=", ".join(get_args(EmptyRule)),
            remedy="choose one of them",
        )
