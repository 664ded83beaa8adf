"""The options that train and cross-validate share."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from vol3dseg.cli.options import PathType, workers_option
from vol3dseg.cli.signing_options import trusted_option


def training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what is often changed of a training without a config of its own.

    The command gets all of it but --trusted, which is heeded before it runs.
    """

    @wraps(function)
    def run(*given: Any, trusted: Sequence[Path] = (), **chosen: Any) -> None:
        if trusted:
            if chosen["parent"] is None:
                raise click.UsageError("--trusted is about the model of --from; give both")
            from vol3dseg.model.model_file import require_trusted

            require_trusted(chosen["parent"], trusted)
        function(*given, **chosen)

    for option in (
        trusted_option(),
        click.option(
            "--freeze",
            type=click.Choice(["encoder"]),
            help="What keeps the weights that it starts with, not the config's.",
        ),
        click.option(
            "--from",
            "parent",
            type=PathType,
            metavar="MODEL_OR_RUN",
            help="Start from the weights of a run, or of a model that was exported from one.",
        ),
        click.option("--epochs", type=click.IntRange(min=1), help="Epochs, not the config's."),
        click.option(
            "--deterministic",
            is_flag=True,
            help="Repeat exactly on this machine with the same number of threads; slower.",
        ),
        click.option(
            "--seed", type=click.IntRange(min=0), help="Seed of training, not the config's."
        ),
    ):
        run = option(run)
    return run


def side_by_side_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add where several trainings run, and how many threads each takes."""
    function = click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="The most that each training takes.  [default: one per core, which workers share]",
    )(function)
    added: Callable[..., Any] = workers_option("vol3dseg.training.several", default=1)(function)
    return added
