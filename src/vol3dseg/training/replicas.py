"""Sums over the devices that share a batch, for losses, norms and metrics.

What is computed of a whole batch must not depend on how many devices it is divided over: a Dice
that pools its patches, a mean over the voxels that are judged, the statistics of batch norm. So
each device adds up its share, and these sums are added over all. Within a step of `shared_step`
TensorFlow knows of these devices; everywhere else there is one, and nothing changes.
"""

from typing import Any

from vol3dseg.training.backend import tf


def replicas() -> int:
    """Return how many devices share the batch of the step that is traced."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def over_replicas(values: Any) -> Any:
    """Return tensors, each the sum over all devices of what was given; gradients flow through."""
    if replicas() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def replica_here() -> int:
    """Return the number of a device among those of its process."""
    if replicas() == 1:
        return 0
    number = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
    return int(number) % len(tf.distribute.get_strategy().extended.worker_devices)


def changes_variables() -> bool:
    """Tell whether a device changes what its process remembers; one of them must."""
    return replica_here() == 0
