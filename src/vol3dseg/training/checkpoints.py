"""Checkpoints of a run: Keras files that also know where the training stood.

They have one more member than Keras writes; see `training_state`. Keras reads such a file as any
other.
"""

import warnings
import zipfile
from pathlib import Path
from typing import Any

from vol3dseg.errors import RunError
from vol3dseg.files import atomic_path

# Loading a model finds what is ours (layer, loss, metrics, rate) only if its module was imported.
from vol3dseg.training import learning_rate, losses, metrics, optimizers  # noqa: F401
from vol3dseg.training.backend import keras
from vol3dseg.training.networks import norms  # noqa: F401
from vol3dseg.training.training_state import AGAIN, MEMBER, TrainingState, require_archive


def save_checkpoint(path: Path, model: Any, state: TrainingState) -> None:
    """Write the model with its optimizer, and `state`, into one file, atomically."""
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(MEMBER, state.model_dump_json())


def load_checkpoint(path: Path) -> Any:
    """Return the network in a .keras file, without optimizer and loss; code in it is not run.

    To go on with a training, compile a new model and call `restore_checkpoint` instead: a saved
    optimizer forgets which weights it must not decay.
    """
    require_archive(path)
    try:
        return keras.saving.load_model(path, safe_mode=True, compile=False)
    except Exception as error:
        raise _damaged(path, error) from error


def restore_checkpoint(model: Any, path: Path) -> None:
    """Give a model the weights in a checkpoint, and its optimizer, if any, the state it had."""
    require_archive(path)
    if getattr(model, "optimizer", None) is not None:
        # One that has no variables yet would skip its state with a mere warning.
        model.optimizer.build(model.trainable_variables)
    try:
        with warnings.catch_warnings():
            # Keras only warns of layers that the file does not have.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> RunError:
    """Return what is said of damage, which shows as any exception, deep inside Keras."""
    detail = " ".join(str(error).split())[:200]
    return RunError(
        f"cannot be loaded, damaged or of another network ({type(error).__name__}: {detail})",
        where=path,
        remedy=f"{AGAIN}; if the network is one of your own, give it again, or register its "
        "layers with keras.saving.register_keras_serializable and import them first",
    )
