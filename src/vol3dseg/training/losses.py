"""Losses between class indices and logits of classes that exclude each other.

A new loss is a function and its name in `LOSSES` here and in `region_losses`, and one name in
`vol3dseg.config.TrainingConfig.loss`. It takes an (n, i, j, k) tensor of class indices, an (n, i,
j, k, class) tensor of logits, and the weights of classes, if they differ; it returns a scalar. All
start from logits: with the probabilities of a softmax, the gradient of a voxel that is surely wrong
would be lost to rounding. Voxels whose label is `IGNORED` have no part in any of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vol3dseg.training.backend import keras

ops = keras.ops

# About one voxel: a class that is nowhere in the batch then costs nothing where it is not
# predicted, and little, but with a gradient, where it is.
_SMOOTH = 1.0
_FOCUS = 2.0
Weights = Sequence[float] | None


def cross_entropy(labels: Any, logits: Any, weights: Weights = None) -> Any:
    """Return the mean over all judged voxels of -log p, p the probability of the true class.

    A voxel counts as much as its true class.
    """
    return _cross_entropy(*_read(labels, logits), weights)


def soft_dice(labels: Any, logits: Any, weights: Weights = None) -> Any:
    r"""Return one minus the mean soft Dice of the foreground classes, 0 to 1.

    For each class, with g = 1 where it is the true one, p its probability and s = 1:

    .. math:: D = (2 \sum p g + s) / (\sum p + \sum g + s)

    After Milletari et al., "V-Net", 3DV 2016, with p and g in the denominator instead of their
    squares. Sums run over all voxels of the batch together, not of each patch: a patch often lacks
    a class, and its Dice then says nothing. A class that is in no patch of the batch has D = 1
    where it gets no probability, and D = s / (sum p + s) otherwise.
    """
    return _soft_dice(*_read(labels, logits), weights)


def dice_cross_entropy(labels: Any, logits: Any, weights: Weights = None) -> Any:
    """Return `soft_dice` plus `cross_entropy`, as in Isensee et al., "nnU-Net", 2021."""
    both = _read(labels, logits)
    return _soft_dice(*both, weights) + _cross_entropy(*both, weights)


def focal(labels: Any, logits: Any, weights: Weights = None) -> Any:
    """Return the mean over all judged voxels of -(1 - p)^2 log p, p that of the true class.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, with gamma = 2.
    """
    truth, log_p = _read(labels, logits)
    return _mean(focused(-ops.sum(truth * log_p, axis=-1)), truth, weights)


def overlap(truth: Any, probabilities: Any) -> Any:
    """Return the soft Dice of each channel of two tensors, over all axes but the last."""
    truth, probabilities = (ops.reshape(t, (-1, t.shape[-1])) for t in (truth, probabilities))
    both = ops.einsum("vc,vc->c", truth, probabilities)
    either = ops.sum(truth, axis=0) + ops.sum(probabilities, axis=0)
    return (2.0 * both + _SMOOTH) / (either + _SMOOTH)


def focused(surprise: Any) -> Any:
    """Return -log p of the truth as a focal loss has it: little where p is near 1."""
    return (1.0 - ops.exp(-surprise)) ** _FOCUS * surprise


def weighted_mean(values: Any, weights: Weights) -> Any:
    """Return the mean along the last axis, each value with its weight, if they differ."""
    if weights is None:
        return ops.mean(values, axis=-1)
    shares = [weight / sum(weights) for weight in weights]
    return ops.sum(values * ops.convert_to_tensor(shares, values.dtype), axis=-1)


def _read(labels: Any, logits: Any) -> tuple[Any, Any]:
    """Return (voxel, class) tensors: 1 at the true class, and the logarithm of each probability.

    A voxel that is ignored has no true class: its index is above all, and its row all 0. Two axes
    in place of five, and one logarithm for all losses, since every pass over these tensors is felt.
    """
    classes = logits.shape[-1]
    truth = ops.one_hot(ops.reshape(labels, (-1,)), classes, dtype=logits.dtype)
    return truth, ops.log_softmax(ops.reshape(logits, (-1, classes)), axis=-1)


def _soft_dice(truth: Any, log_p: Any, weights: Weights) -> Any:
    judged = ops.sum(truth, axis=-1, keepdims=True)
    dice = overlap(truth, ops.exp(log_p) * judged)
    return 1.0 - weighted_mean(dice[1:], None if weights is None else weights[1:])


def _cross_entropy(truth: Any, log_p: Any, weights: Weights) -> Any:
    return _mean(-ops.sum(truth * log_p, axis=-1), truth, weights)


def _mean(values: Any, truth: Any, weights: Weights) -> Any:
    """Return the mean of the values of voxels that are judged; 0 where none is."""
    if weights is None:
        counted = ops.sum(truth, axis=-1)
    else:
        counted = ops.matmul(truth, ops.convert_to_tensor(weights, truth.dtype))
    whole = ops.sum(counted)
    return ops.sum(values * counted) / ops.where(whole > 0, whole, 1.0)


LOSSES: Mapping[str, Callable[..., Any]] = {
    "cross_entropy": cross_entropy,
    "dice": soft_dice,
    "dice_cross_entropy": dice_cross_entropy,
    "focal": focal,
}
