"""`vol3dseg plan`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import (
    PathType,
    SizeType,
    command,
    progress_bar,
    repair_option,
    workers_option,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from vol3dseg.planning.make_plan import Plan

_DEFAULT_MINUTES = 30.0


@command(short_help="Make a config for a data set, by stated rules.")
@click.argument("dataset", type=PathType)
@click.option(
    "-o",
    "--output",
    type=PathType,
    metavar="PATH",
    help="Where the config goes, a YAML file.  [default: it is printed]",
)
@click.option(
    "--memory",
    "memory_mb",
    type=SizeType(),
    help="What training may take in all, as 8GB or 900MB.  [default: 85 % of what is free]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=1, max=1e6),
    default=_DEFAULT_MINUTES,
    show_default=True,
    help="What training may take.",
)
@workers_option("vol3dseg.planning.fingerprint")
@repair_option()
def plan(
    dataset: Path,
    output: Path | None,
    memory_mb: float | None,
    minutes: float,
    workers: "int | Executor | None",
    repair: bool,
) -> None:
    """Make a config for DATASET, with the rule and the number at each choice as a comment.

    DATASET is a folder in BraTS, Medical Segmentation Decathlon, nnU-Net raw, BIDS or DICOM
    layout, a folder of images, one with images/ and labels/, or a dataset table (.csv, .json).
    Reads label maps and images, and measures how fast this machine trains. The config is an
    ordinary one: edit it, or give it to preprocess as it is. docs/plan.md has the rules.
    """
    from vol3dseg.planning.make_plan import plan as make_plan

    with progress_bar() as bar:
        task = bar.add_task("measuring", total=None)

        def show(total: int) -> None:
            bar.update(task, total=total, advance=1)

        made = make_plan(dataset, output, memory_mb, minutes, workers, repair, progress=show)
    if output is None:
        click.echo(made.text, nl=False)
    report_plan(made, err=output is None)
    if output is not None:
        click.echo(f"plan -> {output}")


def report_plan(made: "Plan", err: bool = False) -> None:
    """Print what was planned in a line, and what the user should know of it."""
    for note in made.notes:
        click.echo(f"note: {note}", err=err)
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(str(made), err=err)
