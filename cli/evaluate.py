"""`vol3dseg evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import PathType, config_option, output_option, show_table

if TYPE_CHECKING:
    from vol3dseg.evaluation.evaluate import Summary


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
def evaluate(
    predictions: Path, references: Path, output: Path, config: str | None, empty: str
) -> None:
    """Score the label maps of PREDICTIONS against those of REFERENCES.

    REFERENCES is a dataset folder in a known layout, or a folder of files with the same names as
    the predictions. Every prediction must have a reference, and every case of predictions.json a
    prediction. Writes cases.csv, summary.json and summary.md. Needs no TensorFlow.
    """
    run_evaluate(predictions, references, output, config, empty)


def run_evaluate(
    predictions: Path,
    references: Path,
    output: Path,
    config_name: str | None = None,
    empty: str = "undefined",
) -> "Summary":
    """Evaluate in front of the user."""
    from vol3dseg.config import load_config
    from vol3dseg.datasets.references import label_files, reference_files
    from vol3dseg.evaluation.evaluate import evaluate_pairs, match_cases, summarise
    from vol3dseg.evaluation.overlap import EmptyRule
    from vol3dseg.evaluation.report import write_report
    from vol3dseg.inference.batch import RECORD_NAME, load_record

    files, known = label_files(predictions), reference_files(references)
    recorded = load_record(predictions) if (predictions / RECORD_NAME).exists() else None
    if recorded is not None:
        # A case that failed in predict has no file; it must not vanish from the mean.
        known = {name: path for name, path in known.items() if name in recorded.cases}
    source = load_config(config_name) if config_name else recorded or load_record(predictions)
    labels = source.labels
    pairs = match_cases(files, known, allow_missing=recorded is None)
    rule: EmptyRule = "one" if empty == "one" else "undefined"
    cases = evaluate_pairs(pairs, labels, rule)
    summary = summarise(cases)
    write_report(output, cases, summary)
    dice = [(name, summary.mean_dice(name)) for name in summary.names]
    rows = [[name, "-" if value is None else f"{value:.4f}"] for name, value in dice]
    mean = summary.mean_foreground_dice
    rows.append(["mean of classes", "-" if mean is None else f"{mean:.4f}"])
    show_table(f"Dice, mean over {len(cases)} cases", ["class or region", "Dice"], rows)
    click.echo(f"report -> {output}")
    return summary
