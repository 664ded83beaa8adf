"""How others put distances and components together where they do it otherwise, from our parts."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage, optimize

from tests.oracle.ours import Ours
from vol3dseg.evaluation.surface_distances import surface_distances
from vol3dseg.model.components import components

UNMATCHED = 1 + 1e-6  # what a pair without overlap costs


def pooled95(there, back) -> float:
    """Return the percentile of both directions in one heap."""
    return float(np.percentile(np.concatenate([there, back]), 95))


def mean_of_means(ours: Ours) -> float:
    """Return the mean of the two directions' mean distances, by area."""
    found = ours.surfaces("area")
    return (found.there.moment / found.there.area + found.back.moment / found.back.area) / 2


def mean_of_shares(ours: Ours) -> float:
    """Return the mean of the shares of outermost voxels no further than 0.5 voxels."""
    return float(np.mean([np.mean(mm <= 0.5) for mm in ours.in_voxels.outermost]))


def of_full_contours(reduce: Callable[..., float]) -> Callable[[Ours], float]:
    """Return what takes distances between voxels with an outside neighbour, even by a corner."""

    def score(ours: Ours) -> float:
        pair, every = ours.pair, ndimage.generate_binary_structure(3, 3)
        first, second = (  # what is beyond the array counts as the mask here
            mask & ~ndimage.binary_erosion(mask, every, border_value=1)
            for mask in (pair.reference, pair.prediction)
        )
        fields = (
            ndimage.distance_transform_edt(~mask, sampling=pair.spacing_mm)
            for mask in (second, first)
        )
        there, back = (mm[mask] for mm, mask in zip(fields, (first, second), strict=True))
        return float(reduce(there, back))

    return score


def of_sets(ours: Ours) -> float:
    """Return the largest distance from any voxel of a mask to the other mask."""
    pair = ours.pair
    masks = pair.reference, pair.prediction
    return max(
        float(ndimage.distance_transform_edt(~other, sampling=pair.spacing_mm)[mask].max())
        for mask, other in (masks, masks[::-1])
    )


def by_both_volumes(ours: Ours) -> float:
    """Return the difference of the volumes by their mean."""
    reference, prediction = ours.score("reference_ml"), ours.score("prediction_ml")
    return 2 * (prediction - reference) / (prediction + reference)


def matched(what: str) -> Callable[[Ours], float]:
    """Return what takes a score of pairs of one lesion and one component with the most Dice."""

    def score(ours: Ours) -> float:
        masks = ours.pair.reference, ours.pair.prediction
        (truth, of_truth), (seen, of_seen) = (components(mask) for mask in masks)
        sizes = of_truth[1:, None] + of_seen[None, 1:]
        both = np.zeros((of_truth.size, of_seen.size))
        np.add.at(both, (truth.ravel(), seen.ravel()), 1)
        dice = 2 * both[1:, 1:] / sizes
        pairs = zip(
            *optimize.linear_sum_assignment(np.where(dice > 0, 1 - dice, UNMATCHED)), strict=True
        )
        found = [(i, j) for i, j in pairs if dice[i, j] > 0]
        if what == "found":
            return len(found)
        if what == "missed":
            return of_truth.size - 1 - len(found)
        if what == "false":
            return of_seen.size - 1 - len(found)
        if what == "dice":
            return float(np.mean([dice[pair] for pair in found]))
        distances = []
        for i, j in found:
            parts = truth == i + 1, seen == j + 1
            each = surface_distances(*parts, ours.pair.spacing_mm, "voxels")
            assert each is not None
            distances.append(pooled95(each.there.mm, each.back.mm))
        return float(np.mean(distances))

    return score
