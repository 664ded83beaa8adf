"""`vol3dseg compare`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, command, output_option, show_table


@command(short_help="Put training runs side by side.")
@click.argument("runs", type=PathType, nargs=-1, metavar="RUN...")
@output_option("the comparison folder")
@click.option(
    "--part",
    type=click.Choice(["train", "validation", "test"]),
    help="Which part the runs are scored on.  [default: test if all have its scores, else "
    "validation]",
)
def compare(runs: tuple[Path, ...], output: Path, part: str | None) -> None:
    """Put RUNs side by side: hyper-parameters, results, differences per case, learning curves.

    A RUN is a folder made by vol3dseg train, with scores/<part>/ made by vol3dseg evaluate. Writes
    comparison.md, comparison.csv, differences.csv and comparison.html. Needs the [report] extra.
    """
    from vol3dseg.reporting.comparison import comparison_report as report
    from vol3dseg.reporting.comparison.comparison_tables import result_table

    comparison = report.compare_folders(runs, output, part)
    for entry in comparison.entries:
        click.echo(f"{entry.letter}: {entry.name}")
    table = result_table(comparison)
    show_table(f"Dice, {report.title(comparison)}", table.columns, table.rows)
    for note in report.notes_on_cases(comparison):
        click.echo(note)
    click.echo(f"comparison -> {output}")
