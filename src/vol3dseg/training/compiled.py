"""The network of a config, with what it learns by: loss, metrics, optimizer, rate."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from vol3dseg.config import Config, TrainingConfig
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.training.data import RunData
from vol3dseg.training.losses import make_loss
from vol3dseg.training.metrics import make_metrics
from vol3dseg.training.networks.unet import build_unet


def compiled_model(config: Config, data: RunData) -> Any:
    """Return the network of `config`, ready to learn from `data`.

    A micro-batch that is smaller than the batch must be set in `config`; Keras' optimizers then
    average the gradients of as many steps as make a batch before they change a weight.
    """
    training, labels = config.training, config.labels
    model = build_unet(config.model, len(config.model_recipe.modalities), len(labels.classes))
    model.compile(
        optimizer=_optimizer(training, steps_per_epoch(list(data.training.values()), config)),
        loss=make_loss(training),
        metrics=make_metrics(labels.names),
        jit_compile=False,  # XLA's 3-D convolutions on the CPU are several times slower
    )
    return model


def _optimizer(training: TrainingConfig, steps: int) -> Any:
    rate: Any = training.learning_rate
    # Keras takes 2 or more; one micro-batch is a batch.
    accumulated = training.micro_batches if training.micro_batches > 1 else None
    options = {
        "global_clipnorm": training.clip_norm,
        "gradient_accumulation_steps": accumulated,
    }
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

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int
        Changes of the weights until the rate is 0.
    micro_batches : int
        That make one change of the weights.
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
    """Return the steps of an epoch: as many patches as the cases have pieces of that size.

    A step is a change of the weights; it takes all micro-batches of a batch.
    """
    training = config.training
    if training.steps_per_epoch is not None:
        return training.steps_per_epoch
    patch = math.prod(config.recipe.patch_size)
    pieces = sum(max(1, round(math.prod(case.shape) / patch)) for case in cases)
    return max(1, math.ceil(pieces / training.batch_size))
