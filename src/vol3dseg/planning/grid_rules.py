"""Rules for the working grid and the network's shape on it: spacing, strides and kernels.

They are those that nnU-Net has published: F. Isensee et al., "nnU-Net: a self-configuring method
for deep learning-based biomedical image segmentation", Nature Methods 18, 2021, supplementary note.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vol3dseg.planning.case_measures import Spacing
from vol3dseg.planning.choices import Choice
from vol3dseg.planning.fingerprint import Fingerprint
from vol3dseg.space.box import Shape

ANISOTROPIC = 3.0  # ratio of spacings, and of sides, from which on an axis is coarse
COARSE_PERCENTILE = 10.0
POOLED = 8  # voxels that an axis must have to be halved: four are left
WITHIN = 2.0  # times the finest spacing: coarser axes are not halved, and convolved not yet
DEEPEST = 5
_SAME = 0.01  # that spacings may differ by and still be one

Triples = tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """The levels of a network: what each step down divides by, and the kernels of each level."""

    strides: Triples
    kernels: Triples

    @property
    def depth(self) -> int:
        """How many levels lie below the full grid."""
        return len(self.strides)

    @property
    def divisor(self) -> Shape:
        """What the sides of a patch must be multiples of [voxels]."""
        i, j, k = (int(n) for n in np.prod(np.array([(1, 1, 1), *self.strides]), axis=0))
        return i, j, k


def target_spacing(spacings_mm: NDArray[np.float64], shapes: NDArray[np.float64]) -> Spacing:
    """Return the median spacing; along a coarse axis its 10th percentile, if finer.

    `spacings_mm` and `shapes` are (case, 3). An axis is coarse where its spacing exceeds three
    times that of the others, and the others have more than three times as many voxels.
    """
    target = np.median(spacings_mm, axis=0)
    sides = np.median(shapes * spacings_mm / target, axis=0)
    worst = int(target.argmax())
    others = [axis for axis in range(3) if axis != worst]
    coarse = target[worst] > ANISOTROPIC * target[others].max()
    if coarse and ANISOTROPIC * sides[worst] < sides[others].min():
        finer = float(np.percentile(spacings_mm[:, worst], COARSE_PERCENTILE))
        target[worst] = max(finer, target[others].max())
    i, j, k = (float(f"{s:.5g}") for s in target)
    return i, j, k


def choose_spacing(found: Fingerprint) -> tuple[Choice, Spacing]:
    """Return what scans are resampled to, and the spacing that they have afterwards."""
    spacings, shapes = found.spacings_mm, found.shapes(None, cropped=False)
    target = target_spacing(spacings, shapes)
    low, high = spacings.min(axis=0), spacings.max(axis=0)
    ends = " x ".join(
        f"{a:.3g}" if b <= a * (1 + _SAME) else f"{a:.3g}-{b:.3g}"
        for a, b in zip(low, high, strict=True)
    )
    if np.all(high <= low * (1 + _SAME)):
        why = f"all {len(spacings)} scans have {ends} mm, within {100 * _SAME:.0f} %: kept"
        return Choice("recipe.spacing_mm", None, why), target
    why = f"spacings are {ends} mm: their median"
    if not np.allclose(target, np.median(spacings, axis=0), rtol=1e-3):
        why += (
            f", along the coarse axis (spacing and sides differ more than {ANISOTROPIC:g} times) "
            f"percentile {COARSE_PERCENTILE:g}"
        )
    return Choice("recipe.spacing_mm", list(target), why), target


def topology(spacing_mm: Sequence[float], patch: Sequence[float]) -> Topology:
    """Return strides and kernels for a patch.

    A level halves the axes that have 8 voxels or more and whose spacing is below twice that of the
    finest of them; spacing doubles with each. A kernel is 1 along an axis whose spacing is twice
    the finest or more on its level, or that has one voxel, and 3 elsewhere. Where no axis has 8
    voxels the longest is halved, since a network has one level at least.
    """
    sides, space = [max(1, int(n)) for n in patch], list(spacing_mm)
    strides: list[Shape] = []
    kernels = [_kernel(space, sides)]
    while len(strides) < DEEPEST:
        able = [axis for axis in range(3) if sides[axis] >= POOLED]
        finest = min((space[axis] for axis in able), default=0.0)
        i, j, k = (2 if a in able and space[a] < WITHIN * finest else 1 for a in range(3))
        if not able and not strides:
            longest = sides.index(max(sides))
            i, j, k = (2 if axis == longest else 1 for axis in range(3))
        if (i, j, k) == (1, 1, 1):
            break
        strides.append((i, j, k))
        sides = [-(-side // s) for side, s in zip(sides, strides[-1], strict=True)]
        space = [each * s for each, s in zip(space, strides[-1], strict=True)]
        kernels.append(_kernel(space, sides, kernels[-1]))
    return Topology(tuple(strides), tuple(kernels))


def _kernel(space: Sequence[float], sides: Sequence[int], before: Shape = (1, 1, 1)) -> Shape:
    if max(sides) == 1:  # nothing to choose by
        return 3, 3, 3
    finest = min(space[axis] for axis in range(3) if sides[axis] > 1)
    i, j, k = (
        3 if side > 1 and (b == 3 or each < WITHIN * finest) else 1
        for each, side, b in zip(space, sides, before, strict=True)
    )
    return i, j, k
