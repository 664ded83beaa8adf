"""Losses between class indices and logits.

A new loss is a class and its name in `make_loss` here, and one name in
`vol3dseg.config.TrainingConfig.loss`. All start from logits: with the probabilities of a softmax,
the gradient of a voxel that is surely wrong would be lost to rounding.
"""

from typing import Any, assert_never

from vol3dseg.config import TrainingConfig
from vol3dseg.training.backend import keras

ops = keras.ops

# About one voxel: a class that is nowhere in the batch then costs nothing where it is not
# predicted, and little, but with a gradient, where it is.
_SMOOTH = 1.0
_FOCUS = 2.0


def make_loss(config: TrainingConfig) -> Any:
    """Return the loss that the config names.

    It takes an (n, i, j, k) array of class indices and an (n, i, j, k, class) array of logits.
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
    """Mean over all voxels of -log p, p the probability of the true class."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of a batch, a scalar tensor."""
        return ops.mean(_surprise(y_true, y_pred))


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
        return _soft_dice(y_true, y_pred)


@keras.saving.register_keras_serializable(package="vol3dseg")
class DiceCrossEntropy(keras.losses.Loss):  # type: ignore[misc]
    """The sum of `SoftDice` and `CrossEntropy`, as in Isensee et al., "nnU-Net", 2021."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of a batch, a scalar tensor."""
        return _soft_dice(y_true, y_pred) + ops.mean(_surprise(y_true, y_pred))


@keras.saving.register_keras_serializable(package="vol3dseg")
class Focal(keras.losses.Loss):  # type: ignore[misc]
    """Mean over all voxels of -(1 - p)^2 log p, p the probability of the true class.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, with gamma = 2 and no weights of
    classes.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of a batch, a scalar tensor."""
        surprise = _surprise(y_true, y_pred)
        return ops.mean((1.0 - ops.exp(-surprise)) ** _FOCUS * surprise)


def _surprise(y_true: Any, logits: Any) -> Any:
    """Return -log p of the true class, an (n, i, j, k) tensor; finite for finite logits."""
    return ops.sparse_categorical_crossentropy(_indices(y_true), logits, from_logits=True)


def _soft_dice(y_true: Any, logits: Any) -> Any:
    one_hot = ops.one_hot(_indices(y_true), logits.shape[-1], dtype=logits.dtype)
    probabilities, space = ops.softmax(logits, axis=-1), (0, 1, 2, 3)
    both = ops.sum(one_hot * probabilities, axis=space)
    either = ops.sum(one_hot, axis=space) + ops.sum(probabilities, axis=space)
    dice = (2.0 * both + _SMOOTH) / (either + _SMOOTH)
    return 1.0 - ops.mean(dice[1:])


def _indices(y_true: Any) -> Any:
    """Return class indices as integers; Keras casts them to float32, which keeps them exact."""
    return ops.cast(y_true, "int32")
