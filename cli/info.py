"""`vol3dseg info`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import PathType, command, show_table
from vol3dseg.cli.signing_options import trusted_option
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
@click.option(
    "--audit",
    "auditing",
    is_flag=True,
    help="Say all that is wrong with it, of a run and a prepared folder as well; exit with 1 if "
    "any of it would be refused.",
)
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="What --replay runs on.")
@trusted_option()
def info(
    path: Path,
    as_json: bool,
    replaying: bool,
    auditing: bool,
    device: "Device",
    trusted: tuple[Path, ...],
) -> None:
    """Show what an ONNX model, a run or a prepared folder says of itself."""
    if auditing:
        if replaying:
            raise click.UsageError("--audit does not go with --replay")
        if not _audit(path, as_json, trusted):
            sys.exit(1)
        return
    if replaying:
        from vol3dseg.inference.replaying import replay

        replayed = replay(path, device, trusted or None)
        click.echo(f"{path}: {replayed}")
        if not replayed.agrees:
            sys.exit(1)
        return
    from vol3dseg.model.model_file import describe
    from vol3dseg.reporting.self_description import tables_of

    found = describe(path, trusted or None)
    if as_json:
        click.echo(json.dumps(found.document, indent=2, ensure_ascii=False))
        return
    click.echo(f"{path}: {found.kind}")
    for title, table in tables_of(found).items():
        click.echo()
        show_table(title, table.columns, table.rows, table.columns[: table.text_columns])


def _audit(path: Path, as_json: bool, trusted: tuple[Path, ...]) -> bool:
    """Print all that is wrong; returns whether nothing would be refused."""
    from vol3dseg.training.auditing import audit

    found = audit(path, trusted or None)
    if as_json:
        click.echo(json.dumps(found.document, indent=2, ensure_ascii=False))
        return not found.findings
    for note in found.notes:
        click.echo(f"note: {note}")
    for fault in found.findings:
        click.echo(f"refused: {' '.join(str(fault).split())}")
    count = len(found.findings)
    end = "whole, nothing of it would be refused" if not count else f"{count} would be refused"
    click.echo(f"{path}: {found.kind}: {end}")
    return not count
