"""What a finished run is: its checkpoint, its whole-volume scores, its manifest."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vol3dseg.config import Config
from vol3dseg.errors import RunError
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case, summarise
from vol3dseg.inference.predictor import Predictor
from vol3dseg.model.manifest import (
    Manifest,
    Network,
    Tiling,
    TrainingFacts,
    ValidationScores,
)
from vol3dseg.model.outputs import Softmax
from vol3dseg.model.provenance import provenance
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.quality.training_data import TrainingData, describe_data
from vol3dseg.reporting.score_report import write_report
from vol3dseg.space.box import Box
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.data import RunData
from vol3dseg.training.networks.unet import receptive_field_radius


class KerasBackend:
    """A Keras model as the predictor's network.

    Parameters
    ----------
    model : keras.Model
        (n, i, j, k, c) in, (n, i, j, k, class) out.
    """

    def __init__(self, model: Any) -> None:
        self._run = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, class, i, j, k) probabilities."""
        output = self._run(tf.constant(np.moveaxis(patches, 1, -1)))
        return np.moveaxis(output.numpy(), -1, 1)


def checkpoint_of(run: Path, config: Config) -> tuple[Path, Literal["best", "last"]]:
    """Return the checkpoint to deploy: the best one, or the last where no best is kept.

    Raises
    ------
    RunError
        The run has no such checkpoint.
    """
    kind: Literal["best", "last"] = "last"
    # Without a validation part there is no val_loss, hence no best epoch.
    if config.training.model_checkpoint and (run / "best.keras").exists():
        kind = "best"
    path = run / f"{kind}.keras"
    if not path.exists():
        raise RunError(f"{run}: no checkpoint ({path.name}); train the run first, or --resume it")
    return path, kind


def describe_run(
    run: Path, config: Config, data: RunData, progress: Callable[[str], None]
) -> Manifest:
    """Judge the checkpoint of a finished run and write down what it is.

    Parameters
    ----------
    run : Path
        Gets scores/validation/ with the scores of each whole validation volume.
    config : Config
    data : RunData
    progress : callable
        Called with a line of text after every ten validation cases.

    Returns
    -------
    Manifest
        Without parity, which belongs to an export.
    """
    path, kind = checkpoint_of(run, config)
    recipe = config.model_recipe
    manifest = Manifest(
        recipe=recipe,
        fingerprint=recipe.fingerprint,
        labels=config.labels,
        network=Network(
            architecture=config.model.model_dump(mode="json"),
            divisor=config.model.divisor,
            receptive_field=(receptive_field_radius(config.model),) * 3,
            local=config.model.norm == "batch",
        ),
        outputs=Softmax(classes=config.labels.names),
        tiling=Tiling(),
        members=(_facts(run, config, data, kind),),
        training_data=_looks(config, data),
        provenance=provenance("tensorflow", "keras", "numpy", "SimpleITK"),
    )
    predictor = Predictor(KerasBackend(load_checkpoint(path)), manifest)
    scores = _validate(predictor, data.validation, config, progress)
    if not scores:
        return manifest
    summary = summarise(scores)
    write_report(run / "scores" / "validation", scores, summary)
    found = ValidationScores(
        cases=len(scores),
        dice={name: summary.mean_dice(name) for name in summary.names},
        mean_dice=summary.mean_foreground_dice,
    )
    return manifest.model_copy(update={"validation": found})


def _facts(
    run: Path, config: Config, data: RunData, kind: Literal["best", "last"]
) -> TrainingFacts:
    with (run / "training.log").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["val_loss"]) for row in rows if row.get("val_loss")]
    best = int(np.argmin(losses)) if kind == "best" else len(rows) - 1
    training, parts = config.training, ("train", "validation", "test")
    return TrainingFacts(
        data_fingerprint=data.index.data_fingerprint(data.split.train),
        cases={name: len(data.split.part(name)) for name in parts},
        checkpoint=kind,
        epoch=best + 1,
        epochs=len(rows),
        val_loss=losses[best] if losses else None,
        seed=training.seed,
        loss=training.loss,
        optimizer=training.optimizer,
        batch_size=training.batch_size,
        micro_batch=training.at_once,
    )


def _looks(config: Config, data: RunData) -> TrainingData:
    """Return what the scans looked like, of the modalities that the model sees."""
    modalities, index = config.model_recipe.modalities, data.index
    training, validation = (
        [index.entry(i).appearance.select(modalities) for i in part]
        for part in (data.split.train, data.split.validation)
    )
    volumes_ml = [index.entry(i).volumes_ml for i in data.split.train]
    classes = config.labels.foreground
    return describe_data(training, validation, {c: [v[c] for v in volumes_ml] for c in classes})


def _validate(
    predictor: Predictor,
    cases: Mapping[str, StoredCase],
    config: Config,
    progress: Callable[[str], None],
) -> list[CaseScores]:
    """Segment whole volumes on their working grid, where the prepared labels lie."""
    scores = []
    for number, (case_id, case) in enumerate(cases.items(), start=1):
        image, label = case.read(Box.whole(case.shape))
        reference = Segmentation(label, case.geometry, config.labels)
        volume = Volume(image, case.geometry, case.modalities)
        prediction = predictor.segment(volume, case.geometry).segmentation
        scores.append(evaluate_case(case_id, reference, prediction))
        if number % 10 == 0 or number == len(cases):
            progress(f"whole-volume validation {number}/{len(cases)}")
    return scores
