"""`vol3dseg split`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, command, config_option, output_option


@command(short_help="Show how cases are divided, before training.")
@click.argument("prepared", type=PathType)
@output_option("the folder of split.json, split.md and split.png")
@config_option("A preset or a YAML file.  [default: the one that PREPARED was made with]")
@click.option("--stratify", is_flag=True, help="By foreground volume, whatever the config says.")
def split(prepared: Path, output: Path, config: str | None, stratify: bool) -> None:
    """Divide the cases of PREPARED into parts for training, validation and test.

    train divides them in the same way by itself; this shows the outcome first, as a table and a
    picture. A config may name split.json as split.file. Needs the [report] extra.
    """
    from vol3dseg.training.data import write_split

    click.echo(f"{write_split(prepared, output, config, stratify)}\nsplit -> {output}")
