"""What we say of a pair of masks, the way `evaluate` says it, and the parts it is made of."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from tests.oracle.masks import Pair
from vol3dseg.evaluation.judging import Judging
from vol3dseg.evaluation.lesions import LESION_RULES, Lesions, lesions
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.evaluation.surface_distances import SurfaceKind, SurfacePair, surface_distances
from vol3dseg.model.components import components
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet, Segmentation

LABELS = LabelSet(
    classes=[Label(name=name, read=(n,), write=n) for n, name in enumerate(["rest", "tumour"])]
)


def scores(pair: Pair, judging: Judging, affine=None) -> dict[str, float]:
    """Return all scores of the one class."""
    grid = Geometry(
        pair.reference.shape, np.diag([*pair.spacing_mm, 1]) if affine is None else affine
    )
    maps = (
        Segmentation(mask.astype(np.uint8), grid, LABELS)
        for mask in (pair.reference, pair.prediction)
    )
    return dict(evaluate_case("a", *maps, judging).structures["tumour"])


@cache
def _scores(pair: Pair, surface: SurfaceKind | None, mm: float) -> dict[str, float]:
    return scores(pair, Judging(surface=surface, tolerance_mm=mm))


@cache
def _lesion_scores(pair: Pair, challenge: str, surface: SurfaceKind) -> dict[str, float]:
    rule = LESION_RULES[f"brats-{challenge}"]
    return scores(pair, Judging(empty="brats-2023", surface=surface, lesions=rule))


@dataclass(frozen=True)
class Ours:
    """What we say of one pair."""

    pair: Pair

    @property
    def masks(self):
        return self.pair.reference, self.pair.prediction

    @property
    def in_voxels(self) -> "Ours":
        """The same on a grid of 1 mm."""
        return Ours(replace(self.pair, spacing_mm=(1.0, 1.0, 1.0)))

    def score(self, name: str, surface: SurfaceKind | None = None, mm: float = 1.0) -> float:
        """Return a score by its name."""
        return _scores(self.pair, surface, mm)[name]

    def lesion_score(self, name: str, challenge: str, surface: SurfaceKind) -> float:
        """Return a lesion-wise score as BraTS 2023 has it."""
        return _lesion_scores(self.pair, challenge, surface)[name]

    def surfaces(self, kind: SurfaceKind) -> SurfacePair:
        """Return the distances between both surfaces."""
        found = surface_distances(*self.masks, self.pair.spacing_mm, kind)
        assert found is not None
        return found

    @property
    def outermost(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances of the outermost voxels, there and back."""
        found = self.surfaces("voxels")
        return found.there.mm, found.back.mm

    @property
    def lesions(self) -> Lesions:
        """Lesions told apart by nothing but gaps."""
        return lesions(*self.masks, self.pair.spacing_mm, LESION_RULES["plain"], "voxels")

    @property
    def mean_dice_of_found(self) -> float:
        return float(np.mean([lesion.dice for lesion in self.lesions.judged if lesion.found]))

    @property
    def is_one_to_one(self) -> bool:
        """Whether each lesion is touched by at most one component, and each touches at most one."""
        (truth, _), (seen, _) = map(components, self.masks)
        both = (truth > 0) & (seen > 0)
        touching = {*zip(truth[both].tolist(), seen[both].tolist(), strict=True)}
        return len({a for a, _ in touching}) == len({b for _, b in touching}) == len(touching)

    @property
    def overlaps(self) -> bool:
        return bool((self.pair.reference & self.pair.prediction).any())

    @property
    def leaves_background(self) -> bool:
        return not any(mask.all() for mask in self.masks)
