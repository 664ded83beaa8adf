"""What a network learns by: optimizer, learning rate, loss, metrics, steps."""

import math
from collections.abc import Sequence
from typing import Any

from vol3dseg.config import Config
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.training.metrics import metrics_of
from vol3dseg.training.named_loss import loss_of
from vol3dseg.training.optimizers import make_optimizer
from vol3dseg.training.partial_labels import Partial


def compile_network(
    model: Any,
    config: Config,
    cases: Sequence[StoredCase],
    loss: Any = None,
    partial: Partial = (),
) -> None:
    """Make a network ready to learn from `cases`, by the config's loss or the one given.

    A micro-batch smaller than the batch must be set in `config`; Keras' optimizers then average the
    gradients of as many steps as make a batch before they change a weight. `partial` is that of the
    data (`partial_labels`).
    """
    model.compile(
        optimizer=make_optimizer(
            config.training, steps_per_epoch(cases, config), model.trainable_variables
        ),
        loss=loss if loss is not None else loss_of(config, partial),
        metrics=[metrics_of(config, partial)],
        jit_compile=False,  # XLA's 3-D convolutions on the CPU are several times slower
    )
    # Now, since TensorFlow traces a step twice whose first trace makes variables.
    model.optimizer.build(model.trainable_variables)


def steps_per_epoch(cases: Sequence[StoredCase], config: Config) -> int:
    """Return an epoch's changes of the weights: the cases hold as many patches, tiled."""
    training = config.training
    if training.steps_per_epoch is not None:
        return training.steps_per_epoch
    patch = math.prod(config.recipe.patch_size)
    pieces = sum(max(1, round(math.prod(case.shape) / patch)) for case in cases)
    return max(1, math.ceil(pieces / training.batch_size))
