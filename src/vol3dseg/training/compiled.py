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
from vol3dseg.training.unet import build_unet


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
        rate = keras.optimizers.schedules.CosineDecay(rate, decay_steps=steps * training.epochs)
    if training.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=training.weight_decay, **options)
        # Decay pulls weights to 0; for scales and shifts of norms and for biases that is no prior.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "scale", "shift"])
        return optimizer
    return keras.optimizers.Adam(rate, **options)


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
