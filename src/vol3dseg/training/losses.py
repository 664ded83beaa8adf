"""Losses between class indices and logits of classes that exclude each other.

A new loss is a function and its name in `LOSSES` here and in `region_losses`, and one name in
`vol3dseg.config.TrainingConfig.loss`. It takes an (n, i, j, k) tensor of class indices, an (n, i,
j, k, class) tensor of logits, the weights of classes, if they differ, and what `partial_labels`
says of cases in which nobody has looked for some; it returns a scalar. All start from logits: with
the probabilities of a softmax, the gradient of a voxel that is surely wrong would be lost to
rounding. Voxels whose label is `IGNORED` have no part in any of them. Sums over a batch are taken
`over_replicas`, so that a loss is the same however many devices share the batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vol3dseg.training.backend import keras
from vol3dseg.training.partial_labels import Partial, allowed_classes
from vol3dseg.training.replicas import over_replicas

ops = keras.ops

# About one voxel: a class that is nowhere in the batch then costs nothing where it is not
# predicted, and little, but with a gradient, where it is.
_SMOOTH = 1.0
_FOCUS = 2.0
_NEVER = -1e4  # the logarithm of a probability that is 0 in float32, and whose gradient is finite
Weights = Sequence[float] | None


def cross_entropy(labels: Any, logits: Any, weights: Weights = None, partial: Partial = ()) -> Any:
    """Return the mean over all judged voxels of -log p, p the probability of the true class.

    A voxel counts as much as its true class. Where that may be one of several, p is their sum, and
    the voxel counts as much as the background.
    """
    return _cross_entropy(_read(labels, logits, partial), weights)


def soft_dice(labels: Any, logits: Any, weights: Weights = None, partial: Partial = ()) -> Any:
    r"""Return one minus the mean soft Dice of the foreground classes, 0 to 1.

    For each class, with g = 1 where it is the true one, p its probability and s = 1:

    .. math:: D = (2 \sum p g + s) / (\sum p + \sum g + s)

    After Milletari et al., "V-Net", 3DV 2016, with p and g in the denominator instead of their
    squares. Sums run over all voxels of the batch together, not of each patch: a patch often lacks
    a class, and its Dice then says nothing. A class that is in no patch of the batch has D = 1
    where it gets no probability, and D = s / (sum p + s) otherwise. A voxel that may be of a class
    or not is in none of its sums.
    """
    return _soft_dice(_read(labels, logits, partial), weights)


def dice_cross_entropy(
    labels: Any, logits: Any, weights: Weights = None, partial: Partial = ()
) -> Any:
    """Return `soft_dice` plus `cross_entropy`, as in Isensee et al., "nnU-Net", 2021."""
    read = _read(labels, logits, partial)
    return _soft_dice(read, weights) + _cross_entropy(read, weights)


def focal(labels: Any, logits: Any, weights: Weights = None, partial: Partial = ()) -> Any:
    """Return the mean over all judged voxels of -(1 - p)^2 log p, p that of the true class.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, with gamma = 2.
    """
    read = _read(labels, logits, partial)
    return _mean(focused(_surprise(read)), read, weights)


def overlap(truth: Any, probabilities: Any) -> Any:
    """Return the soft Dice of each channel of two tensors, over all axes but the last."""
    truth, probabilities = (ops.reshape(t, (-1, t.shape[-1])) for t in (truth, probabilities))
    both = ops.einsum("vc,vc->c", truth, probabilities)
    either = ops.sum(truth, axis=0) + ops.sum(probabilities, axis=0)
    both, either = over_replicas([both, either])
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


class _Read(NamedTuple):
    """Labels and logits of a batch as (voxel, class) tensors."""

    truth: Any  # 1 at the true class; all 0 where a voxel is ignored, or its class is not known
    log_p: Any  # the logarithm of each probability
    maybe: Any  # 1 at each of several classes that a voxel may be of; None where all are known


def _read(labels: Any, logits: Any, partial: Partial) -> _Read:
    """Return what losses are made of.

    A voxel that is ignored has no true class: its index is above all, and its row all 0. Two axes
    in place of five, and one logarithm for all losses, since every pass over these tensors is felt.
    """
    classes = logits.shape[-1]
    flat = ops.reshape(labels, (-1,))
    truth = ops.one_hot(flat, classes, dtype=logits.dtype)
    log_p = ops.log_softmax(ops.reshape(logits, (-1, classes)), axis=-1)
    if not partial:
        return _Read(truth, log_p, None)
    table = allowed_classes(classes, partial)
    table[:classes] = 0  # of what is not known alone
    maybe = ops.take(ops.convert_to_tensor(table, logits.dtype), ops.cast(flat, "int32"), axis=0)
    return _Read(truth, log_p, maybe)


def _soft_dice(read: _Read, weights: Weights) -> Any:
    judged = ops.sum(read.truth, axis=-1, keepdims=True)
    if read.maybe is not None:
        unknown = ops.max(read.maybe, axis=-1, keepdims=True)
        judged = judged + unknown - read.maybe
    dice = overlap(read.truth, ops.exp(read.log_p) * judged)
    return 1.0 - weighted_mean(dice[1:], None if weights is None else weights[1:])


def _cross_entropy(read: _Read, weights: Weights) -> Any:
    return _mean(_surprise(read), read, weights)


def _surprise(read: _Read) -> Any:
    """Return -log p of the true class of each voxel, or of all that it may be; 0 if ignored."""
    known = -ops.sum(read.truth * read.log_p, axis=-1)
    if read.maybe is None:
        return known
    unknown = ops.max(read.maybe, axis=-1)
    of_several = ops.logsumexp(read.log_p + _NEVER * (1.0 - read.maybe), axis=-1)
    return known - unknown * of_several


def _mean(values: Any, read: _Read, weights: Weights) -> Any:
    """Return the mean of the values of voxels that are judged; 0 where none is."""
    truth = read.truth
    if weights is None:
        counted = ops.sum(truth, axis=-1)
    else:
        counted = ops.matmul(truth, ops.convert_to_tensor(weights, truth.dtype))
    if read.maybe is not None:
        counted = counted + (1.0 if weights is None else weights[0]) * read.maybe[:, 0]
    total, whole = over_replicas([ops.sum(values * counted), ops.sum(counted)])
    return total / ops.where(whole > 0, whole, 1.0)


LOSSES: Mapping[str, Callable[..., Any]] = {
    "cross_entropy": cross_entropy,
    "dice": soft_dice,
    "dice_cross_entropy": dice_cross_entropy,
    "focal": focal,
}
