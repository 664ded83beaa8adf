"""`vol3dseg info`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import PathType, command, show_table
from vol3dseg.inference import DEVICES

if TYPE_CHECKING:
    from vol3dseg.inference import Device


@command(short_help="Show what a model, a run or a prepared folder is.")
@click.argument("path", type=PathType, metavar="FILE_OR_FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print it whole, as JSON.")
@click.option(
    "--replay",
    "replaying",
    is_flag=True,
    help="Segment the small case that an adopted model carries, and compare with its labels.",
)
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="What --replay runs on.")
def info(path: Path, as_json: bool, replaying: bool, device: "Device") -> None:
    """Show what an ONNX model, a run or a prepared folder says of itself."""
    if replaying:
        from vol3dseg.inference.replaying import replay

        replayed = replay(path, device)
        click.echo(f"{path}: {replayed}")
        if not replayed.agrees:
            sys.exit(1)
        return
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
