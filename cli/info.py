"""`vol3dseg info`."""

import json
from pathlib import Path
from typing import Any

import click

from vol3dseg.cli.options import PathType


@click.command(short_help="Show what a model, a run or a prepared folder is.")
@click.argument("path", type=PathType, metavar="FILE_OR_FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print it whole, as JSON.")
def info(path: Path, as_json: bool) -> None:
    """Show what an ONNX model, a run or a prepared folder says of itself."""
    from vol3dseg.model.model_file import describe

    kind, document = describe(path)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    click.echo(f"{path}: {kind}")
    for line in _lines(document, "  "):
        click.echo(line)


def _lines(value: Any, indent: str) -> list[str]:
    """Return a mapping as indented `key: value` lines, lists of scalars in one line."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            lines.append(f"{indent}{key}:")
            for entry in item:
                facts = ", ".join(f"{name}: {_scalar(fact)}" for name, fact in entry.items())
                lines.append(f"{indent}  - {facts}")
        else:
            lines.append(f"{indent}{key}: {_scalar(item)}")
    return lines


def _scalar(item: Any) -> str:
    if isinstance(item, list):
        return ", ".join(_scalar(each) for each in item)
    return "-" if item is None else str(item)
