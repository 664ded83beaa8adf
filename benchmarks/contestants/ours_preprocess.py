"""Ours, preparing a data set: what `vol3dseg preprocess` does, in warm processes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants.ours import PACKAGES
from benchmarks.contestants.protocol import Call, serve
from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.over_cases import Workers
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.space.box import Box


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Find the cases; dataset, output : folders; processes : number."""
    config = load_config("brats2020")
    cases, folder = find_cases(Path(settings["dataset"])), Path(settings["output"])
    workers = Workers(settings["processes"]) if settings["processes"] > 1 else 1

    def run(most: int | None = None) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        chosen = cases[:most]
        index = preprocess(chosen, folder, config, workers)
        if len(index.cases) != len(chosen):
            raise RuntimeError(f"failed: {index.failed}; left out: {index.left_out}")
        return {"cases": len(chosen)}

    def answer(file: str) -> dict[str, Any]:
        entry = load_index(folder).entry(cases[0].id)
        stored = StoredCase.open(folder, entry, config.recipe.modalities)
        image, _ = stored.read(Box.whole(stored.shape))
        np.save(file, image)
        return {}

    return {"run": run, "answer": answer}


if __name__ == "__main__":
    serve(make, PACKAGES)
