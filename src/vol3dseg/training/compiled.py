"""What a network learns by: optimizer, learning rate, loss, metrics, steps."""

import math
from collections.abc import Sequence
from typing import Any

from vol3dseg.config import Config, TrainingConfig
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.training.backend import keras
from vol3dseg.training.losses import NamedLoss
from vol3dseg.training.metrics import ConfusionMetrics


def compile_network(
    model: Any, config: Config, cases: Sequence[StoredCase], loss: Any = None
) -> None:
    """Make a network ready to learn from `cases`, by the config's loss or the one given.

    A micro-batch smaller than the batch must be set in `config`; Keras' optimizers then average the
    gradients of as many steps as make a batch before they change a weight.
    """
    model.compile(
        optimizer=_optimizer(config.training, steps_per_epoch(cases, config)),
        loss=loss if loss is not None else NamedLoss(config.training.loss),
        metrics=[ConfusionMetrics(config.labels.names)],
        jit_compile=False,  # XLA's 3-D convolutions on the CPU are several times slower
    )


def _optimizer(training: TrainingConfig, steps: int) -> Any:
    rate: Any = training.learning_rate
    # Keras takes 2 or more; one micro-batch is a batch.
    accumulated = training.micro_batches if training.micro_batches > 1 else None
    options = {"global_clipnorm": training.clip_norm, "gradient_accumulation_steps": accumulated}
    if training.schedule == "cosine":
        rate = CosineDecayOverBatches(rate, steps * training.epochs, training.micro_batches)
    if training.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=training.weight_decay, **options)
        # Decay pulls weights to 0; for scales and shifts of norms and for biases that is no prior.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "scale", "shift"])
        return optimizer
    return keras.optimizers.Adam(rate, **options)


@keras.saving.register_keras_serializable(package="vol3dseg")
class CosineDecayOverBatches(keras.optimizers.schedules.CosineDecay):  # type: ignore[misc]
    """Cosine decay that counts changes of the weights; Keras counts micro-batches.

    After `decay_steps` changes of the weights, each made by `micro_batches`, the rate is 0.
    """

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, micro_batches: int, **options: Any
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, **options)
        self.micro_batches = micro_batches

    def __call__(self, step: Any) -> Any:
        """Return the rate at micro-batch number `step`."""
        return super().__call__(keras.ops.floor_divide(step, self.micro_batches))

    def get_config(self) -> dict[str, Any]:
        """Return what a saved optimizer needs to make the schedule again."""
        return {**super().get_config(), "micro_batches": self.micro_batches}


def steps_per_epoch(cases: Sequence[StoredCase], config: Config) -> int:
    """Return an epoch's changes of the weights: the cases hold as many patches, tiled."""
    training = config.training
    if training.steps_per_epoch is not None:
        return training.steps_per_epoch
    patch = math.prod(config.recipe.patch_size)
    pieces = sum(max(1, round(math.prod(case.shape) / patch)) for case in cases)
    return max(1, math.ceil(pieces / training.batch_size))
