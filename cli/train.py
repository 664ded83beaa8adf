"""`vol3dseg train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import PathType, output_option, show_table

if TYPE_CHECKING:
    from vol3dseg.config import Config
    from vol3dseg.model.manifest import Manifest


@click.command(short_help="Train a 3-D U-Net, or several.")
@click.argument("prepared", type=PathType)
@output_option("the run folder, or with several configs the folder of their run folders,")
@click.option(
    "-c",
    "--config",
    "configs",
    multiple=True,
    metavar="NAME_OR_FILE",
    help="A preset or a YAML file; give several to train one after the other.  "
    "[default: the one that PREPARED was made with]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with interrupted runs; of several, finished ones are left as they are.",
)
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
    configs: tuple[str, ...],
    resume: bool,
    seed: int | None,
    deterministic: bool,
    epochs: int | None,
) -> None:
    """Train a 3-D U-Net on PREPARED, a folder made by vol3dseg preprocess.

    Needs the [train] extra. The run folder gets the checkpoints, manifest.json, config.yaml,
    split.json, training.log, curves.png, environment.json and scores/validation.

    With several configs each has a run folder of its own, named like the config; one that fails
    does not stop the others, and the exit code is 1 then.
    """
    changes: dict[str, object] = {"seed": seed, "epochs": epochs}
    if deterministic:
        changes["deterministic"] = True
    if len(configs) > 1:
        run_train_several(prepared, output, configs, resume, changes)
    else:
        run_train(prepared, output, configs[0] if configs else None, resume, changes)


def run_train(
    prepared: Path,
    run: Path,
    config_name: str | None,
    resume: bool = False,
    changes: dict[str, object] | None = None,
) -> None:
    """Train in front of the user; `changes` replace fields of the config's training section."""
    from vol3dseg.config import load_config
    from vol3dseg.preprocessing.index import load_index

    if resume and config_name is None and (run / "config.yaml").is_file():
        config = load_config(run / "config.yaml")
    elif config_name is not None:
        config = load_config(config_name)
    else:
        config = load_index(prepared).config
    _report(_fit(prepared, run, _changed(config, changes), resume), run)


def run_train_several(
    prepared: Path,
    runs: Path,
    config_names: Sequence[str],
    resume: bool = False,
    changes: dict[str, object] | None = None,
) -> None:
    """Train one config after the other into `runs/<name of the config>`."""
    from vol3dseg.config import load_config

    names = [Path(name).stem for name in config_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise click.UsageError(
            f"several configs are named {', '.join(twice)}; their run folders would be one; "
            "rename the files"
        )
    # All are read before the first is trained: a slip in the last shall not wait for hours.
    configs = {
        n: _changed(load_config(c), changes) for n, c in zip(names, config_names, strict=True)
    }
    outcomes = {name: _train_apart(prepared, runs / name, c, resume) for name, c in configs.items()}
    rows = [[str(runs / name), what] for name, what in outcomes.items()]
    show_table("Runs", ["run", "outcome"], rows, words=["outcome"])
    if any(what not in (_DONE, _DONE_BEFORE) for what in outcomes.values()):
        raise SystemExit(1)


_DONE, _DONE_BEFORE = "finished", "had been finished"


def _train_apart(prepared: Path, run: Path, config: "Config", resume: bool) -> str:
    """Train in a process of its own, so that what one run breaks or leaves ends with it."""
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context
    from traceback import print_exception

    click.secho(f"\n{run.name} -> {run}", bold=True)
    if resume and (run / "manifest.json").is_file():
        outcome = _finished_with(run, config)
        click.echo(outcome, err=outcome != _DONE_BEFORE)
        return outcome
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        goes_on = resume and (run / "last.keras").is_file()
        future = pool.submit(_train_or_say_why, prepared, run, config, goes_on)
        error = future.exception()
    if error is None:
        outcome = future.result()
    elif isinstance(error, BrokenProcessPool):
        outcome = (
            "failed: its process was killed, perhaps for want of memory; free some and go on with "
            "--resume, or train in another folder with a smaller training.micro_batch"
        )
    else:  # a bug: the traceback is kept, the other runs go on
        print_exception(error)
        outcome = f"failed: {type(error).__name__}: {error}"
    if outcome != _DONE:
        click.echo(outcome, err=True)
    return outcome


def _finished_with(run: Path, config: "Config") -> str:
    """Return the outcome of a run that was finished before, perhaps with another config."""
    from vol3dseg.config import load_config

    before = load_config(run / "config.yaml")
    differences = before.differences(config.resumes(before))
    if not differences:
        return _DONE_BEFORE
    return (
        f"failed: {run} was finished with another config, which differs in {differences}; "
        "train in another folder"
    )


def _train_or_say_why(prepared: Path, run: Path, config: "Config", resume: bool) -> str:
    from vol3dseg.errors import Vol3dSegError

    try:
        _report(_fit(prepared, run, config, resume), run)
    except Vol3dSegError as error:
        return f"failed: {' '.join(str(error).split())}"
    return _DONE


def _changed(config: "Config", changes: dict[str, object] | None) -> "Config":
    from vol3dseg.config import parse_config

    data = config.model_dump(mode="json")
    data["training"].update({k: v for k, v in (changes or {}).items() if v is not None})
    return parse_config(data, "the command line")


def _fit(prepared: Path, run: Path, config: "Config", resume: bool) -> "Manifest":
    from vol3dseg.errors import MissingExtraError

    try:
        from vol3dseg.training.fit import train as fit
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "tensorflow", "train") from error
    return fit(prepared, run, config, resume, click.echo)


def _report(manifest: "Manifest", run: Path) -> None:
    facts = manifest.members[0]
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
