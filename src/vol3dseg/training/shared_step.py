"""A training step that several devices share: each sees its part of a batch, all change alike.

Keras' own step clips the gradients of each device by themselves, cannot add up micro-batches on
several devices and fails across machines. Here each device only computes gradients, of a loss that
all have in common (`replicas`); their sum is that of the whole batch, and each process applies it
to its weights as it would alone. So optimizers, averages, callbacks and checkpoints are those of
one device. In return the weights go from the first device to the others of its process in each
step.
"""

from collections.abc import Callable, Sequence
from typing import Any

from vol3dseg.config import TrainingConfig
from vol3dseg.errors import ConfigError, ModelError
from vol3dseg.training.backend import keras, tf
from vol3dseg.training.networks.norms import BatchNormalization
from vol3dseg.training.replicas import over_replicas, replica_here
from vol3dseg.training.team import Team


def share_steps(model: Any, team: Team) -> None:
    """Let a compiled model learn by steps that all devices of a team share."""
    if team.strategy is None:
        return

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def learn(iterator: Any) -> Any:
        images, labels = next(iterator)
        with tf.device("CPU:0"):  # where they are; each device then gets its part alone
            parts = [tf.split(batch, team.here) for batch in (images, labels)]
        found = team.strategy.run(_gradients(model), args=(parts,))
        gradients, loss = tf.nest.map_structure(
            lambda each: team.strategy.experimental_local_results(each)[0], found
        )
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        patches = tf.shape(images)[0] * len(team.workers)
        model.metrics[0].update_state(loss, sample_weight=patches)  # Keras' mean of the loss
        return model.get_metrics_result()

    model.train_function = learn


def _gradients(model: Any) -> Callable[[Sequence[Sequence[Any]]], tuple[list[Any], Any]]:
    """Return what a device does: give gradients and loss of the whole batch from its part."""

    def compute(parts: Sequence[Sequence[Any]]) -> tuple[list[Any], Any]:
        images, labels = (batch[replica_here()] for batch in parts)
        devices = tf.distribute.get_replica_context().num_replicas_in_sync
        with tf.GradientTape() as tape:
            outputs = model(images, training=True)
            # Each device has the whole loss, or, of a loss that is not ours, that of its part.
            loss = model.compute_loss(x=images, y=labels, y_pred=outputs, training=True)
            scaled = model.optimizer.scale_loss(loss) / devices
        gradients = tape.gradient(scaled, model.trainable_weights)
        model.compute_metrics(images, labels, outputs)
        return over_replicas(gradients), over_replicas(loss) / devices

    return compute


def require_shares(training: TrainingConfig, team: Team) -> None:
    """Refuse a batch that cannot be divided equally over the devices of a team."""
    for key, size in (("batch_size", training.batch_size), ("micro_batch", training.micro_batch)):
        if size is not None and size % team.replicas:
            raise ConfigError(
                f"training.{key} is {size}, and {team.replicas} devices share it",
                expected=f"a multiple of {team.replicas}, since each gets as many patches",
                remedy="choose another, or train on other devices",
            )


def require_shareable(model: Any, team: Team) -> None:
    """Refuse a network whose layers remember what each device would see differently."""
    if team.replicas == 1:
        return
    for layer in model._flatten_layers(include_self=False):
        own = [*layer._non_trainable_variables]
        if layer.trainable and own and not isinstance(layer, BatchNormalization):
            if isinstance(layer, keras.layers.Dropout):
                continue
            raise ModelError(
                f"layer {layer.name!r} of network {model.name!r}, a {type(layer).__name__}, keeps "
                "statistics of what it sees",
                expected=f"layers that see the same on {team.replicas} devices",
                remedy="take BatchNormalization or InstanceNormalization of "
                "vol3dseg.training.networks.norms, or train on one device",
            )
