"""One training run, from a prepared folder to a run folder."""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from vol3dseg.config import Config, TrainingConfig
from vol3dseg.datasets.splits import split_table
from vol3dseg.errors import RunError
from vol3dseg.files import write_text
from vol3dseg.machine import available_mb, peak_mb, resident_mb
from vol3dseg.model.manifest import Manifest
from vol3dseg.planning.patch_fit import patch_warnings
from vol3dseg.training.backend import keras, tf, unused_gpu
from vol3dseg.training.callbacks import make_callbacks
from vol3dseg.training.checkpoints import restore_checkpoint
from vol3dseg.training.compiled import compile_network, steps_per_epoch
from vol3dseg.training.data import RunData, open_data, require_classes
from vol3dseg.training.feed import TrainingFeed, dataset
from vol3dseg.training.growing import describe_growth, stages_of
from vol3dseg.training.inheriting import require_same_parent, start_from
from vol3dseg.training.live_page import LivePage, PageEachEpoch
from vol3dseg.training.memory_estimate import (
    MemoryEstimate,
    MicroBatch,
    NetworkSize,
    choose_micro_batch,
    describe_micro_batch,
)
from vol3dseg.training.more_epochs import more_epochs
from vol3dseg.training.networks.building import Network, build_network, size_of
from vol3dseg.training.pace import Pace
from vol3dseg.training.precision import choose_precision, precision_policy
from vol3dseg.training.results import describe_run
from vol3dseg.training.run_config import choose_config
from vol3dseg.training.run_folder import (
    begin_run,
    origin_of,
    take_over,
    write_environment,
    write_inputs,
)
from vol3dseg.training.sampling import CaseReader, validation_batches, validation_boxes
from vol3dseg.training.stop_on_nan import StopOnNaN, describe_batch
from vol3dseg.training.training_state import (
    LAST,
    Origin,
    TrainingState,
    goes_on,
    read_origin,
    require_same_data,
    trim_log,
)
from vol3dseg.training.watching import Logger, Progress, Show, of_run, quiet
from vol3dseg.training.whole_volumes import volume_dice

# What Python with TensorFlow has, where the system does not tell [MB].
_PROGRAM_MB = 650.0


