"""`vol3dseg preprocess`."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import PathType, config_option, output_option, progress_bar

if TYPE_CHECKING:
    from vol3dseg.preprocessing.index import Index


@click.command(short_help="Crop and normalise scans into HDF5.")
@click.argument("dataset", type=PathType)
@output_option("the prepared folder")
@config_option("A preset or a YAML file; its recipe says what is done.", required=True)
@click.option(
    "-j",
    "--workers",
    type=click.IntRange(min=1),
    default=None,
    help="Processes to use; 1 works within this one.  [default: one per CPU]",
)
def preprocess(dataset: Path, output: Path, config: str, workers: int | None) -> None:
    """Crop, resample and normalise the scans of DATASET into HDF5.

    DATASET is a folder in BraTS or Medical Segmentation Decathlon layout. Run again, it does only
    what is missing or has changed. A case that fails is named and the others go on; the exit code
    is 1 then.
    """
    run_preprocess(dataset, output, config, workers or os.cpu_count() or 1)


def run_preprocess(dataset: Path, output: Path, config_name: str, workers: int) -> None:
    """Prepare a data set in front of the user."""
    from vol3dseg.config import load_config
    from vol3dseg.datasets.layouts import find_cases
    from vol3dseg.preprocessing.preprocess import Outcome
    from vol3dseg.preprocessing.preprocess import preprocess as prepare_all

    config = load_config(config_name)
    cases = find_cases(dataset)
    with ExitStack() as stack:
        executor = None
        if workers > 1 and len(cases) > 1:
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            pool = ProcessPoolExecutor(min(workers, len(cases)), mp_context=get_context("spawn"))
            executor = stack.enter_context(pool)
        bar = stack.enter_context(progress_bar())
        task = bar.add_task("preparing", total=len(cases))

        def advance(outcome: Outcome) -> None:
            bar.advance(task)

        index = prepare_all(
            cases,
            output,
            config.model_dump(mode="json"),
            config.recipe,
            config.labels,
            executor,
            advance,
        )
    _report(index, output)
    if index.failed:
        sys.exit(1)


def _report(index: "Index", output: Path) -> None:
    for entry in index.cases:
        if entry.labels_outside:
            click.echo(
                f"warning: case {entry.id}: {entry.labels_outside} labelled voxels lie outside the "
                "non-zero box and are lost; check the image, or use crop: none",
                err=True,
            )
    for case_id, reason in index.left_out.items():
        click.echo(f"left out: case {case_id}: {reason}")
    for case_id, reason in index.failed.items():
        click.echo(f"failed: case {case_id}: {reason}", err=True)
    click.echo(
        f"{len(index.cases)} cases prepared, {len(index.left_out)} left out, "
        f"{len(index.failed)} failed -> {output}"
    )
