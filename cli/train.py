"""`vol3dseg train`."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.logger_options import logger_options
from vol3dseg.cli.options import PathType, command, output_option, show_table
from vol3dseg.cli.training_bar import TrainingBar
from vol3dseg.cli.training_options import side_by_side_options, training_options
from vol3dseg.errors import ConfigError
from vol3dseg.machine import limit_cores

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from vol3dseg.model.manifest import Manifest
    from vol3dseg.training.watching import Logger


@command(short_help="Train a 3-D U-Net, or several.")
@click.argument("prepared", type=PathType)
@output_option("the run folder, or with several configs the folder of their run folders,")
@click.option(
    "-c",
    "--config",
    "configs",
    multiple=True,
    metavar="NAME_OR_FILE",
    help="A preset or a YAML file; give several to train one after the other.  "
    "[default: the one that PREPARED was made with]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with interrupted runs, and to more epochs with finished ones that have fewer.",
)
@click.option(
    "--locate",
    is_flag=True,
    help="Train the coarse network that finds where to look, for export-onnx --locator.",
)
@click.option(
    "--strategy",
    type=click.Choice(["mirrored", "multi-worker"]),
    help="Share each batch between all GPUs of this machine, or between the workers of TF_CONFIG "
    "or SLURM, on each of which this command runs.",
)
@training_options
@side_by_side_options
@logger_options
def train(
    prepared: Path,
    output: Path,
    configs: tuple[str, ...],
    resume: bool,
    locate: bool,
    strategy: str | None,
    seed: int | None,
    deterministic: bool,
    epochs: int | None,
    parent: Path | None,
    freeze: str | None,
    workers: "int | Executor | None",
    threads: int | None,
    loggers: Sequence["Logger"],
) -> None:
    """Train a 3-D U-Net on PREPARED, a folder made by vol3dseg preprocess.

    Needs the [train] extra. The run folder gets the checkpoints, manifest.json, config.yaml,
    split.json, training.log, training.html, strip.json, environment.json and scores/validation.
    Open training.html in a browser: it shows curves and predictions while the training runs.

    On a terminal a bar shows the epoch that runs, with the time left. What is stopped goes on with
    --resume; a finished run stays as it is until it has the epochs that it goes on to.

    With several configs each has a run folder of its own, named like the config; one that fails
    does not stop the others, and the exit code is 1 then.

    With --strategy a run has the same batches and ends the same as on one device. Of several
    workers the first writes RUN, and one that ends before the others ends the training: start all
    again with --resume (docs/several-devices.md).
    """
    if strategy is not None and (locate or len(configs) > 1):
        raise click.UsageError("--strategy is for one config at a time, and not for --locate")
    changes: dict[str, object] = {
        "seed": seed,
        "epochs": epochs,
        "freeze": freeze,
        "deterministic": deterministic or None,
    }
    if len(configs) < 2 and workers is not None:
        raise click.UsageError("--workers and --cluster train several configs side by side")
    if locate and (len(configs) > 1 or parent or epochs or freeze):
        raise click.UsageError("--locate takes one config, and neither --from nor --epochs")
    if len(configs) > 1:
        _train_several(
            prepared, output, configs, parent, resume, changes, loggers, workers, threads
        )
        return
    if threads is not None:
        limit_cores(threads)
    if locate:
        _train_locator(prepared, output, configs, resume, changes, loggers)
        return
    from vol3dseg.training.run_config import choose_config

    name = configs[0] if configs else None
    config = choose_config(prepared, name, output if resume else None, changes, parent)
    # Imports TensorFlow, which takes seconds: not before the config is known to be valid.
    from vol3dseg.training.fit import train as fit

    bar = TrainingBar()
    with closing(bar):
        manifest = fit(
            prepared, output, config, parent=parent, resume=resume, progress=bar.line,
            show=bar.step, loggers=loggers, strategy=strategy,
        )  # fmt: skip
    _report(manifest, output)


def _train_locator(
    prepared: Path,
    run: Path,
    configs: tuple[str, ...],
    resume: bool,
    changes: dict[str, object],
    loggers: Sequence["Logger"],
) -> None:
    from vol3dseg.training.run_config import choose_config

    config = choose_config(prepared, configs[0] if configs else None, changes=changes)
    from vol3dseg.training.locator import train_locator

    bar = TrainingBar()
    with closing(bar):
        train_locator(
            prepared, run, config, resume=resume, progress=bar.line, show=bar.step, loggers=loggers
        )
    click.echo(f"locator -> {run}")


def _train_several(
    prepared: Path,
    runs: Path,
    configs: tuple[str, ...],
    parent: Path | None,
    resume: bool,
    changes: dict[str, object],
    loggers: Sequence["Logger"],
    workers: "int | Executor | None",
    threads: int | None,
) -> None:
    from vol3dseg.training.run_config import name_configs
    from vol3dseg.training.several import train_several

    try:
        named = name_configs(configs)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    rows, all_finished, bar = [], True, TrainingBar()
    trained = train_several(
        prepared,
        runs,
        named,
        resume,
        changes,
        bar.line,
        bar.step,
        loggers,
        parent,
        workers or 1,
        threads,
    )
    for run, outcome in trained:
        if outcome.manifest is not None:
            _report(outcome.manifest, run)
        else:
            click.echo(outcome.said, err=not outcome.finished)
        rows.append([str(run), outcome.said])
        all_finished &= outcome.finished
    show_table("Runs", ["run", "outcome"], rows, words=["outcome"])
    if not all_finished:
        raise SystemExit(1)


def _report(manifest: "Manifest", run: Path) -> None:
    facts = manifest.trained[0]
    click.echo(
        f"{facts.checkpoint}.keras is epoch {facts.epoch} of {facts.epochs}, trained on "
        f"{facts.cases['train']} cases -> {run}"
    )
    if manifest.validation:
        title = f"Whole-volume Dice on {manifest.validation.cases} validation cases"
        dice = manifest.validation.dice.items()
        rows = [[name, "-" if value is None else f"{value:.3f}"] for name, value in dice]
        show_table(title, ["class", "Dice"], rows)
