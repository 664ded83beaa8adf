"""nnU-Net, preparing a data set: its preprocessor for each case, in warm processes."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from benchmarks.contestants.nnunet_files import PACKAGES
from benchmarks.contestants.nnunet_folder import CONFIGURATION, dataset, plans
from benchmarks.contestants.protocol import Call, serve

Case = dict[str, Any]


def prepare(case: Case, chosen: dict[str, Any], folder: str) -> None:
    """Read, crop, normalise and write one case."""
    manager = PlansManager(chosen)
    description = dataset(list(case["images"]), case["classes"])
    DefaultPreprocessor(verbose=False).run_case_save(
        str(Path(folder) / case["id"]),
        list(case["images"].values()),
        case["label"],
        manager,
        manager.get_configuration(CONFIGURATION),
        description,
    )


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Take the cases.

    Parameters
    ----------
    settings : dict
        cases : list of id, images by modality, label and number of classes; patch_size; output;
        processes.
    """
    cases, folder = settings["cases"], Path(settings["output"])
    chosen = plans(len(cases[0]["images"]), settings["patch_size"], [1])
    pool = None
    if settings["processes"] > 1:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(settings["processes"], mp_context=context)

    def run(most: int | None = None) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        some = cases[:most]
        steps = (some, [chosen] * len(some), [str(folder)] * len(some))
        list(map(prepare, *steps) if pool is None else pool.map(prepare, *steps))
        return {"cases": len(some)}

    def answer(file: str) -> dict[str, Any]:
        image = blosc2.open(str(folder / f"{cases[0]['id']}.b2nd"), mode="r")[:]
        np.save(file, np.moveaxis(image, 0, -1))
        return {}

    return {"run": run, "answer": answer}


if __name__ == "__main__":
    serve(make, PACKAGES)
