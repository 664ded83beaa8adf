"""A training's epochs in MLflow, where its environment says that they go. Needs [mlflow].

Nothing here needs TensorFlow before a training begins.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from vol3dseg.config import Config
from vol3dseg.errors import RunError
from vol3dseg.extras import load_extra
from vol3dseg.files import write_text
from vol3dseg.schema import Frozen, flat, read_json

_RECORD = "mlflow.json"
_NO_NAME = re.compile(r"[^\w./ :-]")  # what mlflow takes in no name of a metric


class _Record(Frozen):
    """Which run of MLflow a run folder is."""

    run_id: str


def mlflow_log(run: Path, config: Config, resumed: bool) -> AbstractContextManager[Any]:
    """Return what logs a training in MLflow while its block runs; it gives a Keras callback.

    The parameters are the config, the metrics those of training.log. A resumed training goes on in
    the same run of MLflow, whose id is kept in mlflow.json of the run folder. RunError: MLflow
    refuses at the start; what it refuses later is logged after a later epoch.
    """
    return _logging(load_mlflow(), run, config, resumed)


def load_mlflow() -> Any:
    """Return MLflow, which reports to nobody but its tracking server; or MissingExtraError."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before its import
    return load_extra("mlflow", "mlflow")


@contextmanager
def _logging(mlflow: Any, run: Path, config: Config, resumed: bool) -> Iterator[Any]:
    from vol3dseg.training.backend import keras

    record = run / _RECORD
    known = None
    if resumed and record.is_file():
        expected, remedy = "the id of a run of mlflow", "remove it, and another is begun there"
        known = read_json(_Record, record, RunError, expected=expected, remedy=remedy).run_id
    with _refusing(mlflow, run):
        # The first is for a program that logs in a run of its own.
        begun = mlflow.start_run(run_id=known, run_name=None if known else run.name, nested=True)
    with begun:  # ends as finished, or as failed where the block does
        if known is None:
            with _refusing(mlflow, run):
                mlflow.log_params(_parameters(config))
            write_text(record, _Record(run_id=begun.info.run_id).model_dump_json() + "\n")
        yield keras.callbacks.LambdaCallback(on_epoch_end=_Epochs(mlflow).log)


@contextmanager
def _refusing(mlflow: Any, run: Path) -> Iterator[None]:
    """Report what mlflow refuses at the start as ours."""
    try:
        yield
    except mlflow.exceptions.MlflowException as error:
        raise RunError(
            f"mlflow does not take it ({error})",
            where=run,
            remedy="look at MLFLOW_TRACKING_URI and mlflow's other settings, or train without it",
        ) from error


class _Epochs:
    """Logs epochs; what is refused once is tried again after the next one."""

    def __init__(self, mlflow: Any) -> None:
        self._mlflow = mlflow
        self._waiting: dict[int, dict[str, float]] = {}

    def log(self, epoch: int, logs: Mapping[str, Any] | None) -> None:
        """Log an epoch, counted from 0 as in training.log."""
        values = {_NO_NAME.sub("_", name): float(value) for name, value in (logs or {}).items()}
        self._waiting[epoch] = values
        try:
            for number in list(self._waiting):
                self._mlflow.log_metrics(self._waiting[number], step=number)
                del self._waiting[number]
        except self._mlflow.exceptions.MlflowException as error:
            # Hours of training are worth more than a row elsewhere.
            logging.getLogger(__name__).warning("mlflow did not take epoch %d: %s", number, error)


def _parameters(config: Config) -> dict[str, str]:
    """Return a config by names with dots; what is no text as JSON."""
    values = flat(config.model_dump(mode="json")).items()
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in values}
    return {_NO_NAME.sub("_", key): text for key, text in texts.items()}
