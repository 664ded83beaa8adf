"""Losses between class indices and logits of regions, each of which is decided by itself.

As in `losses`, of the same names, but with an output for each region, and a sigmoid in place of the
softmax; `members` holds the class indices of each region, in the order of outputs. Regions count
the same, or by their weights. Voxels whose label is `IGNORED` have no part in any of them, nor in
that of a region with a class that nobody has looked for (`partial_labels`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vol3dseg.space.labels import IGNORED
from vol3dseg.training.backend import keras
from vol3dseg.training.losses import Weights, focused, overlap, weighted_mean
from vol3dseg.training.partial_labels import Partial, index_of
from vol3dseg.training.replicas import over_replicas

ops = keras.ops
Members = Sequence[Sequence[int]]


def cross_entropy(
    labels: Any, logits: Any, members: Members, weights: Weights = None, partial: Partial = ()
) -> Any:
    """Return the mean over judged voxels and regions of -log p, p the probability of the truth."""
    inside, judged = _read(labels, members, partial, logits.dtype)
    return _mean(_surprise(inside, logits), judged, weights)


def soft_dice(
    labels: Any, logits: Any, members: Members, weights: Weights = None, partial: Partial = ()
) -> Any:
    """Return one minus the mean soft Dice of the regions, pooled over the batch, 0 to 1."""
    inside, judged = _read(labels, members, partial, logits.dtype)
    return 1.0 - weighted_mean(overlap(inside, ops.sigmoid(logits) * judged), weights)


def dice_cross_entropy(
    labels: Any, logits: Any, members: Members, weights: Weights = None, partial: Partial = ()
) -> Any:
    """Return `soft_dice` plus `cross_entropy`."""
    return soft_dice(labels, logits, members, weights, partial) + cross_entropy(
        labels, logits, members, weights, partial
    )


def focal(
    labels: Any, logits: Any, members: Members, weights: Weights = None, partial: Partial = ()
) -> Any:
    """Return the mean over judged voxels and regions of -(1 - p)^2 log p, p that of the truth."""
    inside, judged = _read(labels, members, partial, logits.dtype)
    return _mean(focused(_surprise(inside, logits)), judged, weights)


def _read(labels: Any, members: Members, partial: Partial, dtype: str) -> tuple[Any, Any]:
    """Return two tensors with regions along a last axis: 1 inside of them, and 1 where judged.

    What is not judged is in no region. The second has one entry for all regions where they are
    judged alike.
    """
    inside = np.zeros((IGNORED + 1, len(members)), np.float32)
    judged = np.ones((IGNORED + 1, len(members) if partial else 1), np.float32)
    judged[IGNORED] = 0
    for region, classes in enumerate(members):
        inside[list(classes), region] = 1
        for number, unannotated in enumerate(partial):
            judged[index_of(number), region] = not {*classes} & {*unannotated}
    at = ops.cast(labels, "int32")
    tables = (ops.convert_to_tensor(table, dtype) for table in (inside, judged))
    known, counted = (ops.take(table, at, axis=0) for table in tables)
    return known, counted


def _surprise(inside: Any, logits: Any) -> Any:
    """Return -log p of what is true of each voxel and region; finite for finite logits."""
    return ops.softplus((1.0 - 2.0 * inside) * logits)


def _mean(values: Any, judged: Any, weights: Weights) -> Any:
    """Return the mean over voxels of the weighted mean of their regions that are judged."""
    shares = weighted_mean(judged * ops.ones_like(values), weights)
    rated = weighted_mean(values * judged, weights)
    total, whole = over_replicas([ops.sum(rated), ops.sum(shares)])
    return total / ops.maximum(whole, 1.0)


REGION_LOSSES: Mapping[str, Callable[..., Any]] = {
    "cross_entropy": cross_entropy,
    "dice": soft_dice,
    "dice_cross_entropy": dice_cross_entropy,
    "focal": focal,
}
