"""The options --tensorboard and --mlflow, of all commands that train."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vol3dseg.training.watching import Logger


def logger_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets what was asked for as `loggers`."""

    @wraps(function)
    def with_loggers(*given: Any, tensorboard: bool, mlflow: bool, **named: Any) -> Any:
        return function(*given, loggers=_loggers(tensorboard, mlflow), **named)

    for option in (
        click.option(
            "--mlflow",
            is_flag=True,
            help="Log in MLflow too, where its environment says, such as MLFLOW_TRACKING_URI. "
            "Needs [mlflow].",
        ),
        click.option(
            "--tensorboard",
            is_flag=True,
            help="Log for TensorBoard too, in the run folder. Needs [tensorboard].",
        ),
    ):
        with_loggers = option(with_loggers)
    return with_loggers


def _loggers(tensorboard: bool, mlflow: bool) -> list["Logger"]:
    """Return what was asked for, once it is known that its packages are there."""
    from vol3dseg.training.mlflow_log import load_mlflow, mlflow_log
    from vol3dseg.training.tensorboard_log import load_tensorboard, tensorboard_log

    chosen: list[Logger] = []
    if tensorboard:
        load_tensorboard()
        chosen.append(tensorboard_log)
    if mlflow:
        load_mlflow()
        chosen.append(mlflow_log)
    return chosen
