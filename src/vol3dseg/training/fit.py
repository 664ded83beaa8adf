"""One training run, from a prepared folder to a run folder."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vol3dseg.config import Config, TrainingConfig, load_config
from vol3dseg.datasets.splits import read_split, split_table
from vol3dseg.errors import RunError
from vol3dseg.files import write_text
from vol3dseg.machine import available_mb, peak_mb, resident_mb
from vol3dseg.model.manifest import Manifest
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.reporting.figures import save_curves
from vol3dseg.training.augment import augment
from vol3dseg.training.callbacks import make_callbacks
from vol3dseg.training.checkpoints import (
    TrainingState,
    read_state,
    restore_checkpoint,
    trim_log,
)
from vol3dseg.training.compiled import compiled_model, steps_per_epoch
from vol3dseg.training.data import RunData, open_data
from vol3dseg.training.memory_estimate import MicroBatch, choose_micro_batch, describe_micro_batch
from vol3dseg.training.results import describe_run
from vol3dseg.training.run_folder import write_environment, write_inputs
from vol3dseg.training.sampling import (
    Batch,
    CaseReader,
    PatchSampler,
    read_ahead,
    training_batches,
    validation_batches,
    validation_boxes,
)

# What Python with TensorFlow has, where the system does not tell [MB].
_PROGRAM_MB = 650.0

Progress = Callable[[str], None]


def train(
    prepared: Path,
    run: Path,
    config: Config,
    resume: bool = False,
    progress: Progress = lambda line: None,
) -> Manifest:
    """Train a network.

    Parameters
    ----------
    prepared : Path
        Made by `vol3dseg preprocess`; nothing is written into it.
    run : Path
        Gets best.keras, last.keras, manifest.json, config.yaml, split.json, split.png,
        training.log, curves.png, environment.json and, where there is a validation part,
        scores/validation/.
    config : Config
        Its recipe must be the prepared one.
    resume : bool
        Go on with an interrupted run.
    progress : callable
        Called with a line of text for each epoch.

    Returns
    -------
    Manifest
        Also written to run/manifest.json, last of all: a run that has one is finished.

    Raises
    ------
    RunError
        `run` holds a run already, or there is none to resume, or the loss became NaN.
    StoreError
        The prepared folder does not fit the config.
    """
    state, config = _state(run, config, resume)
    data = open_data(prepared, config)
    _require_validation(config, data)
    _require_same_split(run, data, state)
    chosen = _micro_batch(config, data)
    for line in describe_micro_batch(config, chosen):
        progress(line)
    config = config.with_micro_batch(chosen.size)
    _seed(config.training)
    write_inputs(run, config, data)
    progress(split_table(data.split, data.subjects, data.volumes_ml))
    if state is None or not (state.stopped_early or state.epochs >= config.training.epochs):
        write_environment(run, config, prepared, chosen.estimate)
        _fit(compiled_model(config, data), run, config, data, state, progress)
        write_environment(run, config, prepared, chosen.estimate, peak_mb())
    save_curves(run / "curves.png", run / "training.log")
    manifest = describe_run(run, config, data, progress)
    write_text(run / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _state(run: Path, config: Config, resume: bool) -> tuple[TrainingState | None, Config]:
    """Return where an interrupted run stands, with its config; (None, `config`) for a new run."""
    last = run / "last.keras"
    if not resume:
        # What was stopped within its first epoch has left nothing to lose.
        if last.exists() or (run / "manifest.json").exists():
            raise RunError(f"{run}: holds a run already; use --resume or another folder")
        (run / "best.keras").unlink(missing_ok=True)
        return None, config
    if not last.exists():
        raise RunError(f"{run}: no last.keras to resume from; start the run without --resume")
    before = load_config(run / "config.yaml")
    # What the run has chosen by the memory of its machine stays so.
    config = config.resumes(before)
    if before != config:
        raise RunError(
            f"{run}: config.yaml differs from this config in {before.differences(config)}; "
            "resume with the run's own, or train in another folder"
        )
    state = read_state(last)
    trim_log(run / "training.log", state.epochs)
    return state, config


def _micro_batch(config: Config, data: RunData) -> MicroBatch:
    # On a GPU the network's memory is not the kernel's to count.
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return choose_micro_batch(
        config,
        data.training.values(),
        data.validation.values(),
        resident_mb() or _PROGRAM_MB,
        None if on_gpu else available_mb(),
    )


def _require_validation(config: Config, data: RunData) -> None:
    training = config.training
    if not data.validation and (training.reduce_lr_on_plateau or training.early_stopping):
        raise RunError(
            "the split has no validation cases, but reduce_lr_on_plateau and early_stopping watch "
            "val_loss; raise split.validation, or set both to null"
        )


def _require_same_split(run: Path, data: RunData, state: TrainingState | None) -> None:
    if state is not None and read_split(run / "split.json") != data.split:
        raise RunError(
            f"{run}: split.json differs from the split of the prepared cases, expected the same: "
            "cases were added, removed or divided anew since; train in another folder"
        )


def _seed(training: TrainingConfig) -> None:
    keras.utils.set_random_seed(training.seed)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()


def _fit(
    model: Any,
    run: Path,
    config: Config,
    data: RunData,
    state: TrainingState | None,
    progress: Progress,
) -> None:
    training = config.training
    first = state.epochs if state else 0
    if state is not None:
        restore_checkpoint(model, run / "last.keras")
    cases = list(data.training.values())
    # Keras' steps are micro-batches, of which the optimizer makes its own.
    steps = steps_per_epoch(cases, config) * training.micro_batches
    report = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: progress(_epoch_line(epoch, training.epochs, logs))
    )
    validation, validation_steps = _validation(config, data)
    callbacks = make_callbacks(training, run, state)
    try:
        model.fit(
            _dataset(_training_batch(config, cases), count(first * steps), config),
            steps_per_epoch=steps,
            validation_data=validation,
            validation_steps=validation_steps,
            epochs=training.epochs,
            initial_epoch=first,
            callbacks=[*callbacks, report],
            shuffle=False,  # the sampler has done it
            verbose=0,
        )
    except BaseException:
        # Keras ends callbacks only after a training that ended well.
        for callback in callbacks:
            if isinstance(callback, keras.callbacks.CSVLogger):
                callback.on_train_end()
        raise


def _training_batch(config: Config, cases: Sequence[StoredCase]) -> Callable[[int], Batch]:
    training, size = config.training, config.recipe.patch_size
    reader = CaseReader(cases, training.cache_mb)
    sampler = PatchSampler(cases, size, training.foreground, training.seed)
    at_once, settings = training.at_once, training.augment
    if settings is None:
        return training_batches(reader, sampler, at_once, lambda i, s, rng: (i, s))
    return training_batches(
        reader, sampler, at_once, lambda i, s, rng: augment(i, s, settings, rng)
    )


def _validation(config: Config, data: RunData) -> tuple[Any, int | None]:
    if not data.validation:
        return None, None
    training, cases = config.training, list(data.validation.values())
    boxes = validation_boxes(
        cases, config.recipe.patch_size, training.validation_patches, training.seed
    )
    reader = CaseReader(cases, training.cache_mb // 4)
    batch = validation_batches(reader, boxes, training.at_once)
    steps = math.ceil(len(boxes) / training.at_once)
    return _dataset(batch, range(steps), config), steps


def _dataset(batch: Callable[[int], Batch], numbers: Any, config: Config) -> Any:
    """Return a `tf.data.Dataset` of batches; it starts anew from `numbers` when iterated again."""
    size, channels = config.recipe.patch_size, len(config.model_recipe.modalities)
    signature = (
        tf.TensorSpec((None, *size, channels), tf.float32),
        tf.TensorSpec((None, *size), tf.uint8),
    )

    def stream() -> Iterator[Batch]:
        return read_ahead(batch, iter(numbers), config.training.workers)

    return tf.data.Dataset.from_generator(stream, output_signature=signature).prefetch(1)


def _epoch_line(epoch: int, epochs: int, logs: dict[str, float]) -> str:
    shown = {k: v for k, v in logs.items() if k in {"loss", "dice", "val_loss", "val_dice"}}
    values = "  ".join(f"{name} {np.asarray(value):.4f}" for name, value in shown.items())
    return f"epoch {epoch + 1}/{epochs}  {values}"
