"""The learning rate over a run: a warm-up, then constant, cosine or polynomial decay."""

import math
from typing import Any, Literal

from vol3dseg.config import TrainingConfig
from vol3dseg.training.backend import keras

Shape = Literal["constant", "cosine", "polynomial"]


def learning_rate_of(training: TrainingConfig, steps_per_epoch: int) -> Any:
    """Return the rate for an optimizer: a number, which callbacks may lower, or a schedule."""
    warmup = round(training.warmup_epochs * steps_per_epoch)
    if training.schedule == "constant" and not warmup:
        return training.learning_rate
    return LearningRate(
        training.learning_rate,
        training.schedule,
        changes=steps_per_epoch * training.epochs,
        warmup=warmup,
        power=training.schedule_power,
        micro_batches=training.micro_batches,
    )


@keras.saving.register_keras_serializable(package="vol3dseg")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A rate that counts changes of the weights, where Keras' schedules count micro-batches.

    Over the first `warmup` changes it rises in a line, the last of them being made at the whole
    rate; then it falls over what is left of `changes`, to reach 0 after the last one, as half a
    cosine or as (1 - t) ** `power` (Isensee et al., "nnU-Net", 2021, with power 0.9), or stays.
    """

    def __init__(
        self,
        initial: float,
        shape: Shape,
        *,
        changes: int,
        warmup: int = 0,
        power: float = 0.9,
        micro_batches: int = 1,
    ) -> None:
        self._settings = {
            "initial": initial,
            "shape": shape,
            "changes": changes,
            "warmup": warmup,
            "power": power,
            "micro_batches": micro_batches,
        }
        self._initial, self._shape, self._power = initial, shape, power
        self._warmup, self._decay = warmup, max(changes - warmup, 1)
        self._micro_batches = micro_batches

    def __call__(self, step: Any) -> Any:
        """Return the rate at micro-batch number `step`, counted from 0."""
        done = keras.ops.cast(keras.ops.floor_divide(step, self._micro_batches), "float32")
        risen = keras.ops.minimum((done + 1) / max(self._warmup, 1), 1.0)
        time = keras.ops.clip((done - self._warmup) / self._decay, 0.0, 1.0)
        if self._shape == "cosine":
            return self._initial * risen * 0.5 * (1 + keras.ops.cos(math.pi * time))
        if self._shape == "polynomial":
            return self._initial * risen * (1 - time) ** self._power
        return self._initial * risen

    def get_config(self) -> dict[str, Any]:
        """Return what a saved optimizer needs to make the schedule again."""
        return dict(self._settings)
