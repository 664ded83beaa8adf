"""`vol3dseg evaluate`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vol3dseg.cli.options import (
    PathType,
    about_case,
    command,
    config_option,
    output_option,
    repair_option,
    show_table,
    workers_option,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from vol3dseg.evaluation.empty_masks import EmptyRule
    from vol3dseg.evaluation.scoring import Summary
    from vol3dseg.reporting.score_report import Evaluation


@command(short_help="Score predictions against references.")
@click.argument("folders", type=PathType, nargs=-1, metavar="PREDICTIONS... [REFERENCES]")
@click.option(
    "--against",
    type=PathType,
    metavar="REFERENCES",
    help="The references, where several folders of predictions are scored and compared.",
)
@output_option("the report folder")
@config_option("Where label names come from.  [default: predictions.json]")
@click.option(
    "--empty",
    type=click.Choice(
        ["undefined", "one", "brats-2020", "brats-2023", "metrics-reloaded", "diagonal"]
    ),
    default="undefined",
    show_default=True,
    help="What counts where a structure is missing in the reference, the prediction, or both.",
)
@click.option(
    "--surface",
    type=click.Choice(["area", "voxels", "none"]),
    help="What surfaces are: between voxels, by area; the outermost voxels; none: no distances but "
    "those of --lesions, by area.  [default: area, where the extra [evaluate] is installed]",
)
@click.option(
    "--tolerance",
    multiple=True,
    metavar="MM|NAME=MM",
    help="Of the surface Dice: for all structures, or for one; may be repeated.  [default: 1]",
)
@click.option(
    "--lesions",
    metavar="RULE",
    help="Judge lesions one by one: brats-gli, brats-met, brats-men, brats-ped, brats-ssa, plain, "
    "or dilation=1,smallest_mm3=5,connectivity=26.",
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
@workers_option("vol3dseg.reporting.score_predictions")
@repair_option()
def evaluate(
    folders: tuple[Path, ...],
    against: Path | None,
    output: Path,
    config: str | None,
    empty: "EmptyRule",
    surface: Literal["area", "voxels", "none"] | None,
    tolerance: tuple[str, ...],
    lesions: str | None,
    split: Path | None,
    only_common: bool,
    workers: "int | Executor | None",
    repair: bool,
) -> None:
    """Score the label maps of PREDICTIONS against those of REFERENCES.

    REFERENCES is a dataset folder in a known layout, a dataset table (.csv, .json), or a folder of
    files with the same names as the predictions. Label maps may be in any format that is read,
    DICOM-SEG too; where both of a case are that, REFERENCES must be a table with its image. Every
    prediction must have a reference and found reference a prediction, unless --only-common is
    given; a split, here or at predict, says which cases are meant. Writes report.html, a page with
    charts and pictures, cases.csv, summary.json and summary.md; with --split into a folder for each
    part that has predictions, and one summary.md over them. Needs no TensorFlow.

    Several folders of predictions, with --against REFERENCES, are scored alike, each into a folder
    of the report, and compared case by case: comparison.html, comparison.md, comparison.json.
    """
    from vol3dseg.evaluation.judging import tolerances
    from vol3dseg.reporting import predictions_compared as several
    from vol3dseg.reporting.comparison.paired_differences import require_statistics
    from vol3dseg.reporting.score_predictions import evaluate as score

    if against is None and len(folders) != 2:
        raise click.UsageError(
            "give one folder of predictions and the references, or --against REFERENCES"
        )
    predictions = folders[:1] if against is None else folders
    references = folders[1] if against is None else against
    options = (
        config,
        empty,
        split,
        repair,
        only_common,
        surface,
        *tolerances(tolerance),
        lesions,
        workers,
    )
    found = {}
    if len(predictions) == 1:
        found["all"] = score(predictions[0], references, output, *options)
        _show(found["all"])
        _show_pooled(found["all"].summaries)
    else:
        require_statistics()
        several.claim_comparison(output)
        for name, folder in several.names_of(predictions).items():
            click.echo(f"\n{name}: {folder}")
            found[name] = score(folder, references, output / name, *options)
            _show(found[name])
        compared = several.compare_evaluations(found, output)
        for part in next(iter(found.values())).summaries:
            means = several.mean_table(compared, part)
            show_table(f"Means and 95 % intervals (cases): {part}", means.columns, means.rows)
            pairs = several.difference_table(compared, part, brief=True)
            show_table(f"Differences: {part}", pairs.columns, pairs.rows)
            _show_pooled({name: each.summaries[part] for name, each in found.items()})
    click.echo(f"report -> {output}")
    if any(each.cohort.failed for each in found.values()):
        sys.exit(1)


def _show(found: "Evaluation") -> None:
    from vol3dseg.reporting import score_report as report
    from vol3dseg.reporting.shape_tables import rules_in_words

    per_case = report.case_table(found)
    show_table(report.PER_CASE, per_case.columns, per_case.rows)
    click.echo(rules_in_words(next(iter(found.summaries.values()))))
    for part in found.without_predictions:
        click.echo(f"left out: part {part} has no predictions")
    for case_id, why in found.cohort.failed.items():
        click.echo(f"failed: {about_case(case_id, str(why))}")
    for note in found.notes:
        click.echo(f"note: {note}")


def _show_pooled(summaries: "Mapping[str, Summary]") -> None:
    """Print the pooled scores last: nobody publishes them, and few know what they are."""
    from vol3dseg.reporting import score_report as report

    pooled = report.pooled_table(summaries)
    show_table(report.POOLED, pooled.columns, pooled.rows)
    click.echo(report.NOT_COMPARABLE)
