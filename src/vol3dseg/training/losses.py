"""Losses between class indices and logits.

A new loss is a function and its name in `LOSSES` here, and one name in
`vol3dseg.config.TrainingConfig.loss`. It takes an (n, i, j, k) tensor of class indices and an
(n, i, j, k, class) tensor of logits, and returns a scalar. All start from logits: with the
probabilities of a softmax, the gradient of a voxel that is surely wrong would be lost to rounding.
Voxels whose label is `IGNORED` have no part in any of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vol3dseg.space.labels import IGNORED
from vol3dseg.training.backend import keras

ops = keras.ops

# About one voxel: a class that is nowhere in the batch then costs nothing where it is not
# predicted, and little, but with a gradient, where it is.
_SMOOTH = 1.0
_FOCUS = 2.0


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Return the mean over all judged voxels of -log p, p the probability of the true class."""
    return _mean(_surprise(labels, logits), labels)


def soft_dice(labels: Any, logits: Any) -> Any:
    r"""Return one minus the mean soft Dice of the foreground classes, 0 to 1.

    For each class, with g = 1 where it is the true one, p its probability and s = 1:

    .. math:: D = (2 \sum p g + s) / (\sum p + \sum g + s)

    After Milletari et al., "V-Net", 3DV 2016, with p and g in the denominator instead of their
    squares. Sums run over all voxels of the batch together, not of each patch: a patch often lacks
    a class, and its Dice then says nothing. A class that is in no patch of the batch has D = 1
    where it gets no probability, and D = s / (sum p + s) otherwise.
    """
    judged = ops.cast(labels != IGNORED, logits.dtype)[..., None]
    one_hot = ops.one_hot(_true(labels), logits.shape[-1], dtype=logits.dtype) * judged
    probabilities, space = ops.softmax(logits, axis=-1) * judged, (0, 1, 2, 3)
    both = ops.sum(one_hot * probabilities, axis=space)
    either = ops.sum(one_hot, axis=space) + ops.sum(probabilities, axis=space)
    dice = (2.0 * both + _SMOOTH) / (either + _SMOOTH)
    return 1.0 - ops.mean(dice[1:])


def dice_cross_entropy(labels: Any, logits: Any) -> Any:
    """Return `soft_dice` plus `cross_entropy`, as in Isensee et al., "nnU-Net", 2021."""
    return soft_dice(labels, logits) + cross_entropy(labels, logits)


def focal(labels: Any, logits: Any) -> Any:
    """Return the mean over all judged voxels of -(1 - p)^2 log p, p that of the true class.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, with gamma = 2 and no weights of
    classes.
    """
    surprise = _surprise(labels, logits)
    return _mean((1.0 - ops.exp(-surprise)) ** _FOCUS * surprise, labels)


def _surprise(labels: Any, logits: Any) -> Any:
    """Return -log p of the true class, an (n, i, j, k) tensor; finite for finite logits."""
    return ops.sparse_categorical_crossentropy(_true(labels), logits, from_logits=True)


def _true(labels: Any) -> Any:
    """Return class indices, some class where nothing is judged."""
    return ops.where(labels == IGNORED, 0, labels)


def _mean(values: Any, labels: Any) -> Any:
    """Return the mean of the values of voxels that are judged; 0 where none is."""
    judged = ops.cast(labels != IGNORED, values.dtype)
    return ops.sum(values * judged) / ops.maximum(ops.sum(judged), 1.0)


LOSSES: Mapping[str, Callable[[Any, Any], Any]] = {
    "cross_entropy": cross_entropy,
    "dice": soft_dice,
    "dice_cross_entropy": dice_cross_entropy,
    "focal": focal,
}


@keras.saving.register_keras_serializable(package="vol3dseg")
class NamedLoss(keras.losses.Loss):  # type: ignore[misc]
    """The loss that a config names, as Keras saves and calls it."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of a batch, a scalar tensor."""
        # Keras casts class indices to float32, which keeps them exact.
        return LOSSES[self.name](ops.cast(y_true, "int32"), y_pred)
