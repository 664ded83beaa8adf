"""Checkpoints of a run: Keras files that also know where the training stood.

They have one more member than Keras writes, `vol3dseg-state.json`: the epoch, and in `last.keras`
what the callbacks remember. In one file with the weights, since two files can disagree after a
crash. Keras reads such a file as any other.
"""

import csv
import warnings
import zipfile
from pathlib import Path
from typing import Any

from vol3dseg.errors import RunError
from vol3dseg.files import atomic_path, write_text
from vol3dseg.schema import Frozen, parse_json

# Loading a model finds what is ours (layer, loss, metrics, rate) only if its module was imported.
from vol3dseg.training import compiled, losses, metrics  # noqa: F401
from vol3dseg.training.backend import keras
from vol3dseg.training.networks import unet  # noqa: F401

_MEMBER = "vol3dseg-state.json"
_DAMAGE = (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile)
_AGAIN = "copy it again or train again"


class TrainingState(Frozen):
    """Where a training stood at the end of an epoch, beside weights and optimizer.

    `val_loss` is that of the last epoch done; `remembered` what Keras' callbacks must know to go
    on, by the name of their class; `seeds` the state of the random generators in the network
    (dropout), which Keras does not save.
    """

    epochs: int
    val_loss: float | None = None
    remembered: dict[str, dict[str, int | float | None]] = {}
    seeds: tuple[tuple[int, ...], ...] = ()

    @property
    def stopped_early(self) -> bool:
        """Whether `EarlyStopping` has ended the run; there is nothing left to resume then."""
        return bool(self.remembered.get("EarlyStopping", {}).get("stopped_epoch"))


def save_checkpoint(path: Path, model: Any, state: TrainingState) -> None:
    """Write the model with its optimizer, and `state`, into one file, atomically."""
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(_MEMBER, state.model_dump_json())


def load_checkpoint(path: Path) -> Any:
    """Return the network in a .keras file, without optimizer and loss; code in it is not run.

    To go on with a training, compile a new model and call `restore_checkpoint` instead: a saved
    optimizer forgets which weights it must not decay.
    """
    _require_archive(path)
    try:
        return keras.saving.load_model(path, safe_mode=True, compile=False)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def restore_checkpoint(model: Any, path: Path) -> None:
    """Give a model the weights in a checkpoint, and its optimizer, if any, the state it had."""
    _require_archive(path)
    if getattr(model, "optimizer", None) is not None:
        # One that has no variables yet would skip its state with a mere warning.
        model.optimizer.build(model.trainable_variables)
    try:
        with warnings.catch_warnings():
            # Keras only warns of layers that the file does not have.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (*_DAMAGE, UserWarning) as error:
        raise _damaged(path, error) from error


def read_state(path: Path) -> TrainingState:
    """Read where the training stood when a checkpoint of ours was written."""
    _require_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            state = archive.read(_MEMBER)
    except KeyError as error:
        raise RunError(
            f"holds no {_MEMBER}",
            where=path,
            expected="a checkpoint of vol3dseg train",
            remedy="start the run anew in another folder",
        ) from error
    except (OSError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error
    wanted = "what vol3dseg train writes"
    return parse_json(TrainingState, state, path, RunError, expected=wanted, remedy=_AGAIN)


def trim_log(training_log: Path, epochs: int) -> None:
    """Cut the log back to the first `epochs` epochs, so that a resumed run goes on after them.

    A crash may leave the row of an epoch whose checkpoint was never written, or half a row.
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
        raise RunError("no such checkpoint", where=path, expected="one of vol3dseg train")
    if not zipfile.is_zipfile(path):
        size = path.stat().st_size
        raise RunError(
            f"damaged, not a whole .keras archive ({size} bytes)", where=path, remedy=_AGAIN
        )


def _damaged(path: Path, error: Exception) -> RunError:
    detail = " ".join(str(error).split())[:200]
    return RunError(
        f"cannot be loaded, damaged or of another network ({type(error).__name__}: {detail})",
        where=path,
        remedy=f"{_AGAIN}; if the network is one of your own, give it again, or register its "
        "layers with keras.saving.register_keras_serializable and import them first",
    )
