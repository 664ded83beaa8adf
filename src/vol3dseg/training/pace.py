"""What is said of a training while it runs: its steps, its epochs, and the time that is left."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vol3dseg.config import VOLUME_DICE, Config
from vol3dseg.training.backend import keras
from vol3dseg.training.growing import step_shares
from vol3dseg.training.timing import Step, Timing, duration

_SHOWN = ("loss", "dice", "val_loss", "val_dice", VOLUME_DICE)
_PAIR = 2  # patches are judged in pairs


class Pace(keras.callbacks.Callback):  # type: ignore[misc]
    """Say how long the training will take, show each step, and give a line to each epoch.

    It must be the last of the callbacks: what the others do belongs to the epoch.

    Parameters
    ----------
    config : Config
    first : int
        Epochs that were done before.
    steps, judged : int
        Micro-batches of an epoch that the network learns from, and batches that it is judged by.
    say : callable
        Called with a line of text.
    show : callable
        Called with a `Step` after each.
    clock : callable
        The time [s].
    """

    def __init__(
        self,
        config: Config,
        first: int,
        steps: int,
        judged: int,
        say: Callable[[str], None],
        show: Callable[[Step], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._training = training = config.training
        self._epoch, self._steps, self._judged = first, steps, judged
        batches, every = _PAIR * judged / training.at_once, training.validate_every or 1
        self._timing = Timing(training.epochs, first, steps, batches, every, step_shares(config))
        self._say, self._show, self._clock = say, show, clock
        self._told = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remember the number of the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count a step and show it."""
        self._timing.step_ended(self._clock())
        timing, ending = self._timing, batch + 1 == self._steps
        left, step_s = timing.left_s, timing.step_s
        if not self._told and (timing.settled or ending) and left and step_s:
            self._told = True
            self._tell(left, step_s)
        self._step("train", batch, self._steps, logs)

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Show a step of the validation patches."""
        self._step("validation", batch, self._judged, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Give a line to the epoch, with the time that is left."""
        self._timing.epoch_ended(self._clock())
        self._told = True
        values = {n: float(np.asarray(logs[n])) for n in _SHOWN if logs and n in logs}
        if not np.isfinite(values.get(VOLUME_DICE, np.nan)):  # most epochs do not judge volumes
            values.pop(VOLUME_DICE, None)
        shown = [f"{name} {value:.4f}" for name, value in values.items()]
        left = self._timing.left_s
        if left and not self.model.stop_training:
            shown.append(f"{self._most}{duration(left)} left")
        self._say("  ".join([f"epoch {epoch + 1}/{self._training.epochs}", *shown]))

    @property
    def left_s(self) -> float | None:
        """What is left of the training [s]; None as long as it is not known."""
        return self._timing.left_s

    @property
    def _most(self) -> str:
        return "at most " if self._training.early_stopping else ""

    def _tell(self, left_s: float, step_s: float) -> None:
        training = self._training
        epochs, parts = training.epochs - self._epoch, training.micro_batches
        which = f"the {epochs} epochs left" if self._epoch else f"{epochs} epochs"
        which = which if epochs > 1 else "one epoch"
        self._say(
            f"{self._most}about {duration(left_s)} for {which} of {self._steps // parts} steps, "
            f"{step_s * parts:.2g} s a step" + " of whole patches" * bool(training.grow_patch)
        )

    def _step(self, part: Any, batch: int, steps: int, logs: dict[str, Any] | None) -> None:
        loss = float(np.asarray((logs or {}).get("loss", np.nan)))
        left = self._timing.left_s
        self._show(Step(self._epoch + 1, self._training.epochs, part, batch + 1, steps, loss, left))
