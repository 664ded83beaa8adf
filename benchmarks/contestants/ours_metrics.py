"""Ours: distances of a case's regions, from label maps, as `vol3dseg evaluate` computes them."""

from typing import Any

import numpy as np

from benchmarks.contestants.protocol import Call, serve
from vol3dseg.evaluation.judging import Judging
from vol3dseg.evaluation.structure_scores import Shapes
from vol3dseg.space.geometry import Geometry

PACKAGES = ("vol3dseg", "edt", "numpy")
_SCORES = ("hd95_mm", "assd_mm", "surface_dice")


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load label maps: file, an .npz; regions, with their classes; surface; tolerance : mm."""
    given = np.load(settings["file"])
    maps = given["labels reference"], given["labels prediction"]
    grid = Geometry(maps[0].shape, np.diag([*given["spacing_mm"], 1.0]))
    judging = Judging(surface=settings["surface"], tolerance_mm=settings["tolerance"])

    def run() -> dict[str, Any]:
        shapes = Shapes(*maps, grid)
        found = {}
        for name, members in settings["regions"].items():
            scores, _ = shapes.scores(name, tuple(members), judging)
            found[name] = [scores[score] for score in _SCORES]
        return found

    return {"run": run}


if __name__ == "__main__":
    serve(make, PACKAGES)
