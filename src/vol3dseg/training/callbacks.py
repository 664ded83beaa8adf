"""What happens at the end of every epoch: log, checkpoints, learning rate, stopping."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vol3dseg.config import VOLUME_DICE, Measure, TrainingConfig
from vol3dseg.errors import RunError
from vol3dseg.files import write_text
from vol3dseg.training.backend import keras
from vol3dseg.training.checkpoints import read_raw, save_checkpoint
from vol3dseg.training.deployed_weights import (
    Arrays,
    DeployedWeights,
    assign,
    deployed_weights,
)
from vol3dseg.training.training_state import LAST, Origin, TrainingState


def make_callbacks(
    config: TrainingConfig,
    run: Path,
    state: TrainingState | None,
    given: Sequence[Any] = (),
    origin: Origin | None = None,
    loggers: Sequence[Any] = (),
) -> list[Any]:
    """Return the callbacks of a run, in the order that they must be called in.

    `state` is that of the checkpoint that is resumed, `given` are the user's own callbacks. What
    those put into the logs of an epoch is seen by all after them; what they remember is not kept
    for a resumed run. A plateau and early stopping need a `val_loss`. `origin` goes into the
    checkpoints. `loggers` see what all others have put into the logs.
    """
    deployed = deployed_weights(config)
    before: list[Any] = [LearningRateLog(), *filter(None, [deployed])]
    before += given
    callbacks = list(before)
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
        callbacks.append(BestCheckpoint(run / "best.keras", origin, config.best_by))
    callbacks.append(TrainingLog(run / "training.log", resumed=state is not None))
    remembering = tuple(callbacks[len(before) :])
    # Logs are written first: a row too many can be cut off, a missing one cannot be made up.
    callbacks += loggers
    callbacks.append(LastCheckpoint(run / LAST, remembering, origin, deployed))
    if state is not None:
        callbacks.append(RestoreState(state, remembering, read_raw(run / LAST)))
    return callbacks


class LearningRateLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Put `learning_rate` into the logs: that of the epoch's end, before a plateau lowers it."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the rate; Keras hands the same logs to all callbacks in turn."""
        if logs is not None:
            rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            logs["learning_rate"] = float(rate)


class TrainingLog(keras.callbacks.CSVLogger):  # type: ignore[misc]
    """Keras' log of epochs as CSV, but written whole after each, as all other files are."""

    def __init__(self, path: Path, resumed: bool = False) -> None:
        super().__init__(path)
        self._before = path.read_text(encoding="utf-8") if resumed and path.exists() else ""
        self.append_header = not self._before

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Begin in memory, in place of the file that Keras would open."""
        self.csv_file = io.StringIO(newline=None)
        self.csv_file.write(self._before)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add a row."""
        super().on_epoch_end(epoch, logs)
        write_text(Path(self.filename), self.csv_file.getvalue())


class BestCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """Keep the model of the lowest `val_loss`, or of the highest Dice of whole volumes.

    Nobody else decides which epoch is the best. One without that measure, or with one that is not
    finite, is not; of two that are equal the first is. `best` is the measure of the best so far.
    """

    def __init__(
        self, path: Path, origin: Origin | None = None, measure: Measure = "val_loss"
    ) -> None:
        super().__init__()
        self._path = path
        self._origin = origin
        self._measure = measure
        self.best: float | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the model if it is better than all before."""
        found = _finite((logs or {}).get(self._measure))
        if found is None or not (self.best is None or self._is_better(found, self.best)):
            return
        state = TrainingState(epochs=epoch + 1, origin=self._origin, **_measures(logs))
        save_checkpoint(self._path, self.model, state)
        self.best = found

    def _is_better(self, found: float, best: float) -> bool:
        return found > best if self._measure == VOLUME_DICE else found < best


# What callbacks must know to go on; Keras' own forget it when a training begins.
_REMEMBERED = {
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    BestCheckpoint: ("best",),
}


class LastCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """Save the model, its optimizer and the state of other callbacks after every epoch.

    The callbacks `remembering` must come before this one in the list. Where `deployed` has put
    other weights into the model, it goes on with its own after that.
    """

    def __init__(
        self,
        path: Path,
        remembering: Sequence[Any],
        origin: Origin | None = None,
        deployed: DeployedWeights | None = None,
    ) -> None:
        super().__init__()
        self._path = path
        self._remembering = remembering
        self._origin = origin
        self._deployed = deployed

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save."""
        state = TrainingState(
            epochs=epoch + 1,
            remembered={
                type(callback).__name__: {name: _finite(getattr(callback, name)) for name in names}
                for callback in self._remembering
                if (names := _REMEMBERED.get(type(callback)))
            },
            seeds=tuple(
                tuple(keras.ops.convert_to_numpy(seed).tolist()) for seed in _seeds_of(self.model)
            ),
            origin=self._origin,
            **_measures(logs),
        )
        save_checkpoint(self._path, self.model, state, self._deployed and self._deployed.raw)
        if self._deployed is not None:
            self._deployed.go_on()


class RestoreState(keras.callbacks.Callback):  # type: ignore[misc]
    """Give other callbacks, and the network's dropout, the state that they had at a checkpoint.

    Keras' callbacks forget everything when a training begins, so this one must come after them.
    `raw` are the weights to go on with, where the model was given those to deploy.
    """

    def __init__(
        self, state: TrainingState, remembering: Sequence[Any], raw: Arrays | None = None
    ) -> None:
        super().__init__()
        self._state = state
        self._remembering = remembering
        self._raw = raw

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restore."""
        seeds = _seeds_of(self.model)
        if len(seeds) != len(self._state.seeds):
            raise RunError(
                f"the network has {len(seeds)} random seeds, that of the run has "
                f"{len(self._state.seeds)}",
                remedy="give the same network again",
            )
        if self._raw is not None:
            assign(self.model, self._raw)
        for variable, seed in zip(seeds, self._state.seeds, strict=True):
            variable.assign(seed)
        for callback in self._remembering:
            values = self._state.remembered.get(type(callback).__name__, {})
            for name in _REMEMBERED.get(type(callback), ()):
                if name in values:
                    setattr(callback, name, values[name])


def _measures(logs: dict[str, float] | None) -> dict[str, float | None]:
    """Return what an epoch was judged by, as a state has it."""
    return {name: _finite((logs or {}).get(name)) for name in ("val_loss", VOLUME_DICE)}


def _finite(value: float | None) -> float | None:
    """Return the number; None, as for one that is not known, where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def _seeds_of(model: Any) -> list[Any]:
    """Return the variables that Keras counts as state but not as weights: random seeds."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
