"""How far the surfaces of two masks are from each other.

With a(x) the area that a point x of a surface stands for, and d(x) its distance to the nearest
point of the other surface:

========  ===============================================  ========================================
HD        the largest d, of either surface                 Hausdorff 1914
HD95      the larger of the two 95th percentiles of d      Huttenlocher et al. 1993
ASSD      sum of a d over sum of a, both surfaces together  Heimann et al. 2009
NSD       share of the area with d at most a tolerance     Nikolov et al. 2021
========  ===============================================  ========================================

What the surface is can be chosen. "area": points between voxels, each with the area of the surface
there (`surfel_areas`), which is right on anisotropic grids too; as surface-distance, the Medical
Segmentation Decathlon and BraTS 2023 have it. "voxels": the centres of voxels of the mask that have
a neighbour outside by a face, each counted as one, and percentiles between the two nearest; as
MONAI and MetricsReloaded have it. What is beyond the array is not of the mask.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.evaluation.surfel_areas import surfel_areas
from vol3dseg.extras import load_extra
from vol3dseg.machine import on_one_core
from vol3dseg.space.box import Box

SurfaceKind = Literal["area", "voxels"]
Mask = NDArray[np.bool_]
_ROUNDING = 1e-6  # float32 has 1.1 mm as more than that: neighbours at just the tolerance are near


@dataclass(frozen=True, slots=True)
class Surface:
    """The points of a surface on a grid that others of its kind share."""

    points: NDArray[np.int64]  # their places in memory's order
    shape: tuple[int, ...]  # of the grid
    areas: NDArray[np.float64] | None  # [mm^2] of each; None: all alike

    def beyond(self) -> Mask:
        """Return where the surface is not."""
        found = np.ones(self.shape, dtype=np.bool_)
        found.ravel()[self.points] = False
        return found


@dataclass(frozen=True, slots=True)
class Distances:
    """Distances [mm] from the points of one surface to another, ascending, with their areas."""

    mm: NDArray[np.float32]
    areas: NDArray[np.float64] | None

    @property
    def area(self) -> float:
        """Area of the surface [mm^2]; its points where all count alike."""
        return float(self.mm.size if self.areas is None else self.areas.sum())

    @property
    def moment(self) -> float:
        """Sum of the distances, each times its area."""
        mm = self.mm.astype(np.float64)
        return float((mm if self.areas is None else mm * self.areas).sum())

    def within(self, tolerance_mm: float) -> float:
        """Return the area whose distance is at most so much, but for rounding."""
        count = int(np.searchsorted(self.mm, tolerance_mm * (1 + _ROUNDING), side="right"))
        return float(count if self.areas is None else self.areas[:count].sum())

    def percentile(self, percent: float) -> float:
        """Return the distance [mm] that so much of the area does not exceed."""
        if self.areas is None:
            return float(np.percentile(self.mm, percent))
        reached = np.cumsum(self.areas) / self.areas.sum()
        place = int(np.searchsorted(reached, percent / 100))
        return float(self.mm[min(place, self.mm.size - 1)])


@dataclass(frozen=True, slots=True)
class SurfacePair:
    """Both ways between two surfaces, of which each has a point."""

    there: Distances
    back: Distances

    def hausdorff_mm(self, percent: float = 100) -> float:
        """Return the larger of the two percentiles [mm]."""
        return max(self.there.percentile(percent), self.back.percentile(percent))

    @property
    def average_mm(self) -> float:
        """Average symmetric surface distance [mm]."""
        return (self.there.moment + self.back.moment) / (self.there.area + self.back.area)

    def surface_dice(self, tolerance_mm: float) -> float:
        """Return the share of both surfaces that is within the tolerance of the other."""
        near = self.there.within(tolerance_mm) + self.back.within(tolerance_mm)
        return near / (self.there.area + self.back.area)


def surface_of(mask: Mask, spacing_mm: tuple[float, float, float], kind: SurfaceKind) -> Surface:
    """Return the surface of a mask, (i, j, k); a point between voxels makes one more an axis."""
    if kind == "area":
        codes = np.pad(mask.view(np.uint8), 1)
        for axis, bits in ((2, 1), (1, 2), (0, 4)):  # from 8 to 1 voxels a code, an axis at a time
            first, second = (_part(codes, axis, part) for part in (slice(-1), slice(1, None)))
            codes = np.asarray(first | second << bits, dtype=np.uint8)
            del first, second
        table = surfel_areas(spacing_mm)
        points = np.flatnonzero((codes - 1) < 254)  # 0 becomes 255: neither all nor none
        return Surface(points, codes.shape, table[codes.ravel()[points]])
    inner = np.pad(mask, 1)
    core = inner[1:-1, 1:-1, 1:-1]
    enclosed = core.copy()
    for axis in range(3):
        for part in (slice(-2), slice(2, None)):
            rest = [slice(1, -1)] * 3
            rest[axis] = part
            enclosed &= inner[tuple(rest)]
    np.logical_not(enclosed, out=enclosed)
    enclosed &= core
    return Surface(np.flatnonzero(enclosed), enclosed.shape, None)


def surface_distances(
    reference: Mask,
    prediction: Mask,
    spacing_mm: tuple[float, float, float],
    kind: SurfaceKind = "area",
    threads: int = 1,
) -> SurfacePair | None:
    """Return the distances between the surfaces of two masks; None where one of them is empty.

    Parameters
    ----------
    reference, prediction : (i, j, k) array of bool
    spacing_mm : (3,) tuple of float
        Sides of a voxel.
    kind : "area" or "voxels"
    threads : int
        That look for the nearest points.
    """
    boxes = [Box.around(mask) for mask in (reference, prediction)]
    if boxes[0] is None or boxes[1] is None:
        return None
    part = boxes[0].union(boxes[1]).slices
    first, second = (surface_of(m[part], spacing_mm, kind) for m in (reference, prediction))
    return SurfacePair(
        _distances(first, second, spacing_mm, threads),
        _distances(second, first, spacing_mm, threads),
    )


def distance_library() -> Any:
    """Return the package that finds distances; `MissingExtraError` where it is not installed."""
    return load_extra("edt", "evaluate")  # 13 MB that no predictor needs


def _distances(
    surface: Surface, other: Surface, spacing_mm: tuple[float, float, float], threads: int
) -> Distances:
    away = other.beyond().view(np.uint8)  # edt 3.1 takes half as long again for bool
    # Also a single thread is one of edt's own, for which this one waits.
    with on_one_core() if threads == 1 else nullcontext():
        field = distance_library().edt(away, anisotropy=spacing_mm, parallel=threads)
    mm = field.ravel()[surface.points]
    del field
    if surface.areas is None:
        return Distances(np.sort(mm), None)
    order = np.argsort(mm, kind="stable")
    return Distances(mm[order], surface.areas[order])


def _part(codes: NDArray[np.uint8], axis: int, part: slice) -> NDArray[np.uint8]:
    whole: list[Any] = [slice(None)] * 3
    whole[axis] = part
    found: NDArray[np.uint8] = codes[tuple(whole)]
    return found
