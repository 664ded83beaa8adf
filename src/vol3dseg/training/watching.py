"""How a training is watched: who is told of its lines, its steps and its epochs.

All of it may be sent to the process that trains, so it must be what pickle takes: functions of
modules, methods of plain objects.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from vol3dseg.config import Config
from vol3dseg.training.timing import Step

Progress = Callable[[str], None]
Show = Callable[[Step], None]
# Of a run folder, its config and whether it is resumed, to a context that gives a Keras callback.
# It is called before work begins, so that a missing package is told then; the context is entered
# when the network is ready to learn, and left when it has learned or when that failed.
Logger = Callable[[Path, Config, bool], AbstractContextManager[Any]]


def quiet(_: object) -> None:
    """Tell nobody."""


def of_run(loggers: Sequence[Logger], run: Path) -> list[Logger]:
    """Return the same loggers, which take whatever is trained for `run`.

    A run that goes on to more epochs does so in a folder of its own, but is the same run to them.
    """
    return [partial(_elsewhere, logger, run) for logger in loggers]


def _elsewhere(
    logger: Logger, run: Path, trained: Path, config: Config, resumed: bool
) -> AbstractContextManager[Any]:
    return logger(run, config, resumed)
