"""Scores of one structure of a case beyond overlap: distances, lesions, volumes."""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from vol3dseg.evaluation.judging import Judging
from vol3dseg.evaluation.lesions import Lesions, lesions
from vol3dseg.evaluation.overlap import METRICS
from vol3dseg.evaluation.surface_distances import SurfaceKind, surface_distances
from vol3dseg.machine import usable_cores
from vol3dseg.model.components import Mask, looked_up
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import IGNORED

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Score:
    """What a score is called, and whether more of it is better."""

    name: str  # in columns and keys of files; what is measured in something ends with the unit
    title: str  # in tables and pictures
    better: int = 0  # 1: higher is better; -1: lower is; 0: neither
    is_share: bool = True  # lies between 0 and 1


SURFACE_DICE = "surface_dice"
HD95 = "hd95_mm"
SCORES = (
    *(Score(metric.name, metric.title, 1) for metric in METRICS),
    Score("hd_mm", "HD [mm]", -1, is_share=False),
    Score(HD95, "HD95 [mm]", -1, is_share=False),
    Score("assd_mm", "ASSD [mm]", -1, is_share=False),
    Score(SURFACE_DICE, "surface Dice", 1),
    Score("lesion_dice", "lesion-wise Dice", 1),
    Score("lesion_hd95_mm", "lesion-wise HD95 [mm]", -1, is_share=False),
    Score("lesion_recall", "lesion recall", 1),
    Score("lesion_precision", "lesion precision", 1),
    Score("lesions_found", "lesions found", is_share=False),
    Score("lesions_missed", "lesions missed", -1, is_share=False),
    Score("lesions_false", "false lesions", -1, is_share=False),
    Score("volume_error", "relative volume error", is_share=False),
    Score("reference_ml", "reference [ml]", is_share=False),
    Score("prediction_ml", "prediction [ml]", is_share=False),
)


def volumes(reference_ml: float, prediction_ml: float) -> dict[str, float]:
    """Return the volumes of a structure, and by how much the prediction is too large."""
    error = (prediction_ml - reference_ml) / reference_ml if reference_ml else nan
    return {
        "volume_error": error,
        "reference_ml": reference_ml,
        "prediction_ml": prediction_ml,
    }


class Shapes:
    """Two label maps on one grid, whose structures are compared by their shapes."""

    def __init__(self, reference: Labels, prediction: Labels, grid: Geometry) -> None:
        self._spacing_mm = grid.spacing_mm
        # As memory has them, since planes are read one by one, and no distance asks for more.
        if abs(reference.strides[0]) < abs(reference.strides[2]):
            reference, prediction = reference.T, prediction.T
            self._spacing_mm = grid.spacing_mm[::-1]
        part = _around([labels != 0 for labels in (reference, prediction)]).slices
        self._whole = reference, prediction
        self._maps = tuple(np.ascontiguousarray(labels[part]) for labels in self._whole)
        self._grid = grid
        self._ignores = any(bool((plane == IGNORED).any()) for plane in self._maps[0])

    def scores(
        self, name: str, members: tuple[int, ...], judging: Judging
    ) -> tuple[dict[str, float], Lesions | None]:
        """Return scores of the union of some classes, and its lesions where they are asked for."""
        masks = self._masks(members)
        found: dict[str, float] = {}
        parts = None
        if judging.surface is not None:
            found |= self._distances(masks, judging, judging.surface, judging.tolerance_of(name))
        if judging.lesions is not None:
            missed_mm = judging.rule.missed_on(self._grid)
            none = judging.rule.dice, judging.rule.distance_mm
            kind = judging.surface or "area"
            parts = lesions(*masks, self._spacing_mm, judging.lesions, kind)
            found |= parts.scores(*none, missed_mm)
        return found, parts

    def _distances(
        self, masks: tuple[Mask, Mask], judging: Judging, surface: SurfaceKind, tolerance_mm: float
    ) -> dict[str, float]:
        pair = surface_distances(*masks, self._spacing_mm, surface, usable_cores())
        if pair is None:
            rule, either = judging.rule, any(bool(mask.any()) for mask in masks)
            mm = rule.missed_on(self._grid) if either else rule.distance_mm
            near = 0.0 if either else rule.surface_dice
            return {"hd_mm": mm, HD95: mm, "assd_mm": mm, SURFACE_DICE: near}
        return {
            "hd_mm": pair.hausdorff_mm(),
            HD95: pair.hausdorff_mm(95),
            "assd_mm": pair.average_mm,
            SURFACE_DICE: pair.surface_dice(tolerance_mm),
        }

    def _masks(self, members: tuple[int, ...]) -> tuple[Mask, Mask]:
        """Return where both have some classes, in the box around either."""
        table = np.zeros(256, dtype=np.bool_)
        table[list(members)] = True
        maps = self._whole if 0 in members else self._maps  # background is beyond the box too
        box = _around([looked_up(table, labels) for labels in maps])
        reference, prediction = (labels[box.slices] for labels in maps)
        masks = looked_up(table, reference), looked_up(table, prediction)
        if self._ignores:
            masks[1][reference == IGNORED] = False
        return masks


def _around(masks: list[Mask]) -> Box:
    """Return the box around all masks; that of the first voxel where all are empty."""
    known = [box for box in map(Box.around, masks) if box is not None]
    return known[0].union(known[-1]) if known else Box.at((0, 0, 0), (1, 1, 1))
