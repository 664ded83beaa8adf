"""`vol3dseg cross-validate`."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.logger_options import logger_options
from vol3dseg.cli.options import PathType, command, config_option, output_option, show_table
from vol3dseg.cli.training_bar import TrainingBar
from vol3dseg.cli.training_options import side_by_side_options, training_options

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from vol3dseg.training.watching import Logger


@command("cross-validate", short_help="Train on folds, each judged on what it had not seen.")
@click.argument("prepared", type=PathType)
@output_option("the folder of the folds' runs, predictions, scores and the table")
@config_option("A preset or a YAML file.  [default: the one that PREPARED was made with]")
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="How many folds.  [default: the config's split.folds, 5 unless set]",
)
@click.option(
    "--fold",
    type=click.IntRange(min=1),
    multiple=True,
    help="Only this fold, counted from 1; may be given several times. Others are added later.",
)
@click.option(
    "--splits",
    type=PathType,
    help="A file of folds, as nnU-Net's splits_final.json, instead of folds that are drawn.",
)
@click.option(
    "--validation",
    type=click.FloatRange(min=0, max=1, max_open=True),
    help="Share of the subjects that a fold learns from which is kept back for choosing the epoch."
    "  [default: the config's split.validation; 0 where the config chooses nothing by it]",
)
@click.option("--resume", is_flag=True, help="Go on; finished folds are left as they are.")
@training_options
@side_by_side_options
@logger_options
def cross_validate(
    prepared: Path,
    output: Path,
    config: str | None,
    folds: int | None,
    fold: tuple[int, ...],
    splits: Path | None,
    validation: float | None,
    resume: bool,
    seed: int | None,
    deterministic: bool,
    epochs: int | None,
    parent: Path | None,
    freeze: str | None,
    workers: "int | Executor | None",
    threads: int | None,
    loggers: Sequence["Logger"],
) -> None:
    """Train a network for each fold of PREPARED, and judge it on the subjects held out.

    Needs the [train] extra. Each subject is held out by one fold, which segments it as vol3dseg
    predict does; the table has the Dice of each fold and of all cases together, with intervals.
    vol3dseg export-onnx makes one model of all folds, or one of each. See
    docs/cross-validation.md.
    """
    from vol3dseg.reporting.fold_scores import HOW, fold_table, pooled_dice
    from vol3dseg.training.cross_validation import cross_validate as validate

    bar = TrainingBar()
    with closing(bar):
        found = validate(
            prepared,
            output,
            config,
            folds=folds,
            fold=fold,
            splits=splits,
            validation=validation,
            changes={
                "seed": seed,
                "epochs": epochs,
                "deterministic": deterministic or None,
                "freeze": freeze,
            },
            parent=parent,
            resume=resume,
            progress=bar.line,
            show=bar.step,
            loggers=loggers,
            workers=workers or 1,
            threads=threads,
        )
    if found is not None:
        by_fold, pooled = fold_table(found.rows, intervals=False), pooled_dice(found.pooled)
        show_table("Dice by fold", by_fold.columns, by_fold.rows)
        show_table("Dice of all folds together", pooled.columns, pooled.rows)
        click.echo(f"{HOW}\ncross-validation -> {output}")
