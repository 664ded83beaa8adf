"""`vol3dseg inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import (
    PathType,
    config_option,
    output_option,
    progress_bar,
    repair_option,
    show_table,
    workers_option,
)

if TYPE_CHECKING:
    from vol3dseg.reporting.inspection.survey import Survey

_SHOWN = 10  # suspects in the terminal


@click.command(short_help="Look at a data set: suspects first, one HTML page.")
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
@workers_option()
@repair_option()
def inspect(
    dataset: Path, output: Path, config: str | None, sample: int, workers: int | None, repair: bool
) -> None:
    """Look at the scans and masks of DATASET before anything is done with them.

    DATASET is a folder in BraTS, Medical Segmentation Decathlon, nnU-Net raw, BIDS or DICOM
    layout, or a dataset table (.csv, .json). Writes index.html, which opens in a browser without
    a network, and cases.csv and suspects.json for programs. Needs the extra [report].
    """
    run_inspect(dataset, output, config, sample, workers, repair)


def run_inspect(
    dataset: Path,
    output: Path,
    config_name: str | None,
    sample: int,
    workers: int | None,
    repair: bool = False,
) -> "Survey":
    """Inspect a data set in front of the user."""
    from vol3dseg.config import load_config
    from vol3dseg.datasets.over_cases import worker_processes
    from vol3dseg.files import require_writable, write_text
    from vol3dseg.reporting.inspection.inspection_page import page
    from vol3dseg.reporting.inspection.inspection_tables import write_tables
    from vol3dseg.reporting.inspection.survey import count_drawn, find_source, gallery, survey
    from vol3dseg.reporting.inspection.thumbnails import require_pillow

    require_pillow()
    config = load_config(config_name) if config_name else None
    source = find_source(
        dataset,
        config.recipe.modalities if config else None,
        config.labels if config else None,
        repair,
    )
    require_writable(output)
    with worker_processes(workers, len(source.cases)) as executor, progress_bar() as bar:
        task = bar.add_task("measuring", total=len(source.cases))
        found = survey(source, executor, lambda: bar.advance(task))
        drawing = bar.add_task("drawing", total=count_drawn(found, sample))
        pictures = gallery(source, found, sample, executor, lambda: bar.advance(drawing))
    write_tables(output, found)
    write_text(output / "index.html", page(found, pictures))
    _report(found, output)
    return found


def _report(found: "Survey", output: Path) -> None:
    from vol3dseg.quality.expectations import FEWEST_CASES

    rows = [
        [verdict.case_id, f"{verdict.score:.1f}", "; ".join(r.text for r in verdict.reasons)]
        for verdict in found.suspects[:_SHOWN]
    ]
    if rows:
        columns = ["case", "score", "reasons"]
        show_table("The most suspicious cases", columns, rows, words=["reasons"])
    if len(found.cases) < FEWEST_CASES:
        click.echo(
            f"fewer than {FEWEST_CASES} cases: nothing to compare, so only what is wrong whatever "
            "other cases are like was looked for"
        )
    count = len(found.cases)
    click.echo(
        f"{count} case{'s' * (count != 1)}, {len(found.suspects)} suspect, "
        f"{len(found.left_out)} left out -> {output / 'index.html'}"
    )
