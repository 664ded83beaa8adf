"""`vol3dseg train`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, config_option, output_option, show_table


@click.command(short_help="Train a 3-D U-Net.")
@click.argument("prepared", type=PathType)
@output_option("the run folder")
@config_option("A preset or a YAML file.  [default: the one that PREPARED was made with]")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed, instead of the config's.")
@click.option(
    "--deterministic",
    is_flag=True,
    help="Repeat exactly on this machine with the same number of threads; slower.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs, instead of the config's.")
def train(
    prepared: Path,
    output: Path,
    config: str | None,
    resume: bool,
    seed: int | None,
    deterministic: bool,
    epochs: int | None,
) -> None:
    """Train a 3-D U-Net on PREPARED, a folder made by vol3dseg preprocess.

    Needs the [train] extra. The run folder gets the checkpoints, manifest.json, config.yaml,
    split.json, training.log, curves.png and environment.json.
    """
    changes: dict[str, object] = {"seed": seed, "epochs": epochs}
    if deterministic:
        changes["deterministic"] = True
    run_train(prepared, output, config, resume, changes)


def run_train(
    prepared: Path,
    run: Path,
    config_name: str | None,
    resume: bool = False,
    changes: dict[str, object] | None = None,
) -> None:
    """Train in front of the user; `changes` replace fields of the config's training section."""
    from vol3dseg.config import load_config, parse_config
    from vol3dseg.errors import MissingExtraError
    from vol3dseg.preprocessing.index import load_index

    if resume and config_name is None and (run / "config.yaml").is_file():
        config = load_config(run / "config.yaml")
    elif config_name is not None:
        config = load_config(config_name)
    else:
        config = parse_config(load_index(prepared).config, f"{prepared}/index.json")
    data = config.model_dump(mode="json")
    data["training"].update({k: v for k, v in (changes or {}).items() if v is not None})
    config = parse_config(data, "the command line")
    try:
        from vol3dseg.training.fit import train as fit
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "tensorflow", "train") from error

    manifest = fit(prepared, run, config, resume, click.echo)
    facts = manifest.training
    click.echo(
        f"{facts.checkpoint}.keras is epoch {facts.epoch} of {facts.epochs}, trained on "
        f"{facts.cases['train']} cases -> {run}"
    )
    if manifest.validation:
        rows = [
            [name, "-" if dice is None else f"{dice:.3f}"]
            for name, dice in manifest.validation.dice.items()
        ]
        show_table(
            f"Whole-volume Dice on {manifest.validation.cases} validation cases",
            ["class", "Dice"],
            rows,
        )
