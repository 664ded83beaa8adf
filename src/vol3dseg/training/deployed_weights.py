"""Which weights are judged, saved and deployed, where training goes on with others."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.config import TrainingConfig
from vol3dseg.training.backend import keras, tf

Arrays = tuple[NDArray[Any], ...]


def deployed_weights(training: TrainingConfig) -> "DeployedWeights | None":
    """Return the callback that puts the weights to deploy in place; None if they are the same."""
    if training.optimizer == "schedule_free_adamw":
        return ScheduleFreeWeights()
    return None if training.ema is None else AveragedWeights(training.ema)


class DeployedWeights(keras.callbacks.Callback, ABC):  # type: ignore[misc]
    """Put the weights to deploy into the model from the end of an epoch's last step to `go_on`.

    It must come before all callbacks that judge or save the model; they find in `raw` the weights
    that training goes on with, in the order of `model.weights`.
    """

    raw: Arrays | None = None

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Exchange the weights before validation."""
        self._exchange()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Exchange them where there was no validation."""
        self._exchange()

    def _exchange(self) -> None:
        if self.raw is None:
            found = self.weights()
            # A view of a variable's memory would change with it.
            self.raw = tuple(np.array(v.numpy()) for v in self.model.weights)
            assign(self.model, found)

    def go_on(self) -> None:
        """Give the model the weights that training goes on with."""
        if self.raw is not None:
            assign(self.model, self.raw)
            self.raw = None

    @abstractmethod
    def weights(self) -> Sequence[Any]:
        """Return the weights to deploy, in the order of `model.weights`."""


class AveragedWeights(DeployedWeights):
    """The exponential moving average of all weights, and of the moving statistics of norms.

    After change n of the weights an average keeps `share` of itself, or (1 + n) / (10 + n) if that
    is less: so it is of about the last ninth of a run until `share` reaches further than that, and
    the weights that the run began with are soon forgotten. Keras' own averages
    count micro-batches, have no such start, and leave out statistics of norms. Those are averaged
    too, since they belong to the weights of the same steps; to take them anew would need another
    pass over the data after every epoch.

    When training begins, the model holds what the average begins with.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Begin with the weights of the model, or of the checkpoint that is resumed."""
        weights = self.model.weights
        self._averages = [tf.Variable(v.value, trainable=False) for v in weights]
        self._blend = tf.function(self._move)
        self._changes = int(self.model.optimizer.iterations)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the averages after a change of the weights, which not each micro-batch makes."""
        changes = int(self.model.optimizer.iterations)
        kept = min(self._share, (1 + changes) / (10 + changes))
        if changes > self._changes:
            self._blend(tf.constant(kept ** (changes - self._changes)))
            self._changes = changes

    def _move(self, kept: Any) -> None:
        for average, weight in zip(self._averages, self.model.weights, strict=True):
            if average.dtype.is_floating:
                step = (1 - tf.cast(kept, average.dtype)) * (weight.value - average)
                average.assign_add(step)
            else:
                average.assign(weight.value)

    def weights(self) -> Sequence[Any]:
        """Return the averages."""
        return self._averages


class ScheduleFreeWeights(DeployedWeights):
    """The weights that a schedule-free optimizer has averaged; all others as they are."""

    def weights(self) -> Sequence[Any]:
        """Return the averages of what is trained, the model's own statistics of norms."""
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
        trained = {id(variable): variable for variable in optimizer._trainable_variables}
        averaged = dict(zip(trained, optimizer.averaged(), strict=True))
        return [averaged.get(id(variable), variable) for variable in self.model.weights]


def assign(model: Any, weights: Sequence[Any]) -> None:
    """Give a model weights, in the order of `model.weights`."""
    for variable, weight in zip(model.weights, weights, strict=True):
        variable.assign(weight)
