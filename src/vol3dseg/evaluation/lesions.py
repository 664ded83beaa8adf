"""Lesions one by one: which were found, how well, and what was seen where there is none.

As the BraTS challenges judge since 2023 (Saluja et al., "BraTS 2023 Metrics"): parts of the
reference that touch after some dilation are one lesion; a lesion is found by every component of the
prediction that touches it, dilated; these components together are compared with it. Components that
touch no lesion are false. Lesions up to the smallest volume are not judged, but what finds one is
not false.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isnan, nan
from typing import Any

import numpy as np

from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.surface_distances import SurfaceKind, surface_distances
from vol3dseg.model.components import Components, Mask, component_library, components
from vol3dseg.space.box import Box

_ROUNDING = 1e-6  # sides of voxels are float32 in files


@dataclass(frozen=True, slots=True)
class LesionRule:
    """What a lesion is."""

    dilation: int = 0  # times that the mask grows by the neighbours of faces and edges
    smallest_mm3: float = 0  # a lesion of this volume or less is not judged
    connectivity: int = 26  # neighbours that hang together: 6, 18 or 26

    def __str__(self) -> str:
        return (
            f"{self.connectivity} neighbours hang together, parts that touch after {self.dilation} "
            f"dilations are one lesion, lesions up to {self.smallest_mm3:g} mm^3 are not judged"
        )


LESION_RULES: Mapping[str, LesionRule] = {
    "plain": LesionRule(),
    "brats-gli": LesionRule(dilation=3, smallest_mm3=50),
    "brats-ssa": LesionRule(dilation=3, smallest_mm3=50),
    "brats-ped": LesionRule(dilation=3, smallest_mm3=50),
    "brats-men": LesionRule(dilation=1, smallest_mm3=50),
    "brats-met": LesionRule(dilation=1, smallest_mm3=2),
}


def lesion_rule(text: str) -> LesionRule:
    """Return a rule by its name, or from words like "dilation=1,smallest_mm3=5,connectivity=6"."""
    if text in LESION_RULES:
        return LESION_RULES[text]
    words = [word.partition("=") for word in text.split(",")]
    given = {name.strip(): number.strip() for name, _, number in words}
    sound = len(given) == len(words)  # none is said twice
    try:
        found = LesionRule(
            dilation=int(given.pop("dilation", "0")),
            smallest_mm3=float(given.pop("smallest_mm3", "0")),
            connectivity=int(given.pop("connectivity", "26")),
        )
    except ValueError:
        sound = False
    if (
        not sound
        or given
        or not (0 <= found.dilation <= 20 and 0 <= found.smallest_mm3 < inf)
        or found.connectivity not in (6, 18, 26)
    ):
        raise EvaluationError(
            f"lesions={text!r} is no rule for lesions",
            expected=f"{', '.join(LESION_RULES)}; or dilation=0 to 20, smallest_mm3 and "
            "connectivity=6, 18 or 26, with commas between them",
            remedy="choose one of them",
        )
    return found


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion of the reference."""

    volume_mm3: float
    found: bool
    dice: float  # 0 where it was missed
    hd95_mm: float  # NaN where it was missed


@dataclass(frozen=True, slots=True)
class Lesions:
    """All lesions of one structure of a case."""

    judged: tuple[Lesion, ...]
    false: int  # components of the prediction that touch no lesion

    @property
    def found(self) -> int:
        """Judged lesions that something touches."""
        return sum(lesion.found for lesion in self.judged)

    def scores(self, none: float, none_mm: float, missed_mm: float) -> dict[str, float]:
        """Return the scores of the case: means over judged lesions and what is false.

        `none` and `none_mm` are Dice and HD95 [mm] where there is neither; `missed_mm` is the HD95
        of what is missed or false, NaN to leave it out.
        """
        total = len(self.judged) + self.false
        missed = total - self.found
        distances = [lesion.hd95_mm for lesion in self.judged if lesion.found]
        distances += [] if isnan(missed_mm) else [missed_mm] * missed
        dice = sum(lesion.dice for lesion in self.judged) / total if total else none
        hd95 = none_mm if not total else sum(distances) / len(distances) if distances else nan
        return {
            "lesion_dice": dice,
            "lesion_hd95_mm": hd95,
            "lesion_recall": self.found / len(self.judged) if self.judged else nan,
            "lesion_precision": self.found / (self.found + self.false)
            if self.found + self.false
            else nan,
            "lesions_found": float(self.found),
            "lesions_missed": float(len(self.judged) - self.found),
            "lesions_false": float(self.false),
        }


