"""Overlap of two label maps.

With TP, FP, FN and TN the voxels of a class against the rest:

===========  ==========================  ================================================
Dice         2 TP / (2 TP + FP + FN)     Dice 1945; Sørensen 1948
IoU          TP / (TP + FP + FN)         Jaccard 1912
precision    TP / (TP + FP)
sensitivity  TP / (TP + FN)
specificity  TN / (TN + FP)
===========  ==========================  ================================================

**Empty masks.** Where neither reference nor prediction has a class, Dice, IoU, precision and
sensitivity are 0 / 0. By the rule "undefined", the default, they are NaN and left out of means:
there was nothing to find and nothing false was found, which is neither a success of segmentation
nor a failure. By the rule "one" they are 1, as the BraTS challenge counts, which raises the mean
of rare classes. By either rule Dice and IoU are 0 where only one of the two is empty; a precision
without predicted voxels and a sensitivity without voxels to find then stay undefined.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import EvaluationError

_PORTION = 2**16  # voxels that are counted at once

EmptyRule = Literal["undefined", "one"]
_ONLY_ONE = (
    "Where only one of the two has it, Dice and IoU are 0; precision without predicted voxels and "
    "sensitivity without reference voxels are undefined and left out of the means."
)
EMPTY_RULES = MappingProxyType(
    {
        "undefined": "Where neither reference nor prediction has a class, Dice, IoU, precision and "
        f"sensitivity are undefined and left out of the means. {_ONLY_ONE}",
        "one": "Where neither reference nor prediction has a class, Dice, IoU, precision and "
        f"sensitivity count as 1, as in the BraTS challenge. {_ONLY_ONE}",
    }
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Voxels of one class against the rest: true and false, positive and negative."""

    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one class against the rest; NaN where undefined (see the top of this module)."""

    dice: float
    iou: float
    precision: float
    sensitivity: float
    specificity: float


def confusion(
    reference: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """Count which class was taken for which.

    Parameters
    ----------
    reference, prediction : (...) array of uint8
        Class indices, of one shape.
    classes : int

    Returns
    -------
    (classes, classes) array of int64
        Rows are the reference, columns the prediction.

    Raises
    ------
    EvaluationError
        The shapes differ, or an index is no class.
    """
    if reference.shape != prediction.shape:
        raise EvaluationError(
            f"reference of shape {reference.shape} and prediction of shape {prediction.shape}; "
            "expected one shape; bring both onto one grid"
        )
    # An index too large would count as another pair of classes, and say nothing of it.
    largest = max(int(reference.max(initial=0)), int(prediction.max(initial=0)))
    if largest >= classes:
        raise EvaluationError(
            f"found the class index {largest}, expected 0 to {classes - 1}; turn the values of a "
            "file into indices with LabelSet.encode first"
        )
    counts = np.zeros(classes**2, dtype=np.int64)
    pair_type = np.min_scalar_type(classes**2 - 1)  # bincount turns what it gets into eight bytes
    for rows, columns in _in_step(reference, prediction):
        if not rows.any() and not columns.any():  # most is background
            counts[0] += rows.size
        else:
            pairs = rows * pair_type.type(classes) + columns
            counts += np.bincount(pairs, minlength=classes**2)
    return counts.reshape(classes, classes)


def _in_step(
    first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Give both arrays in portions that hold the same voxels, however they lie in memory."""
    yield from np.nditer(
        [first, second], ["external_loop", "buffered", "zerosize_ok"], buffersize=_PORTION
    )


def counts_of(matrix: NDArray[np.int64], members: tuple[int, ...]) -> Counts:
    """Return the counts of a class, or of the union of several, against the rest.

    Parameters
    ----------
    matrix : (classes, classes) array of int64
        Of `confusion`.
    members : tuple of int
        Class indices that count as positive.
    """
    positive = np.isin(np.arange(len(matrix)), members)
    return Counts(
        tp=int(matrix[np.ix_(positive, positive)].sum()),
        fp=int(matrix[np.ix_(~positive, positive)].sum()),
        fn=int(matrix[np.ix_(positive, ~positive)].sum()),
        tn=int(matrix[np.ix_(~positive, ~positive)].sum()),
    )


def one_against_rest(matrix: NDArray[np.int64]) -> tuple[Counts, ...]:
    """Return the counts of each class against the rest, in the order of `matrix`.

    Parameters
    ----------
    matrix : (classes, classes) array of int64
        Of `confusion`.
    """
    return tuple(counts_of(matrix, (index,)) for index in range(len(matrix)))


def scores_of(counts: Counts, empty: EmptyRule = "undefined") -> Scores:
    """Return the scores of a class; the formulas stand at the top of this module.

    Parameters
    ----------
    counts : Counts
    empty : "undefined" or "one"
        What Dice, IoU, precision and sensitivity are where both masks are empty.
    """
    tp, fp, fn, tn = counts.tp, counts.fp, counts.fn, counts.tn
    if empty == "one" and tp + fp + fn == 0:
        return Scores(1.0, 1.0, 1.0, 1.0, _ratio(tn, tn + fp))
    return Scores(
        dice=_ratio(2 * tp, 2 * tp + fp + fn),
        iou=_ratio(tp, tp + fp + fn),
        precision=_ratio(tp, tp + fp),
        sensitivity=_ratio(tp, tp + fn),
        specificity=_ratio(tn, tn + fp),
    )


def dice(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], empty: EmptyRule = "undefined"
) -> float:
    """Return the Dice coefficient of two masks of one shape; if both are empty NaN, or 1."""
    pair = confusion(reference.view(np.uint8), prediction.view(np.uint8), 2)
    return scores_of(counts_of(pair, (1,)), empty).dice


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
