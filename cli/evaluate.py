"""`vol3dseg evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import (
    PathType,
    command,
    config_option,
    output_option,
    repair_option,
    show_table,
)

if TYPE_CHECKING:
    from vol3dseg.evaluation.overlap import EmptyRule


@command(short_help="Score predictions against references.")
@click.argument("predictions", type=PathType)
@click.argument("references", type=PathType)
@output_option("the report folder")
@config_option("Where label names come from.  [default: predictions.json]")
@click.option(
    "--empty",
    type=click.Choice(["undefined", "one"]),
    default="undefined",
    show_default=True,
    help="What a class counts that neither reference nor prediction has; BraTS counts one.",
)
@click.option(
    "--split",
    type=PathType,
    help="A split.json: scores of each of its parts, in REPORT/<part>, and side by side.",
)
@click.option(
    "--only-common",
    is_flag=True,
    help="Leave out, and name, cases that have a prediction or a reference alone.",
)
@repair_option()
def evaluate(
    predictions: Path,
    references: Path,
    output: Path,
    config: str | None,
    empty: "EmptyRule",
    split: Path | None,
    only_common: bool,
    repair: bool,
) -> None:
    """Score the label maps of PREDICTIONS against those of REFERENCES.

    REFERENCES is a dataset folder in a known layout, a dataset table (.csv, .json), or a folder of
    files with the same names as the predictions. Label maps may be in any format that is read,
    DICOM-SEG too; where both of a case are that, REFERENCES must be a table with its image. Every
    prediction must have a reference and every reference a prediction, unless --only-common is
    given; a split, here or at predict, says which cases are meant. Writes cases.csv, summary.json
    and summary.md; with --split into a folder for each part that has predictions, and one
    summary.md over them. Needs no TensorFlow.
    """
    from vol3dseg.reporting import score_report as report
    from vol3dseg.reporting.score_predictions import evaluate as score

    found = score(predictions, references, output, config, empty, split, repair, only_common)
    per_case = report.case_table(found)
    show_table(report.PER_CASE, per_case.columns, per_case.rows)
    pooled = report.pooled_table(found.summaries)
    show_table(report.POOLED, pooled.columns, pooled.rows)
    click.echo(report.NOT_COMPARABLE)
    for part in found.without_predictions:
        click.echo(f"left out: part {part} has no predictions")
    for note in found.notes:
        click.echo(f"note: {note}")
    click.echo(f"report -> {output}")