def train(
    prepared: str | Path,
    run: str | Path,
    config: Config | str | Path | None = None,
    *,
    network: Network | None = None,
    loss: Any = None,
    callbacks: Sequence[Any] = (),
    parent: str | Path | None = None,
    resume: bool = False,
    progress: Progress = quiet,
    show: Show = quiet,
    loggers: Sequence[Logger] = (),
) -> Manifest:
    """Train a network.

    Parameters
    ----------
    prepared : str or Path
        Made by `vol3dseg preprocess`; nothing is written into it.
    run : str or Path
        Gets best.keras, last.keras, manifest.json, config.yaml, split.json, split.png,
        training.log, training.html, strip.json, environment.json and, where there is a validation
        part, scores/validation/.
    config : Config, str, Path or None
        A config, a preset's name or a YAML file; None takes that of the resumed run, or the one
        that `prepared` was made with. Its recipe must be the prepared one.
    network : keras.Model, callable or None
        What is trained: a model, or a callable (config, modalities, outputs) that returns one.
        (n, i, j, k, c) in, (n, i, j, k, output) logits out, for any size. None builds the U-Net of
        `config.model`.
    loss : keras.losses.Loss, callable or None
        Of (n, i, j, k) class indices and (n, i, j, k, output) logits; None takes the config's.
    callbacks : sequence of keras.callbacks.Callback
        Called before ours at the end of each epoch, so what they put into its logs is written into
        training.log; what they remember is not kept for a resumed run.
    parent : str, Path or None
        A finished run, or an ONNX file that was exported from one: the network starts from its
        weights, layer by layer where they fit (`training.inheriting`).
    resume : bool
        Go on with an interrupted run, or with a finished one if the config has more epochs now.
        Give the same network, loss and callbacks again; the parent may be left out.
    progress : callable
        Called with lines of text: what the training will take, and one for each epoch.
    show : callable
        Called with a `Step` after each step, for a progress bar.
    loggers : sequence of callable
        `tensorboard_log` and `mlflow_log`, of the modules of that name in `vol3dseg.training`, or
        (run, config, resumed) to a context manager that gives a Keras callback. That sees what
        stands in training.log; the context is left when the training ends, however it ends.

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
    ModelError
        `network` is no such model, or `parent` is none that it can start from.
    """
    prepared, run = Path(prepared), Path(run)
    config = choose_config(prepared, config, run if resume else None, parent=parent)
    if resume and goes_on(run, config):
        with more_epochs(run, config, progress) as longer:
            return train(
                prepared, longer, config, network=network, loss=loss, callbacks=callbacks,
                parent=parent, resume=True, progress=progress, show=show,
                loggers=of_run(loggers, run),
            )  # fmt: skip
    state, config = begin_run(run, config, resume)
    logs = [logger(run, config, state is not None) for logger in loggers]
    data = open_data(prepared, config)
    _require_validation(config, data)
    _require_known_loss(loss, data, run)
    unjudged = require_classes(data, prepared)
    if state is None:
        _require_parent(config, parent, run)
    else:
        require_same_data(run, data.index, data.split)
        require_same_parent(run, parent)
        for note in take_over(run):
            progress(note)
        trim_log(run / "training.log", state.epochs)
    model, config, memory = _for_this_machine(config, network, data, progress)
    if state is not None:
        kin = read_origin(run / LAST).parent
    elif parent is not None:
        kin = start_from(Path(parent), model, config, list(data.training.values()), progress)
    else:
        kin = None
    origin = origin_of(config, prepared, data, kin)
    write_inputs(run, config, data)
    for line in (*data.index.unseen, *data.index.incomplete, *unjudged):
        progress(f"note: {line}")
    progress(split_table(data.split, data.subjects, data.volumes_ml, data.index.outside))
    with LivePage(run, config, data, state.epochs if state else 0, progress) as page:
        if state is None or not (state.stopped_early or state.epochs >= config.training.epochs):
            write_environment(run, config, prepared, memory)
            cases = list(data.training.values())
            compile_network(model, config, cases, loss, data.partial)
            callbacks = (*callbacks, *volume_dice(config, data, model, network is not None))
            with ExitStack() as stack:
                logging = [stack.enter_context(log) for log in logs]
                _fit(model, run, origin, data, state, (callbacks, logging), progress, show, page)
            write_environment(run, config, prepared, memory, peak_mb())
        manifest = describe_run(run, config, data, model, network is not None, progress)
        page.finished(manifest)
    write_text(run / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _for_this_machine(
    config: Config, network: Network | None, data: RunData, progress: Progress
) -> tuple[Any, Config, MemoryEstimate]:
    """Return the network, the config with what suits the machine, and what that will take."""
    _seed(config.training)
    precision = choose_precision(config.training.precision, ours=network is None)
    config = config.chosen(precision=precision.precision)
    with precision_policy(precision.precision):
        model = build_network(config, network)
    size = size_of(model, config.recipe.patch_size)
    chosen = _micro_batch(config, size, data)
    for line in [
        *filter(None, [unused_gpu(), precision.why]),
        *describe_micro_batch(config, size, chosen),
    ]:
        progress(line)
    every = (*data.training.values(), *data.validation.values())
    for warning in patch_warnings(config, [case.shape for case in every]):
        progress(f"warning: {warning}")
    config = config.chosen(micro_batch=chosen.size)
    if grows := describe_growth(stages_of(config)):
        progress(grows)
    return model, config, chosen.estimate


def _micro_batch(config: Config, network: NetworkSize, data: RunData) -> MicroBatch:
    # On a GPU the network's memory is not the kernel's to count.
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return choose_micro_batch(
        config,
        network,
        data.training.values(),
        data.validation.values(),
        resident_mb() or _PROGRAM_MB,
        None if on_gpu else available_mb(),
    )


def _require_parent(config: Config, parent: str | Path | None, run: Path) -> None:
    if config.training.freeze and parent is None:
        raise RunError(
            f"training.freeze is {config.training.freeze}, and nothing has trained it",
            where=run,
            remedy="name the model that it starts from with --from, or set it to null",
        )


def _require_validation(config: Config, data: RunData) -> None:
    judges = config.training.judges
    if judges and not data.validation:
        raise RunError(
            f"the split has no validation cases, and training.{' and training.'.join(judges)} "
            "must judge by some",
            remedy="raise split.validation, or set them to null",
        )


def _require_known_loss(loss: Any, data: RunData, run: Path) -> None:
    if loss is not None and data.partial:
        raise RunError(
            "a loss of your own is not told in which cases nobody has looked for some classes",
            where=run,
            remedy="train with a loss of the config, or on cases in which all were looked for",
        )


def _seed(training: TrainingConfig) -> None:
    keras.utils.set_random_seed(training.seed)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()


def _fit(
    model: Any,
    run: Path,
    origin: Origin,
    data: RunData,
    state: TrainingState | None,
    given: tuple[Sequence[Any], Sequence[Any]],
    progress: Progress,
    show: Show,
    page: LivePage,
) -> None:
    config, training = origin.config, origin.config.training
    first = state.epochs if state else 0
    if state is not None:
        restore_checkpoint(model, run / LAST)
    cases = list(data.training.values())
    # Keras' steps are micro-batches, of which the optimizer makes its own.
    steps = steps_per_epoch(cases, config) * training.micro_batches
    validation, validation_steps = _validation(config, data)
    feed = TrainingFeed(config, cases, steps)
    batch_of = describe_batch(feed.draws, list(data.training))
    pace = Pace(config, first, steps, validation_steps or 0, progress, show)
    loggers = (*given[1], PageEachEpoch(page, pace))
    callbacks = [
        StopOnNaN(batch_of, steps, training.micro_batches),
        *make_callbacks(training, run, state, given[0], origin, loggers),
        pace,
    ]
    model.fit(
        dataset(feed.batch, count(first * steps), config, training.at_once),
        steps_per_epoch=steps,
        validation_data=validation,
        validation_steps=validation_steps,
        epochs=training.epochs,
        initial_epoch=first,
        callbacks=callbacks,
        shuffle=False,  # the sampler has done it
        verbose=0,
    )


def _validation(config: Config, data: RunData) -> tuple[Any, int | None]:
    if not data.validation:
        return None, None
    training, cases = config.training, list(data.validation.values())
    size, each = config.recipe.patch_size, training.validation_patches
    boxes = validation_boxes(cases, size, each, training.seed)
    reader = CaseReader(cases, training.cache_mb // 4)
    return dataset(validation_batches(reader, boxes), range(len(boxes)), config), len(boxes)
