"""One training run, from a prepared folder to a run folder."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from vol3dseg.config import Config
from vol3dseg.datasets.splits import split_table
from vol3dseg.errors import RunError, StoreError
from vol3dseg.files import write_text
from vol3dseg.machine import peak_mb
from vol3dseg.model.manifest import Manifest
from vol3dseg.training.callbacks import make_callbacks
from vol3dseg.training.checkpoints import restore_checkpoint
from vol3dseg.training.compiled import compile_network, steps_per_epoch
from vol3dseg.training.data import RunData, open_data, require_classes
from vol3dseg.training.feed import TrainingFeed, dataset
from vol3dseg.training.for_this_machine import for_this_machine
from vol3dseg.training.helping import Order, facts_of, help_train, in_step
from vol3dseg.training.inheriting import require_same_parent, start_from
from vol3dseg.training.live_page import LivePage, PageEachEpoch
from vol3dseg.training.more_epochs import more_epochs
from vol3dseg.training.networks.building import Network
from vol3dseg.training.pace import Pace
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
from vol3dseg.training.shared_step import require_shares, share_steps
from vol3dseg.training.stop_on_nan import StopOnNaN, describe_batch
from vol3dseg.training.team import Team, team_of
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
from vol3dseg.working_folder import working_in
from vol3dseg.written import usable_path


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
    strategy: str | None = None,
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
    strategy : "mirrored", "multi-worker" or None
        Who shares each batch: all GPUs of this machine, or those of the workers that TF_CONFIG or
        SLURM names, each of which calls this; None trains on one device. Only the first worker
        calls callbacks, `progress`, `show` and loggers, and writes.

    Returns
    -------
    Manifest
        Also written to run/manifest.json, last of all: a run that has one is finished.

    Raises
    ------
    RunError
        `run` holds a run already, or there is none to resume, or the loss became NaN, or another
        worker ended, or has another version, config or other cases.
    DeviceError
        There are no such devices or workers.
    ConfigError
        A batch cannot be divided equally over the devices.
    StoreError
        The prepared folder does not fit the config.
    ModelError
        `network` is no such model, or `parent` is none that it can start from.
    """
    prepared, run = usable_path(prepared, StoreError), Path(run)
    team = team_of(strategy, progress)
    config = choose_config(prepared, config, run if resume else None, parent=parent)
    require_shares(config.training, team)
    asked = _Asked(config, resume, network, loss, callbacks, parent, progress, show)
    with team.watched(), ExitStack() as stack:
        if not team.is_first:
            return help_train(team, prepared, config, (network, loss), progress)
        stack.enter_context(working_in(run))
        while resume and goes_on(run, config):
            loggers = of_run(loggers, run)
            run = stack.enter_context(more_epochs(run, config, progress))
        manifest = _train(team, prepared, run, asked, loggers)
        team.told(manifest.model_dump_json())
    return manifest


@dataclass(frozen=True, slots=True)
class _Asked:
    """What `train` was asked for; see there."""

    config: Config
    resume: bool
    network: Network | None
    loss: Any
    callbacks: Sequence[Any]
    parent: str | Path | None
    progress: Progress
    show: Show


def _train(
    team: Team, prepared: Path, run: Path, asked: _Asked, loggers: Sequence[Logger]
) -> Manifest:
    """Do what the first worker does."""
    progress = asked.progress
    state, config = begin_run(run, asked.config, asked.resume)
    require_shares(config.training, team)
    logs = [logger(run, config, state is not None) for logger in loggers]
    data = open_data(prepared, config)
    _require_validation(config, data)
    _require_known_loss(asked.loss, data, run)
    unjudged = require_classes(data, prepared)
    if state is None:
        _require_parent(config, asked.parent, run)
    else:
        require_same_data(run, data.index, data.split)
        require_same_parent(run, asked.parent)
    team.require_agreement(facts_of(asked.config, data))
    if state is not None:
        for note in take_over(run):
            progress(note)
        trim_log(run / "training.log", state.epochs)
    model, config, memory = for_this_machine(config, asked.network, data, team, progress)
    cases, kin = list(data.training.values()), None
    if state is not None:
        kin = read_origin(run / LAST).parent
    elif asked.parent is not None:
        kin = start_from(Path(asked.parent), model, config, cases, progress)
    origin = origin_of(config, prepared, data, kin)
    write_inputs(run, config, data)
    for line in (*data.index.unseen, *data.index.incomplete, *unjudged):
        progress(f"note: {line}")
    progress(split_table(data.split, data.subjects, data.volumes_ml, data.index.outside))
    done = state.epochs if state else 0
    learns = state is None or not (state.stopped_early or done >= config.training.epochs)
    team.told(Order(config=config, first=done if learns else None).model_dump_json())
    with LivePage(run, config, data, team, done, progress) as page:
        if learns:
            write_environment(run, config, prepared, memory, team)
            compile_network(model, config, cases, asked.loss, data.partial)
            with ExitStack() as stack:
                logging = [stack.enter_context(log) for log in logs]
                _fit(team, model, run, origin, data, state, asked, logging, page)
            write_environment(run, config, prepared, memory, team, peak_mb())
        manifest = describe_run(run, config, data, model, asked.network is not None, progress)
        page.finished(manifest)
    write_text(run / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
    return manifest


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


def _fit(
    team: Team,
    model: Any,
    run: Path,
    origin: Origin,
    data: RunData,
    state: TrainingState | None,
    asked: _Asked,
    logging: Sequence[Any],
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
    feed = TrainingFeed(config, cases, steps, team.number, len(team.workers))
    batch_of = describe_batch(feed.draws, list(data.training))
    pace = Pace(config, first, steps, validation_steps or 0, asked.progress, asked.show)
    judging = volume_dice(config, data, model, asked.network is not None)
    loggers = (*logging, PageEachEpoch(page, pace))
    callbacks = [
        StopOnNaN(batch_of, steps, training.micro_batches),
        *make_callbacks(training, run, state, (*asked.callbacks, *judging), origin, loggers),
        pace,
        *in_step(team),
    ]
    share_steps(model, team)
    model.fit(
        dataset(feed.batch, count(first * steps), config, training.at_once // len(team.workers)),
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
