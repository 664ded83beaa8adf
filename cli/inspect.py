"""`vol3dseg inspect`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import (
    PathType,
    about_case,
    command,
    config_option,
    output_option,
    progress_bar,
    repair_option,
    show_table,
    workers_option,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from vol3dseg.reporting.inspection.survey import Survey

_SHOWN = 10  # suspects in the terminal


@command(short_help="Look at a data set: suspects first, one HTML page.")
@click.argument("dataset", type=PathType)
@output_option("the page")
@config_option("Where label names, modalities and labels.required come from.")
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Cases that get a picture besides the suspects.",
)
@workers_option("vol3dseg.reporting.inspection.survey")
@repair_option()
def inspect(
    dataset: Path,
    output: Path,
    config: str | None,
    sample: int,
    workers: "int | Executor | None",
    repair: bool,
) -> None:
    """Look at the scans and masks of DATASET before anything is done with them.

    DATASET is a folder in BraTS, Medical Segmentation Decathlon, nnU-Net raw, BIDS or DICOM
    layout, a folder of images, one with images/ and labels/, or a dataset table (.csv, .json).
    Writes index.html, which opens in a browser without a network, and cases.csv and suspects.json
    for programs. Needs the extra [report].
    """
    from vol3dseg.reporting.inspection.inspection_report import inspect as inspect_dataset

    with progress_bar() as bar:
        tasks = {stage: bar.add_task(stage, total=None) for stage in ("measuring", "drawing")}

        def show(stage: str, total: int) -> None:
            bar.update(tasks[stage], total=total, advance=1)

        found = inspect_dataset(dataset, output, config, sample, workers, repair, show)
    _report(found, output)
    if found.failed:
        sys.exit(1)


def _report(found: "Survey", output: Path) -> None:
    from vol3dseg.reporting.inspection.inspection_report import PAGE_NAME

    rows = [
        [verdict.case_id, f"{verdict.score:.1f}", "; ".join(r.text for r in verdict.reasons)]
        for verdict in found.suspects[:_SHOWN]
    ]
    if rows:
        columns = ["case", "score", "reasons"]
        title = f"The {len(rows)} most suspicious of {len(found.cases)} cases"
        show_table(title, columns, rows, words=["reasons"])
    for note in found.notes:
        click.echo(f"note: {note}")
    if found.too_few:
        click.echo(found.too_few)
    for case_id, why in found.failed.items():
        click.echo(f"failed: {about_case(case_id, why)}")
    count = len(found.cases)
    click.echo(
        f"{count} case{'s' * (count != 1)}, {len(found.suspects)} suspect, "
        f"{len(found.left_out)} left out -> {output / PAGE_NAME}"
    )
