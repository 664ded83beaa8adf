"""`vol3dseg compare`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, output_option, show_table


@click.command(short_help="Put training runs side by side.")
@click.argument("runs", type=PathType, nargs=-1, metavar="RUN...")
@output_option("the comparison folder")
@click.option(
    "--part",
    type=click.Choice(["train", "validation", "test"]),
    help="Which part the runs are judged on.  [default: test if all have its scores, else "
    "validation]",
)
def compare(runs: tuple[Path, ...], output: Path, part: str | None) -> None:
    """Put RUNs side by side: hyper-parameters, results, differences per case, learning curves.

    A RUN is a folder made by vol3dseg train, with scores/<part>/ made by vol3dseg evaluate. Writes
    comparison.md, comparison.csv, differences.csv and comparison.html. Needs the [report] extra.
    """
    run_compare(runs, output, part)


def run_compare(runs: tuple[Path, ...], output: Path, part: str | None = None) -> None:
    """Compare in front of the user."""
    from vol3dseg.files import require_writable
    from vol3dseg.reporting.comparison import comparison_words as words
    from vol3dseg.reporting.comparison.comparison import compare as compare_runs
    from vol3dseg.reporting.comparison.comparison_report import write_comparison
    from vol3dseg.reporting.comparison.comparison_tables import number
    from vol3dseg.reporting.comparison.runs import read_run

    found = [read_run(run) for run in runs]
    require_writable(output)
    comparison = compare_runs(found, part)
    write_comparison(output, comparison)
    columns = ["run", *comparison.foreground, "mean of classes"]
    rows = [
        [
            f"{entry.letter}: {entry.name}",
            *(number(entry.statistics[name].mean) for name in comparison.foreground),
            number(entry.mean_of_classes),
        ]
        for entry in comparison.entries
    ]
    show_table(f"Dice, {words.title(comparison)}", columns, rows)
    for note in words.cases_note(comparison):
        click.echo(note)
    click.echo(f"comparison -> {output}")
