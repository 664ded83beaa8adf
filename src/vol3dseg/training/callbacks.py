"""What happens at the end of every epoch: log, checkpoints, learning rate, stopping."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from vol3dseg.config import TrainingConfig
from vol3dseg.errors import RunError
from vol3dseg.files import atomic_path
from vol3dseg.training.checkpoints import (
    PlateauState,
    StoppingState,
    TrainingState,
    save_checkpoint,
)


def make_callbacks(config: TrainingConfig, run: Path, state: TrainingState | None) -> list[Any]:
    """Return the callbacks of a run, in the order that they must be called in.

    Parameters
    ----------
    config : TrainingConfig
    run : Path
        Gets training.log, last.keras and, where there is a `val_loss`, best.keras.
    state : TrainingState or None
        Of the checkpoint that is resumed.

    Returns
    -------
    list of keras.callbacks.Callback
        Without `val_loss` in the logs there must be no plateau and no early stopping in `config`.
    """
    callbacks: list[Any] = [StopOnNaN(), LearningRateLog()]
    if config.reduce_lr_on_plateau is not None:
        plateau = config.reduce_lr_on_plateau
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                "val_loss", plateau.factor, plateau.patience, mode="min", min_lr=plateau.min_lr
            )
        )
    if config.early_stopping is not None:
        patience = config.early_stopping.patience
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=patience, mode="min"))
    if config.model_checkpoint:
        callbacks.append(AtomicModelCheckpoint(run / "best.keras"))
    callbacks.append(keras.callbacks.CSVLogger(run / "training.log", append=state is not None))
    remembering = tuple(callbacks)
    # The log is written first: a row too many can be cut off, a missing one cannot be made up.
    callbacks.append(LastCheckpoint(run / "last.keras", remembering))
    if state is not None:
        callbacks.append(RestoreState(state, remembering))
    return callbacks


class StopOnNaN(keras.callbacks.TerminateOnNaN):  # type: ignore[misc]
    """Raise `RunError` at the first loss that is not finite, before anything is saved."""

    def __init__(self) -> None:
        super().__init__(raise_error=True)

    def on_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the loss of a batch."""
        try:
            super().on_batch_end(batch, logs)
        except RuntimeError as error:
            raise RunError(
                f"the loss is {(logs or {}).get('loss')} at step {batch + 1}, expected a finite "
                "number; lower training.learning_rate or set training.clip_norm"
            ) from error


class LearningRateLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Put `learning_rate` into the logs: that of the epoch's end, before a plateau lowers it."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the rate; Keras hands the same logs to all callbacks in turn."""
        if logs is not None:
            rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            logs["learning_rate"] = float(rate)


class AtomicModelCheckpoint(keras.callbacks.ModelCheckpoint):  # type: ignore[misc]
    """Keep the model of the lowest `val_loss`; the file is the old or the new one, never half.

    An epoch without `val_loss`, or with NaN, is no best one.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), monitor="val_loss", mode="min", save_best_only=True)
        self._final = path

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the model if it is better than all before."""
        loss = (logs or {}).get("val_loss", math.nan)
        if math.isnan(loss) or (self.best is not None and loss >= self.best):
            return
        with atomic_path(self._final) as temporary:
            # Keras formats the path, so braces in a folder's name must be doubled.
            self.filepath = str(temporary).replace("{", "{{").replace("}", "}}")
            super().on_epoch_end(epoch, logs)


class LastCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """Save the model, its optimizer and the state of other callbacks after every epoch.

    Parameters
    ----------
    path : Path
    remembering : sequence of keras.callbacks.Callback
        Those whose state is saved; they must come before this one in the list of callbacks.
    """

    def __init__(self, path: Path, remembering: Sequence[Any]) -> None:
        super().__init__()
        self._path = path
        self._remembering = remembering

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save."""
        seeds = tuple(
            tuple(keras.ops.convert_to_numpy(seed).tolist()) for seed in _seeds_of(self.model)
        )
        state = _state_of(self._remembering, epoch + 1)
        save_checkpoint(self._path, self.model, state.model_copy(update={"seeds": seeds}))


class RestoreState(keras.callbacks.Callback):  # type: ignore[misc]
    """Give other callbacks, and the network's dropout, the state that they had at a checkpoint.

    Keras' callbacks forget everything when a training begins, so this one must be the last.

    Parameters
    ----------
    state : TrainingState
    remembering : sequence of keras.callbacks.Callback
    """

    def __init__(self, state: TrainingState, remembering: Sequence[Any]) -> None:
        super().__init__()
        self._state = state
        self._remembering = remembering

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restore."""
        state = self._state
        for seed, value in zip(_seeds_of(self.model), state.seeds, strict=True):
            seed.assign(value)
        for callback in self._remembering:
            match callback:
                case keras.callbacks.ReduceLROnPlateau() if state.plateau is not None:
                    callback.wait = state.plateau.wait
                    callback.best = state.plateau.best
                    callback.cooldown_counter = state.plateau.cooldown_counter
                case keras.callbacks.EarlyStopping() if state.stopping is not None:
                    callback.wait = state.stopping.wait
                    callback.best = state.stopping.best
                    callback.best_epoch = state.stopping.best_epoch
                    callback.stopped_epoch = state.stopping.stopped_epoch
                case keras.callbacks.ModelCheckpoint():
                    callback.best = state.best_val_loss


def _seeds_of(model: Any) -> list[Any]:
    """Return the variables that Keras counts as state but not as weights: random seeds."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _state_of(callbacks: Sequence[Any], epochs: int) -> TrainingState:
    best, plateau, stopping = None, None, None
    for callback in callbacks:
        match callback:
            case keras.callbacks.ReduceLROnPlateau():
                plateau = PlateauState(
                    wait=callback.wait,
                    best=callback.best,
                    cooldown_counter=callback.cooldown_counter,
                )
            case keras.callbacks.EarlyStopping():
                stopping = StoppingState(
                    wait=callback.wait,
                    best=callback.best,
                    best_epoch=callback.best_epoch,
                    stopped_epoch=callback.stopped_epoch,
                )
            case keras.callbacks.ModelCheckpoint():
                best = callback.best
    return TrainingState(epochs=epochs, best_val_loss=best, plateau=plateau, stopping=stopping)