def lesions(
    reference: Mask,
    prediction: Mask,
    spacing_mm: tuple[float, float, float],
    rule: LesionRule,
    kind: SurfaceKind = "area",
) -> Lesions:
    """Compare the lesions of two masks, (i, j, k), one by one."""
    truth = _parts_of(reference, rule)
    seen, sizes = components(prediction, rule.connectivity)
    voxel_mm3 = float(np.prod(spacing_mm))
    boxes = _boxes(seen)
    touched = np.zeros(sizes.size, dtype=np.bool_)
    judged = []
    for number, box in _boxes(truth).items():
        wide = _grown(box, rule.dilation, reference.shape)
        alone = truth[wide.slices] == number
        hits = np.unique(seen[wide.slices][dilated(alone, rule.dilation)])
        hits = hits[hits > 0]
        touched[hits] = True
        volume_mm3 = int(alone.sum()) * voxel_mm3
        if volume_mm3 <= rule.smallest_mm3 * (1 + _ROUNDING):
            continue
        if not hits.size:
            judged.append(Lesion(volume_mm3, False, 0.0, nan))
            continue
        for hit in hits:
            box = box.union(boxes[hit])
        masks = truth[box.slices] == number, np.isin(seen[box.slices], hits)
        both, either = int((masks[0] & masks[1]).sum()), sum(int(mask.sum()) for mask in masks)
        pair = surface_distances(*masks, spacing_mm, kind)
        hd95 = pair.hausdorff_mm(95) if pair else nan
        judged.append(Lesion(volume_mm3, True, 2 * both / either, hd95))
    return Lesions(tuple(judged), int(np.count_nonzero(~touched[1:])))


def dilated(mask: Mask, times: int) -> Mask:
    """Return a mask grown, so many times, by what is beside it by a face or an edge."""
    for _ in range(times):
        i, j, k = (_along(mask, axis) for axis in range(3))
        mask = _along(i, 1) | _along(j, 2) | _along(k, 0)
    return mask


def _along(mask: Mask, axis: int) -> Mask:
    grown = mask.copy()
    first: list[Any] = [slice(None)] * 3
    second = list(first)
    first[axis], second[axis] = slice(-1), slice(1, None)
    grown[tuple(first)] |= mask[tuple(second)]
    grown[tuple(second)] |= mask[tuple(first)]
    return grown


def _parts_of(mask: Mask, rule: LesionRule) -> Components:
    """Return the lesion that each voxel of a mask is of, from 1 on; 0 outside."""
    found, _ = components(dilated(mask, rule.dilation), rule.connectivity)
    found[~mask] = 0
    return found


def _boxes(numbers: Components) -> dict[int, Box]:
    """Return the box around each component that has a voxel, by its number."""
    found = component_library().statistics(np.ascontiguousarray(numbers))["bounding_boxes"]
    boxes = {}
    for number, slices in enumerate(found):
        if number and slices is not None and all(s.stop > s.start for s in slices):
            start, stop = zip(*((s.start, s.stop) for s in slices), strict=True)
            boxes[number] = Box(start, stop)
    return boxes


def _grown(box: Box, by: int, shape: tuple[int, ...]) -> Box:
    i, j, k = (max(0, a - by) for a in box.start)
    x, y, z = (min(n, b + by) for b, n in zip(box.stop, shape, strict=True))
    return Box((i, j, k), (x, y, z))
