"""Losses between class indices and probabilities.

A new loss is one class here, one name in `vol3dseg.config.TrainingConfig.loss` and one case in
`make_loss`.
"""

from typing import Any, assert_never

import keras
from keras import ops

from vol3dseg.config import TrainingConfig

# The logarithm of 0 is infinite, and so is its gradient.
_SMALLEST = 1e-7
# About one voxel: a class that is nowhere in the batch then costs nothing where it is not
# predicted, and little, but with a gradient, where it is.
_SMOOTH = 1.0
_FOCUS = 2.0


def make_loss(config: TrainingConfig) -> Any:
    """Return the loss that the config names.

    Parameters
    ----------
    config : TrainingConfig

    Returns
    -------
    keras.losses.Loss
        Takes an (n, i, j, k) array of class indices and an (n, i, j, k, class) array of
        probabilities that sum to 1 over the classes, gives one number.
    """
    match config.loss:
        case "cross_entropy":
            return CrossEntropy()
        case "dice":
            return SoftDice()
        case "dice_cross_entropy":
            return DiceCrossEntropy()
        case "focal":
            return Focal()
        case _:
            assert_never(config.loss)


@keras.saving.register_keras_serializable(package="vol3dseg")
class CrossEntropy(keras.losses.Loss):  # type: ignore[misc]
    """Mean over all voxels of -log p, p the probability of the true class; p is at least 1e-7."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of a batch, a scalar tensor."""
        return _cross_entropy(_one_hot(y_true, y_pred), y_pred)


@keras.saving.register_keras_serializable(package="vol3dseg")
class SoftDice(keras.losses.Loss):  # type: ignore[misc]
    r"""One minus the mean soft Dice of the foreground classes.

    For each class, with g = 1 where it is the true one, p its probability and s = 1:

    .. math:: D = (2 \sum p g + s) / (\sum p + \sum g + s)

    After Milletari et al., "V-Net", 3DV 2016, with p and g in the denominator instead of their
    squares. Sums run over all voxels of the batch together, not of each patch: a patch often lacks
    a class, and its Dice then says nothing. A class that is in no patch of the batch has D = 1
    where it gets no probability, and D = s / (sum p + s) otherwise.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of a batch, a scalar tensor in 0 to 1."""
        return _soft_dice(_one_hot(y_true, y_pred), y_pred)


@keras.saving.register_keras_serializable(package="vol3dseg")
class DiceCrossEntropy(keras.losses.Loss):  # type: ignore[misc]
    """The sum of `SoftDice` and `CrossEntropy`, as in Isensee et al., "nnU-Net", 2021."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of a batch, a scalar tensor."""
        one_hot = _one_hot(y_true, y_pred)
        return _soft_dice(one_hot, y_pred) + _cross_entropy(one_hot, y_pred)


@keras.saving.register_keras_serializable(package="vol3dseg")
class Focal(keras.losses.Loss):  # type: ignore[misc]
    """Mean over all voxels of -(1 - p)^2 log p, p the probability of the true class.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, with gamma = 2 and no weights of
    classes; p is at least 1e-7.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of a batch, a scalar tensor."""
        p = _true_probability(_one_hot(y_true, y_pred), y_pred)
        return -ops.mean((1.0 - p) ** _FOCUS * ops.log(p))


def _one_hot(y_true: Any, y_pred: Any) -> Any:
    """Return an (n, i, j, k, class) tensor of 0 and 1.

    Keras casts class indices to float32 on the way in, which keeps them exact.
    """
    return ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)


def _true_probability(one_hot: Any, y_pred: Any) -> Any:
    return ops.clip(ops.sum(one_hot * y_pred, axis=-1), _SMALLEST, 1.0)


def _cross_entropy(one_hot: Any, y_pred: Any) -> Any:
    return -ops.mean(ops.log(_true_probability(one_hot, y_pred)))


def _soft_dice(one_hot: Any, y_pred: Any) -> Any:
    space = (0, 1, 2, 3)
    both = ops.sum(one_hot * y_pred, axis=space)
    either = ops.sum(one_hot, axis=space) + ops.sum(y_pred, axis=space)
    dice = (2.0 * both + _SMOOTH) / (either + _SMOOTH)
    return 1.0 - ops.mean(dice[1:])
