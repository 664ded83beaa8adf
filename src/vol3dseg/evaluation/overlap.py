"""Metrics of the overlap of two label maps, and the confusion matrix that they come from.

With TP, FP, FN and TN the voxels of a class against the rest:

===========  ==========================  ================================================
Dice         2 TP / (2 TP + FP + FN)     Dice 1945; Sørensen 1948
IoU          TP / (TP + FP + FN)         Jaccard 1912
precision    TP / (TP + FP)
sensitivity  TP / (TP + FN)
specificity  TN / (TN + FP)
===========  ==========================  ================================================

Where neither reference nor prediction has a class, most of them are 0 / 0: `empty_masks` has rules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import EvaluationError
from vol3dseg.space.labels import IGNORED

_PORTION = 2**16  # voxels that are counted at once


class Counts(NamedTuple):
    """Voxels of one class against the rest; in training, tensors with a number for each class."""

    tp: Any
    fp: Any
    fn: Any
    tn: Any


@dataclass(frozen=True, slots=True)
class Metric:
    """A score of one class, or of the union of several, against the rest."""

    name: str  # in columns and keys of files
    title: str  # in tables and pictures
    ratio: Callable[[Counts], tuple[Any, Any]]  # numerator and denominator; 0 / 0 is NaN
    by_rule: bool = True  # a rule for empty masks decides where neither map has it
    higher_is_better: bool = True

    def __call__(self, counts: Counts, both_empty: float = nan) -> float:
        """Return the value for one class; `both_empty` where neither map has it."""
        if self.by_rule and not any((counts.tp, counts.fp, counts.fn)):
            return both_empty
        part, whole = self.ratio(counts)
        return part / whole if whole else nan

    def column(self, class_name: str) -> str:
        """Return its name for one class in logs: "dice_left_lung" of the class "Left Lung"."""
        return "_".join([self.name, *class_name.lower().split()])

    def class_in(self, column: str) -> str | None:
        """Return the class of such a column, "left lung"; "" of the mean; None of other metrics."""
        name, _, rest = column.partition("_")
        return rest.replace("_", " ") if name == self.name else None


DICE = Metric("dice", "Dice", lambda c: (2 * c.tp, 2 * c.tp + c.fp + c.fn))
IOU = Metric("iou", "IoU", lambda c: (c.tp, c.tp + c.fp + c.fn))
METRICS = (
    DICE,
    IOU,
    Metric("precision", "precision", lambda c: (c.tp, c.tp + c.fp)),
    Metric("sensitivity", "sensitivity", lambda c: (c.tp, c.tp + c.fn)),
    Metric("specificity", "specificity", lambda c: (c.tn, c.tn + c.fp), by_rule=False),
)


def confusion(
    reference: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """Count which class was taken for which: rows are the reference, columns the prediction.

    Both maps hold class indices; voxels whose reference is `IGNORED` are not counted. An
    EvaluationError says that their shapes differ or that an index is no class.
    """
    if reference.shape != prediction.shape:
        raise EvaluationError(
            f"the reference has the shape {reference.shape}, the prediction {prediction.shape}",
            expected="one shape",
            remedy="resample one onto the grid of the other",
        )
    counts = np.zeros(classes**2, dtype=np.int64)
    pair_type = np.min_scalar_type(classes**2 - 1)  # bincount turns what it gets into eight bytes
    # Portions of both that hold the same voxels, however the arrays lie in memory.
    flags: Any = ["external_loop", "buffered", "zerosize_ok"]
    for rows, columns in np.nditer([reference, prediction], flags, buffersize=_PORTION):
        largest = max(rows.max(initial=0), columns.max(initial=0))
        if largest == IGNORED:
            judged = rows != IGNORED
            rows, columns = rows[judged], columns[judged]
            largest = max(rows.max(initial=0), columns.max(initial=0))
        if largest >= classes:  # it would count as another pair, and say nothing of it
            raise _no_class(int(largest), classes)
        if largest == 0:  # most is background
            counts[0] += rows.size
        else:
            pairs = rows * pair_type.type(classes) + columns
            counts += np.bincount(pairs, minlength=classes**2)
    return counts.reshape(classes, classes)


def _no_class(index: int, classes: int) -> EvaluationError:
    wanted = f"0 to {classes - 1}"
    if index == IGNORED:
        found, remedy = "the prediction leaves out voxels that are judged", "give each a class"
    else:
        found = f"found the class index {index}"
        remedy = "turn the values of a file into indices with LabelSet.encode first"
    return EvaluationError(found, expected=wanted, remedy=remedy)


def counts_of(matrix: NDArray[np.int64], members: tuple[int, ...]) -> Counts:
    """Return the counts of the union of some class indices, by the matrix of `confusion`."""
    tp = int(matrix[np.ix_(members, members)].sum())
    fp = int(matrix[:, members].sum()) - tp
    fn = int(matrix[members, :].sum()) - tp
    return Counts(tp, fp, fn, int(matrix.sum()) - tp - fp - fn)


def one_against_rest(matrix: NDArray[np.int64]) -> tuple[Counts, ...]:
    """Return the counts of each class of `confusion` against the rest, background first."""
    return tuple(counts_of(matrix, (index,)) for index in range(len(matrix)))
