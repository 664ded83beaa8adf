"""Checkpoints of a run: Keras files that also know where the training stood.

`last.keras` has one more member than Keras writes, `vol3dseg-state.json`: what the callbacks
remember. In one file with the weights, since two files can disagree after a crash. Keras reads such
a file as any other.
"""

import csv
import zipfile
from pathlib import Path
from typing import Any

import keras
from pydantic import ValidationError

from vol3dseg.errors import RunError
from vol3dseg.files import atomic_path, write_text
from vol3dseg.schema import Frozen

# Loading a model finds what is ours (layer, loss, metrics, rate) only if its module was imported.
from vol3dseg.training import compiled, losses, metrics  # noqa: F401
from vol3dseg.training.networks import unet  # noqa: F401

_MEMBER = "vol3dseg-state.json"
_DAMAGE = (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile)


class PlateauState(Frozen):
    """What `keras.callbacks.ReduceLROnPlateau` remembers."""

    wait: int
    best: float | None
    cooldown_counter: int


class StoppingState(Frozen):
    """What `keras.callbacks.EarlyStopping` remembers."""

    wait: int
    best: float | None
    best_epoch: int
    stopped_epoch: int


class TrainingState(Frozen):
    """Where a training stood at the end of an epoch, beside weights and optimizer.

    Attributes
    ----------
    epochs : int
        Epochs done.
    best_val_loss : float or None
        Of `best.keras`.
    plateau, stopping : section or None
        None where the run has no such callback.
    seeds : tuple of tuple of int
        State of the random generators in the network (dropout), which Keras does not save.
    """

    epochs: int
    best_val_loss: float | None = None
    plateau: PlateauState | None = None
    stopping: StoppingState | None = None
    seeds: tuple[tuple[int, ...], ...] = ()

    @property
    def stopped_early(self) -> bool:
        """Whether `EarlyStopping` has ended the run; there is nothing left to resume then."""
        return self.stopping is not None and self.stopping.stopped_epoch > 0


def save_checkpoint(path: Path, model: Any, state: TrainingState) -> None:
    """Write the model with its optimizer, and `state`, into one file, atomically.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(_MEMBER, state.model_dump_json())


def load_checkpoint(path: Path) -> Any:
    """Read a model, compiled and with its optimizer if it was saved so.

    Parameters
    ----------
    path : Path
        A .keras file. Code in it is not run (Keras' safe mode).

    Returns
    -------
    keras.Model
        To go on with a training, compile a new model and call `restore_checkpoint` instead: a saved
        optimizer forgets which weights it must not decay.

    Raises
    ------
    RunError
        The file is missing or damaged.
    """
    _require_archive(path)
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def restore_checkpoint(model: Any, path: Path) -> None:
    """Give a compiled model the weights and the state of the optimizer in a checkpoint.

    Parameters
    ----------
    model : keras.Model
        Of the same architecture and compiled with the same kind of optimizer as the saved one.
    path : Path

    Raises
    ------
    RunError
        The file is missing, damaged or of another model.
    """
    _require_archive(path)
    # An optimizer that has no variables yet would skip its state with a mere warning.
    model.optimizer.build(model.trainable_variables)
    try:
        model.load_weights(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def read_state(path: Path) -> TrainingState:
    """Read where the training stood when `path`, a `last.keras`, was written.

    Raises
    ------
    RunError
        The file is missing or damaged, or was not written at the end of an epoch of ours.
    """
    _require_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return TrainingState.model_validate_json(archive.read(_MEMBER))
    except KeyError as error:
        raise RunError(
            f"{path}: holds no {_MEMBER}, expected a last.keras of vol3dseg; "
            "start the run anew in another folder"
        ) from error
    except (ValidationError, OSError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def trim_log(training_log: Path, epochs: int) -> None:
    """Cut the log back to the first `epochs` epochs, so that a resumed run goes on after them.

    A crash may leave the row of an epoch whose checkpoint was never written, or half a row. A log
    that is not there is left so.

    Parameters
    ----------
    training_log : Path
        Comma-separated, with a header; the first column is the epoch, counted from 0.
    epochs : int
        Epochs done.
    """
    if not training_log.exists():
        return
    lines = training_log.read_text(encoding="utf-8").splitlines(keepends=True)
    header, rows = lines[:1], lines[1:]
    kept = [line for line in rows if _is_row(line, header[0]) and int(line.split(",")[0]) < epochs]
    write_text(training_log, "".join(header + kept))


def _is_row(line: str, header: str) -> bool:
    whole = line.endswith("\n") and line.split(",")[0].isdigit()
    return whole and len(next(csv.reader([line]))) == len(next(csv.reader([header])))


def _require_archive(path: Path) -> None:
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint; expected one written by `vol3dseg train`")
    if not zipfile.is_zipfile(path):
        raise RunError(
            f"{path}: damaged, not a whole .keras archive ({path.stat().st_size} bytes); "
            "copy it again or train again"
        )


def _damaged(path: Path, error: Exception) -> RunError:
    detail = " ".join(str(error).split())[:200]
    return RunError(
        f"{path}: cannot be loaded, damaged or of another network "
        f"({type(error).__name__}: {detail}); copy it again or train again"
    )
