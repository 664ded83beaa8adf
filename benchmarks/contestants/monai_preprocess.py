"""MONAI, preparing a data set: a `PersistentDataset` of each case, in warm processes."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import PersistentDataset
from monai.transforms import (
    Compose,
    CropForegroundd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
)

from benchmarks.contestants.monai_files import not_zero
from benchmarks.contestants.monai_network import PACKAGES
from benchmarks.contestants.protocol import Call, serve

Case = dict[str, Any]
_BOTH = ("image", "label")


def dataset_of(case: Case, folder: str) -> PersistentDataset:
    """Return what prepares a case and keeps it in `folder`, once it is asked for it."""
    steps = Compose(
        [
            LoadImaged(_BOTH, ensure_channel_first=True),
            Orientationd(_BOTH, axcodes="RAS", labels=None),
            CropForegroundd(_BOTH, source_key="image", select_fn=not_zero, allow_smaller=True),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    item = {"image": list(case["images"].values()), "label": case["label"]}
    return PersistentDataset([item], steps, cache_dir=folder)


def prepare(case: Case, folder: str) -> None:
    """Read, crop, normalise and write one case."""
    dataset_of(case, folder)[0]


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Take the cases; see `nnunet_preprocess.make`."""
    cases, folder = settings["cases"], Path(settings["output"])
    pool = None
    if settings["processes"] > 1:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(settings["processes"], mp_context=context)

    def run(most: int | None = None) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        some = cases[:most]
        steps = (some, [str(folder)] * len(some))
        list(map(prepare, *steps) if pool is None else pool.map(prepare, *steps))
        return {"cases": len(some)}

    def answer(file: str) -> dict[str, Any]:
        image = dataset_of(cases[0], str(folder))[0]["image"]
        np.save(file, np.moveaxis(np.asarray(image), 0, -1))
        return {}

    return {"run": run, "answer": answer}


if __name__ == "__main__":
    serve(make, PACKAGES)
