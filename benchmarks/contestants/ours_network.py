"""Ours, the network part: a prepared array in, probabilities out."""

from typing import Any

import numpy as np

from benchmarks.contestants.ours import PACKAGES, load
from benchmarks.contestants.protocol import Call, serve
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load network and image; see `ours.load`, and prepared : path of an (i, j, k, c) array."""
    _, predictor, session = load(settings)
    image = np.load(settings["prepared"])
    grid = Geometry(image.shape[:3], np.eye(4))
    volume = Volume(image, grid, predictor.manifest.recipe.modalities)
    found: dict[str, np.ndarray[Any, Any]] = {}

    def run() -> dict[str, Any]:
        found.clear()
        plan = predictor.plan(grid, grid, keep_probabilities=True)
        found["probabilities"] = predictor.segment(
            volume, grid, keep_probabilities=True
        ).probabilities
        return {"how": str(plan), "provider": session.provider}

    def answer(file: str) -> dict[str, Any]:
        np.save(file, found["probabilities"].argmax(axis=-1).astype(np.uint8))
        return {}

    def patch(image: str, file: str) -> dict[str, Any]:
        np.save(file, session(np.load(image)))
        return {}

    return {"run": run, "answer": answer, "patch": patch}


if __name__ == "__main__":
    serve(make, PACKAGES)
