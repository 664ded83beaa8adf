"""Losses between class indices and logits of regions, each of which is decided by itself.

As in `losses`, of the same names, but with an output for each region, and a sigmoid in place of the
softmax; `members` holds the class indices of each region, in the order of outputs. Regions count
the same, or by their weights. Voxels whose label is `IGNORED` have no part in any of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vol3dseg.space.labels import IGNORED
from vol3dseg.training.backend import keras
from vol3dseg.training.losses import Weights, focused, overlap, weighted_mean

ops = keras.ops
Members = Sequence[Sequence[int]]


def cross_entropy(labels: Any, logits: Any, members: Members, weights: Weights = None) -> Any:
    """Return the mean over judged voxels and regions of -log p, p the probability of the truth."""
    return _mean(_surprise(_inside(labels, members, logits.dtype), logits), labels, weights)


def soft_dice(labels: Any, logits: Any, members: Members, weights: Weights = None) -> Any:
    """Return one minus the mean soft Dice of the regions, pooled over the batch, 0 to 1."""
    probabilities = ops.sigmoid(logits) * _judged(labels, logits.dtype)[..., None]
    return 1.0 - weighted_mean(
        overlap(_inside(labels, members, logits.dtype), probabilities), weights
    )


def dice_cross_entropy(labels: Any, logits: Any, members: Members, weights: Weights = None) -> Any:
    """Return `soft_dice` plus `cross_entropy`."""
    return soft_dice(labels, logits, members, weights) + cross_entropy(
        labels, logits, members, weights
    )


def focal(labels: Any, logits: Any, members: Members, weights: Weights = None) -> Any:
    """Return the mean over judged voxels and regions of -(1 - p)^2 log p, p that of the truth."""
    surprise = _surprise(_inside(labels, members, logits.dtype), logits)
    return _mean(focused(surprise), labels, weights)


def _inside(labels: Any, members: Members, dtype: str) -> Any:
    """Return an (n, i, j, k, region) tensor, 1 inside of regions; 0 where nothing is judged."""
    table = np.zeros((IGNORED + 1, len(members)), np.float32)
    for region, classes in enumerate(members):
        table[list(classes), region] = 1
    return ops.take(ops.convert_to_tensor(table, dtype), ops.cast(labels, "int32"), axis=0)


def _judged(labels: Any, dtype: str) -> Any:
    return ops.cast(labels != IGNORED, dtype)


def _surprise(inside: Any, logits: Any) -> Any:
    """Return -log p of what is true of each voxel and region; finite for finite logits."""
    return ops.softplus((1.0 - 2.0 * inside) * logits)


def _mean(values: Any, labels: Any, weights: Weights) -> Any:
    judged = _judged(labels, values.dtype)
    return ops.sum(weighted_mean(values, weights) * judged) / ops.maximum(ops.sum(judged), 1.0)


REGION_LOSSES: Mapping[str, Callable[..., Any]] = {
    "cross_entropy": cross_entropy,
    "dice": soft_dice,
    "dice_cross_entropy": dice_cross_entropy,
    "focal": focal,
}
