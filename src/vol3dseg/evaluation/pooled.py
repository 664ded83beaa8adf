"""The pooled table: one confusion matrix over all cases, means over all classes.

Widely copied code, and the student report that this project grew from, log such values while
training: voxels of a whole batch are pooled, and Dice is averaged over all four channels, the
background with its Dice near 1 included. They are not comparable with scores per case, so they have
names of their own. Two differences remain: that code pools soft probabilities, whereas hard labels
are pooled here, since predictions are kept as labels; and it pools batches, whereas all cases are
pooled here. A class that no case has, in reference or prediction, is left out of the means whatever
rule for empty masks is chosen.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vol3dseg.evaluation.overlap import one_against_rest, scores_of
from vol3dseg.evaluation.spread import mean_defined


def pooled_table(matrix: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    """Return the pooled scores.

    Parameters
    ----------
    matrix : (classes, classes) array of int64
        Confusion summed over all cases.
    names : sequence of str
        Of all classes, background first.

    Returns
    -------
    mapping from str to float
        `pooled_accuracy`; the means over all classes `pooled_mean_iou`, `pooled_precision`,
        `pooled_sensitivity`, `pooled_specificity`, `pooled_dice`; `pooled_dice_<class>` of each
        foreground class, in lower case and without blanks. NaN where a ratio is 0 / 0; such classes
        are left out of the means.
    """
    scores = [scores_of(counts) for counts in one_against_rest(matrix)]
    total = int(matrix.sum())
    table = {
        "pooled_accuracy": int(np.trace(matrix)) / total if total else math.nan,
        "pooled_mean_iou": mean_defined([s.iou for s in scores]),
        "pooled_precision": mean_defined([s.precision for s in scores]),
        "pooled_sensitivity": mean_defined([s.sensitivity for s in scores]),
        "pooled_specificity": mean_defined([s.specificity for s in scores]),
        "pooled_dice": mean_defined([s.dice for s in scores]),
    }
    for name, score in zip(names[1:], scores[1:], strict=True):
        table["_".join(["pooled_dice", *name.lower().split()])] = score.dice
    return table
