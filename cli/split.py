"""`vol3dseg split`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, config_option, output_option


@click.command(short_help="Show how cases are divided, before training.")
@click.argument("prepared", type=PathType)
@output_option("the folder of split.json, split.md and split.png")
@config_option("A preset or a YAML file.  [default: the one that PREPARED was made with]")
@click.option("--stratify", is_flag=True, help="By foreground volume, whatever the config says.")
def split(prepared: Path, output: Path, config: str | None, stratify: bool) -> None:
    """Divide the cases of PREPARED into parts for training, validation and test.

    train divides them in the same way by itself; this shows the outcome first, as a table and a
    picture. A config may name split.json as split.file. Needs the [report] extra.
    """
    from vol3dseg.config import load_config, parse_config
    from vol3dseg.datasets.splits import PARTS, make_split, split_table
    from vol3dseg.files import write_text
    from vol3dseg.preprocessing.index import load_index
    from vol3dseg.reporting.figures import save_split
    from vol3dseg.training.data import foreground_ml, labelled_subjects

    index = load_index(prepared)
    source = load_config(config) if config else parse_config(index.config, f"{prepared}/index.json")
    settings = source.split
    if stratify:
        settings = settings.model_copy(update={"stratify": True, "file": None})
    subjects, volumes_ml = labelled_subjects(prepared, index), foreground_ml(index)
    parts = make_split(subjects, settings, volumes_ml)
    table = split_table(parts, subjects, volumes_ml)
    save_split(output / "split.png", {name: parts.part(name) for name in PARTS}, volumes_ml)
    write_text(
        output / "split.md", f"# Split\n\n{settings.in_words}\n\n{table}\n\n![split](split.png)\n"
    )
    parts.write(output / "split.json")
    click.echo(f"{settings.in_words}\n\n{table}\n\nsplit -> {output}")
