"""`vol3dseg info`."""

import json
from pathlib import Path

import click

from vol3dseg.cli.options import PathType, command, show_table


@command(short_help="Show what a model, a run or a prepared folder is.")
@click.argument("path", type=PathType, metavar="FILE_OR_FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print it whole, as JSON.")
def info(path: Path, as_json: bool) -> None:
    """Show what an ONNX model, a run or a prepared folder says of itself."""
    from vol3dseg.model.model_file import describe
    from vol3dseg.reporting.self_description import tables_of

    found = describe(path)
    if as_json:
        click.echo(json.dumps(found.document, indent=2, ensure_ascii=False))
        return
    click.echo(f"{path}: {found.kind}")
    for title, table in tables_of(found).items():
        click.echo()
        show_table(title, table.columns, table.rows, table.columns[: table.text_columns])
