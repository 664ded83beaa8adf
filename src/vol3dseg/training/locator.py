"""Train the first network of a pair: the coarse one that finds where to look."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vol3dseg.config import Config
from vol3dseg.errors import RunError
from vol3dseg.files import write_text
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.where_to_look import on_grid
from vol3dseg.model.locating import ANYTHING, Found
from vol3dseg.model.manifest import Manifest, read_run_manifest
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.store import StoredCase, open_cases
from vol3dseg.schema import read_json
from vol3dseg.space.box import Box
from vol3dseg.space.labels import is_labelled
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.fit import train
from vol3dseg.training.held_out import deployed_checkpoint
from vol3dseg.training.locating_data import write_coarse
from vol3dseg.training.results import keras_predictor
from vol3dseg.training.run_config import choose_config
from vol3dseg.training.training_state import LAST, read_origin
from vol3dseg.training.watching import Progress, quiet

FILE_NAME, COARSE = "locating.json", "coarse"
_LEAST_MM = 5.0  # of a margin


def train_locator(
    prepared: str | Path,
    run: str | Path,
    config: Config | str | Path | None = None,
    *,
    resume: bool = False,
    progress: Progress = quiet,
    **options: Any,
) -> Found:
    """Train a network that finds where to look, from cases that another is trained on.

    Parameters
    ----------
    prepared : str or Path
        Made by `vol3dseg preprocess`.
    run : str or Path
        The run folder; it gets the coarse cases in coarse/ and locating.json besides.
    config : Config, str, Path or None
        That of the second network: modalities, which of them may be missing, split, seed and flips
        are taken from it. None takes the one that `prepared` was made with.
    resume : bool
        Go on with an interrupted run.
    progress : callable
        Called with lines of text.
    **options : object
        As of `train`: show, loggers.

    Returns
    -------
    Found
        As in locating.json.

    Raises
    ------
    RunError, StoreError, ConfigError
        As of `train`; or no case has all of its classes looked for.
    """
    prepared, run = Path(prepared), Path(run)
    coarse = run / COARSE
    if resume and (run / LAST).is_file():
        made = read_origin(run / LAST).config
    else:
        whole, index = choose_config(prepared, config), load_index(prepared)
        index.require_made_with(whole, prepared)
        made = write_coarse(prepared, index, whole, coarse, progress)
        resume = False
    train(coarse, run, made, resume=resume, progress=progress, **options)
    found = _measured(prepared, run, made)
    write_text(run / FILE_NAME, found.model_dump_json(indent=1) + "\n")
    progress(found_in_words(found))
    return found


def found_in_words(found: Found) -> str:
    """Say how well a locator finds what there is."""
    return (
        f"what is labelled lies in the box that is found in {found.cases - found.missed} of "
        f"{found.cases} cases, with a margin of {found.margin_mm:g} mm; the box holds "
        f"{found.share:.0%} of a scan in the mean"
    )


def read_found(run: Path) -> Found:
    """Read `locating.json`; a RunError says that a run is no locator."""
    return read_json(
        Found,
        run / FILE_NAME,
        RunError,
        expected="what vol3dseg train --locate writes when it is done",
        remedy="train one so, or finish it with --resume",
    )


def _measured(prepared: Path, run: Path, config: Config) -> Found:
    """Look for what is labelled in cases that were not learned from, or else in all of them."""
    manifest, checkpoint = read_run_manifest(run), deployed_checkpoint(run)
    split = read_origin(checkpoint).split
    predictor = keras_predictor(load_checkpoint(checkpoint), manifest)
    names = split.validation or split.train
    index, modalities = load_index(prepared), config.recipe.modalities
    fine = open_cases(prepared, index, names, modalities)
    coarse_index = load_index(run / COARSE)
    coarse = open_cases(run / COARSE, coarse_index, names, modalities)
    short, shares, missed = [0.0], [], 0
    for name in names:
        label = is_labelled(fine[name].read_label(Box.whole(fine[name].shape)))
        truth = Box.around(label)
        if truth is None:
            continue
        box = _found_in(predictor, coarse[name], fine[name])
        if box is None:
            missed, box = missed + 1, Box.whole(fine[name].shape)
        mm = fine[name].geometry.spacing_mm
        low = (np.subtract(box.start, truth.start) * mm).max()
        high = (np.subtract(truth.stop, box.stop) * mm).max()
        short.append(float(max(low, high)))
        shares.append(float(np.prod(box.shape) / np.prod(fine[name].shape)))
    assert config.recipe.spacing_mm is not None  # noqa: S101 - `write_coarse` chose it
    margin = max(0.0, *short) + max(_LEAST_MM, *config.recipe.spacing_mm)
    return Found(
        margin_mm=round(margin, 1),
        cases=len(shares),
        missed=missed,
        share=float(np.mean(shares)) if shares else 1.0,
    )


def _found_in(predictor: Predictor, coarse: StoredCase, fine: StoredCase) -> Box | None:
    """Return the box that is found in a case, in voxels of its fine grid, without a margin."""
    prepared = coarse.prepared()
    found = predictor.segment(prepared.volume, prepared.source).segmentation
    box = Box.around(found.array == found.labels.index(ANYTHING))
    return None if box is None else on_grid(box, found.geometry, fine.geometry)


def require_pair(model: Manifest, locator: Manifest, where: Path) -> None:
    """Refuse a locator that looks at other modalities than the network that it is to lead."""
    facts: Mapping[str, tuple[object, object]] = {
        "modalities": (model.recipe.modalities, locator.recipe.modalities),
        "modalities that may be missing": (set(model.optional), set(locator.optional)),
    }
    for what, (ours, theirs) in facts.items():
        if ours != theirs:
            raise RunError(
                f"its {what} are {theirs}, those of the other network {ours}",
                where=where,
                expected="a pair that was trained from one prepared folder by one config",
                remedy="train it again with --locate and the config of the run",
            )
