"""The lesion-wise rules of BraTS 2023 as published, by brute force: an oracle, not a tool.

Written from the description of the challenge (Saluja et al. 2023) with SciPy alone, every mask as
large as the volume. What HD95 is, is said by who calls it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

WORST_MM = 374.0
_FACES_AND_EDGES = ndimage.generate_binary_structure(3, 2)
_ALL = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class Judged:
    """What the challenge's table has for one structure of a case."""

    dice: float
    hd95_mm: float
    found: int
    missed: int
    false: int

    def as_dict(self) -> dict[str, float]:
        return {
            "lesion_dice": self.dice,
            "lesion_hd95_mm": self.hd95_mm,
            "lesions_found": self.found,
            "lesions_missed": self.missed,
            "lesions_false": self.false,
        }


def judged(
    reference,
    prediction,
    spacing_mm,
    dilations: int,
    smallest_mm3: float,
    hd95: Callable[..., float],
) -> Judged:
    grown = _grown(reference, dilations)
    lesions, count = ndimage.label(grown, _ALL)
    lesions = lesions * reference
    components, components_count = ndimage.label(prediction, _ALL)
    touching: set[int] = set()
    dice, distances, missed = [], [], 0
    for number in range(1, count + 1):
        lesion = lesions == number
        hits = set(np.unique(components[_grown(lesion, dilations)]).tolist()) - {0}
        touching |= hits
        if lesion.sum() * np.prod(spacing_mm) <= smallest_mm3:
            continue
        if hits:
            seen = np.isin(components, sorted(hits))
            dice.append(2 * (lesion & seen).sum() / (lesion.sum() + seen.sum()))
            distances.append(hd95(lesion, seen, spacing_mm))
        else:
            missed += 1
            dice.append(0.0)
            distances.append(WORST_MM)
    false = components_count - len(touching)
    total = len(dice) + false
    if not total:
        return Judged(1.0, 0.0, 0, 0, 0)
    worst = WORST_MM * false
    found = len(dice) - missed
    return Judged(sum(dice) / total, (sum(distances) + worst) / total, found, missed, false)


def _grown(mask, times: int):
    return ndimage.binary_dilation(mask, _FACES_AND_EDGES, times) if times else mask
