"""What a finished run is: its checkpoint, its whole-volume scores, its manifest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.config import Config
from vol3dseg.datasets.splits import PARTS
from vol3dseg.errors import RunError
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case, summarise
from vol3dseg.inference.predictor import Predictor
from vol3dseg.model.manifest import Manifest, Network
from vol3dseg.model.outputs import Outputs, Sigmoid, Softmax
from vol3dseg.model.provenance import provenance
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.model.training_facts import TrainingFacts
from vol3dseg.model.validation_scores import ScoresWithout, ValidationScores
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.reporting.score_report import write_report
from vol3dseg.training.backend import tf
from vol3dseg.training.checkpoints import restore_checkpoint
from vol3dseg.training.data import RunData, training_scans
from vol3dseg.training.networks.building import Head, divisor_of, probabilities
from vol3dseg.training.networks.receptive_field import receptive_field_radius
from vol3dseg.training.training_state import read_state


class KerasBackend:
    """A Keras model, from (n, i, j, k, c) images to logits, as the predictor's network.

    In float32, as it will be deployed, with the weights that it has now.
    """

    def __init__(self, model: Any, head: Head = "softmax") -> None:
        self._run = tf.function(probabilities(model, head), reduce_retracing=True)

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, output, i, j, k) probabilities."""
        output = self._run(tf.constant(np.moveaxis(patches, 1, -1)))
        return np.moveaxis(output.numpy(), -1, 1)


def keras_predictor(model: Any, manifest: Manifest) -> Predictor:
    """Return the predictor that is deployed, with a Keras model as its network."""
    return Predictor(KerasBackend(model, manifest.outputs.kind), manifest)


def checkpoint_of(run: Path, config: Config) -> tuple[Path, Literal["best", "last"]]:
    """Return the checkpoint to deploy: the best one, or the last where no best is kept."""
    kind: Literal["best", "last"] = "last"
    # Without a validation part nothing is judged, hence there is no best epoch.
    if config.training.model_checkpoint and (run / "best.keras").exists():
        kind = "best"
    path = run / f"{kind}.keras"
    if not path.exists():
        raise RunError(
            f"no checkpoint ({path.name})", where=run, remedy="train the run first, or --resume it"
        )
    return path, kind


def describe_run(
    run: Path,
    config: Config,
    data: RunData,
    model: Any,
    given: bool,
    progress: Callable[[str], None],
) -> Manifest:
    """Return what a finished run is, and write the scores of its whole validation volumes.

    `model` gets the weights of the checkpoint; `given` says whether it is a network of the user's
    own. Parity is left out: it belongs to an export.
    """
    path, kind = checkpoint_of(run, config)
    restore_checkpoint(model, path)
    facts = {
        "members": (_facts(run, config, data, kind),),
        "training_data": training_scans(config, data.index, data.split),
    }
    manifest = describe_model(config, model if given else None).model_copy(update=facts)
    predictor = keras_predictor(model, manifest)
    scores = validate(predictor, data.validation, progress)
    if not scores:
        return manifest
    write_report(run / "scores" / "validation", scores, summarise(scores))
    found = {
        "validation": _means(scores),
        "without": _scores_without(predictor, data.validation, scores, progress),
    }
    return manifest.model_copy(update=found)


def _scores_without(
    predictor: Predictor,
    cases: Mapping[str, StoredCase],
    scores: Sequence[CaseScores],
    progress: Callable[[str], None],
) -> tuple[ScoresWithout, ...]:
    """Judge each choice of optional modalities that may be missing, on cases that lack nothing."""
    complete = {name: case for name, case in cases.items() if not case.missing}
    if not (predictor.manifest.optional and complete):
        return ()
    known = [each for each in scores if each.case_id in complete]
    found = [ScoresWithout(missing=(), scores=_means(known))]
    for missing in choices(predictor.manifest):
        told = _saying(f"without {' and '.join(missing)}", progress)
        shown = {name: case.without(missing) for name, case in complete.items()}
        means = _means(validate(predictor, shown, told))
        found.append(ScoresWithout(missing=missing, scores=means))
    return tuple(found)


def _saying(what: str, progress: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: progress(f"{what}: {line}")


def choices(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    """Give each choice of modalities that a scan may lack at once, single ones first."""
    for count in range(1, len(manifest.optional) + 1):
        for missing in combinations(manifest.optional, count):
            if len(missing) < len(manifest.recipe.modalities):
                yield missing


def _means(scores: Sequence[CaseScores]) -> ValidationScores:
    summary = summarise(scores)
    return ValidationScores(
        cases=len(scores),
        dice={name: summary.mean_dice(name) for name in summary.names},
        mean_dice=summary.mean_foreground_dice,
    )


def describe_model(config: Config, model: Any = None) -> Manifest:
    """Return what a config says of a model, without where its weights come from.

    None is the config's own U-Net. Of another model only what it takes is known, so its tiles will
    be as in training.
    """
    recipe, augment = config.model_recipe, config.training.augment
    if model is None:
        network = Network(
            architecture=config.model.model_dump(mode="json"),
            divisor=config.model.divisor,
            receptive_field=receptive_field_radius(config.model),
            local=config.model.local,
        )
    else:
        network = Network(
            architecture={"name": model.name},
            divisor=divisor_of(model, recipe.patch_size),
            receptive_field=recipe.patch_size,
            local=False,
        )
    return Manifest(
        recipe=recipe,
        fingerprint=recipe.fingerprint,
        labels=config.labels,
        network=network,
        outputs=outputs_of(config),
        tiling=Tiling.of(recipe.patch_size, mirrorable=augment.flip_axes if augment else ()),
        members=(),
        optional=config.optional,
        provenance=provenance("tensorflow", "keras", "numpy", "SimpleITK"),
    )


def outputs_of(config: Config) -> Outputs:
    """Return what the outputs of a network of a config are, as a deployed model gives them."""
    if config.training.targets == "regions":
        return Sigmoid.of(config.labels)
    return Softmax(classes=config.labels.names)


def _facts(
    run: Path, config: Config, data: RunData, kind: Literal["best", "last"]
) -> TrainingFacts:
    deployed, last = read_state(run / f"{kind}.keras"), read_state(run / "last.keras")
    training, origin = config.training, last.origin
    return TrainingFacts(
        data_fingerprint=data.index.data_fingerprint(data.split.train),
        cases={name: len(data.split.part(name)) for name in PARTS},
        checkpoint=kind,
        epoch=deployed.epochs,
        epochs=last.epochs,
        val_loss=deployed.val_loss,
        val_volume_dice=deployed.val_volume_dice,
        chosen_by=training.best_by if kind == "best" else None,
        micro_batch=training.at_once,
        parent=origin.parent if origin else None,
        **training.model_dump(include={"seed", "loss", "optimizer", "batch_size"}),
    )


def validate(
    predictor: Predictor, cases: Mapping[str, StoredCase], progress: Callable[[str], None]
) -> list[CaseScores]:
    """Segment whole scans as `vol3dseg predict` does, and judge them by their labels as read."""
    scores = []
    for number, (case_id, case) in enumerate(cases.items(), start=1):
        prepared = case.prepared()
        found = predictor.segment(prepared.volume, prepared.source).segmentation
        scores.append(evaluate_case(case_id, case.reference(found.labels), found))
        if number % 10 == 0 or number == len(cases):
            progress(f"whole-volume validation {number}/{len(cases)}")
    return scores
