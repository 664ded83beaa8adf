"""How cases are judged: by which rules, and by which scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.empty_masks import RULES, EmptyMasks, EmptyRule
from vol3dseg.evaluation.lesions import LesionRule
from vol3dseg.evaluation.surface_distances import SurfaceKind

TOLERANCE_MM = 1.0  # of the surface Dice, where nobody says another


@dataclass(frozen=True, slots=True)
class Judging:
    """Rules that all cases of an evaluation are judged by; without more, overlap alone."""

    empty: EmptyRule = "undefined"
    surface: SurfaceKind | None = None  # None: no distances
    tolerance_mm: float = TOLERANCE_MM
    tolerances_mm: Mapping[str, float] = field(default_factory=dict)  # by structure
    lesions: LesionRule | None = None  # None: lesions are not told apart

    @property
    def rule(self) -> EmptyMasks:
        """What an empty mask counts."""
        return RULES[self.empty]

    def tolerance_of(self, structure: str) -> float:
        """Return the tolerance [mm] of the surface Dice of a class or region."""
        return self.tolerances_mm.get(structure, self.tolerance_mm)

    def require_structures(self, names: tuple[str, ...]) -> None:
        """Refuse a tolerance of what is neither a class nor a region."""
        strange = [name for name in self.tolerances_mm if name not in names]
        if strange:
            raise EvaluationError(
                f"there is a tolerance for {', '.join(strange)}",
                expected=f"classes or regions, which are {', '.join(names)}",
                remedy="correct the name",
            )

    def in_words(self) -> tuple[str, ...]:
        """Say by what rules distances and lesions are judged."""
        said = []
        if self.surface == "area":
            said.append(
                "Surfaces run between voxels, each point with its area (surface-distance, BraTS "
                "2023, Medical Segmentation Decathlon); distances are in mm."
            )
        elif self.surface == "voxels":
            said.append(
                "Surfaces are the outermost voxels, each counted as one (MONAI, MetricsReloaded); "
                "distances are in mm."
            )
        if self.surface:
            others = "".join(f", {name} {mm:g} mm" for name, mm in self.tolerances_mm.items())
            said.append(f"The tolerance of the surface Dice is {self.tolerance_mm:g} mm{others}.")
        if self.lesions:
            said.append(f"Lesions: {self.lesions}.")
            if not self.surface:
                said.append(
                    "Distances of lesions are between surfaces by area, in mm; no others were "
                    "asked for."
                )
        return tuple(said)


OVERLAP = Judging()  # and nothing more


def tolerances(words: tuple[str, ...]) -> tuple[float, dict[str, float]]:
    """Return the tolerance [mm] of all structures, and others by name, from "1.5" or "edema=2"."""
    of_all, others = TOLERANCE_MM, {}
    for word in words:
        name, _, number = word.rpartition("=")
        try:
            mm = float(number)
        except ValueError:
            mm = -1.0
        if not (isfinite(mm) and mm >= 0):
            raise EvaluationError(
                f"tolerance {word!r} is no distance",
                expected="millimetres, such as 1.5, or edema=2 for one structure",
                remedy="give a number that is not negative",
            )
        if name:
            others[name] = mm
        else:
            of_all = mm
    return of_all, others
