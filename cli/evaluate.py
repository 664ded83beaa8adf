"""`vol3dseg evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import PathType, config_option, output_option, repair_option, show_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vol3dseg.datasets.splits import Split
    from vol3dseg.evaluation.scoring import Summary


@click.command(short_help="Score predictions against references.")
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
@repair_option()
def evaluate(
    predictions: Path,
    references: Path,
    output: Path,
    config: str | None,
    empty: str,
    split: Path | None,
    repair: bool,
) -> None:
    """Score the label maps of PREDICTIONS against those of REFERENCES.

    REFERENCES is a dataset folder in a known layout, a dataset table (.csv, .json), or a folder of
    files with the same names as the predictions. Label maps may be in any format that is read,
    DICOM-SEG too; where both of a case are that, REFERENCES must be a table with its image. Every
    prediction must have a reference, and every case of predictions.json a prediction. Writes
    cases.csv, summary.json and summary.md; with --split into a folder for each part that has
    predictions, and one summary.md over them. Needs no TensorFlow.
    """
    run_evaluate(predictions, references, output, config, empty, split, repair)


def run_evaluate(
    predictions: Path,
    references: Path,
    output: Path,
    config_name: str | None = None,
    empty: str = "undefined",
    split_file: Path | None = None,
    repair: bool = False,
) -> "dict[str, Summary]":
    """Evaluate in front of the user; return the summary of each part, of "all" without a split."""
    from vol3dseg.config import load_config
    from vol3dseg.datasets.case import allow_repairs
    from vol3dseg.datasets.references import label_files, reference_cases
    from vol3dseg.datasets.splits import read_split
    from vol3dseg.evaluation.overlap import EmptyRule
    from vol3dseg.evaluation.scoring import evaluate_pairs, match_cases, summarise
    from vol3dseg.inference.record import RECORD_NAME, load_record
    from vol3dseg.reporting.parts import group_by_part, write_parts
    from vol3dseg.reporting.score_report import write_report

    recorded = load_record(predictions) if (predictions / RECORD_NAME).exists() else None
    written = {case.file for case in recorded.cases.values()} if recorded else set()
    files = label_files(predictions, written)
    known = {c.id: c for c in allow_repairs(reference_cases(references).values(), repair)}
    if recorded is not None:
        # A case that failed must not vanish from the mean, nor count with an older model's file.
        failed = {name for name, case in recorded.cases.items() if case.error}
        files = {name: path for name, path in files.items() if name not in failed}
        known = {name: path for name, path in known.items() if name in recorded.cases}
    source = load_config(config_name) if config_name else recorded or load_record(predictions)
    labels = source.labels
    pairs = match_cases(files, known, allow_missing=recorded is None)
    rule: EmptyRule = "one" if empty == "one" else "undefined"
    split = read_split(split_file) if split_file else None
    groups = {"all": tuple(case_id for case_id, _, _ in pairs)}
    if split is not None:
        groups = group_by_part(groups["all"], split, str(split_file))
    scores = {case.case_id: case for case in evaluate_pairs(pairs, labels, rule)}
    cases = {part: [scores[case_id] for case_id in ids] for part, ids in groups.items()}
    summaries = {part: summarise(of_part) for part, of_part in cases.items()}
    if split is None:
        write_report(output, cases["all"], summaries["all"])
    else:
        write_parts(output, cases, summaries, split)
    _show(summaries, split)
    for case in scores.values():
        for note in case.notes:
            click.echo(f"note: case {case.case_id}: {note}")
    click.echo(f"report -> {output}")
    return summaries


def _show(summaries: "Mapping[str, Summary]", split: "Split | None") -> None:
    """Print the scores per case, then the pooled ones, which must not be taken for them."""
    from vol3dseg.reporting.parts import (
        NOT_COMPARABLE,
        PER_CASE,
        POOLED,
        case_rows,
        pooled_rows,
        without_predictions,
    )

    show_table(PER_CASE, ["score", *summaries], case_rows(summaries, split))
    show_table(POOLED, ["pooled score", *summaries], pooled_rows(summaries))
    click.echo(NOT_COMPARABLE)
    for part in without_predictions(summaries, split):
        click.echo(f"left out: part {part} has no predictions")
