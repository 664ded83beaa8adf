"""Checkpoints of a run: Keras files that also know where the training stood.

They have one more member than Keras writes; see `training_state`. Keras reads such a file as any
other, and finds in it the weights to deploy; where training goes on with others, those are one more
member, so that no two files can disagree.
"""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vol3dseg.errors import RunError
from vol3dseg.files import atomic_path

# Loading a model finds what is ours (layer, loss, metrics, rate) only if its module was imported.
from vol3dseg.training import learning_rate, metrics, named_loss, optimizers  # noqa: F401
from vol3dseg.training.backend import keras
from vol3dseg.training.deployed_weights import Arrays
from vol3dseg.training.keras_archive import AGAIN, MEMBER, RAW, read_network, require_archive
from vol3dseg.training.networks import norms  # noqa: F401
from vol3dseg.training.networks.deep_supervision import without_supervision
from vol3dseg.training.training_state import TrainingState


def save_checkpoint(
    path: Path, model: Any, state: TrainingState, raw: Arrays | None = None
) -> None:
    """Write the model with its optimizer, and `state`, into one file, atomically.

    `raw` are the weights that training goes on with, where the model has those to deploy.
    """
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(MEMBER, state.model_dump_json())
            if raw is not None:
                with archive.open(RAW, "w", force_zip64=True) as member:
                    np.savez(member, *raw)


def load_checkpoint(path: Path) -> Any:
    """Return the network in a .keras file as it is deployed; code in it is not run.

    Without optimizer and loss, and without outputs that only the loss is for.

    To go on with a training, compile a new model and call `restore_checkpoint` instead: a saved
    optimizer forgets which weights it must not decay.
    """
    said = read_network(path, _registered)
    try:
        # In parts: Keras' load_model unpacks the whole archive into a temporary folder.
        network = keras.saving.deserialize_keras_object(said, safe_mode=True)
        _load_weights(network, path)
        return without_supervision(network)
    except Exception as error:
        raise _damaged(path, error) from error


def _registered(name: str) -> bool:
    return keras.saving.get_registered_object(name) is not None


def _load_weights(model: Any, path: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        model.load_weights(path)
    for warning in told:  # Keras only warns of layers that the file does not have
        raise ValueError(warning.message)


def restore_checkpoint(model: Any, path: Path) -> None:
    """Give a model the weights to deploy in a checkpoint, and its optimizer, if any, its state."""
    require_archive(path)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        # One that has no variables yet would skip its state with a mere warning.
        optimizer.build(model.trainable_variables)
    try:
        _load_weights(model, path)
    except Exception as error:
        raise _damaged(path, error) from error


def read_raw(path: Path) -> Arrays | None:
    """Return the weights in a checkpoint to go on with; None where those to deploy are the same."""
    require_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if RAW not in archive.namelist():
                return None
            with archive.open(RAW) as member, np.load(member, allow_pickle=False) as arrays:
                return tuple(arrays[name] for name in arrays.files)
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
