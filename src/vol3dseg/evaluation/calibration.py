"""Whether a model was unsure where it was wrong: calibration, and errors by entropy.

Expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks"): voxels are
put into 15 bins of equal width by the probability of the winning class; in each bin the mean
probability is compared with the share of voxels that are right; the mean of the absolute
differences, weighed by voxels, is the error. Here over judged voxels that are foreground in either
map: the many that are surely background would hide all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, nan

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.labels import IGNORED, Segmentation

CONFIDENCE_BINS, ENTROPY_BINS = 15, 10
Values = NDArray[np.float32]
Bins = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Voxels of a case, or of several, by how sure the model was of them.

    Bins are a (bins, 3) array: voxels, how many of them are wrong, and the sum of what they are
    binned by; None where it is not known.
    """

    confidence: Bins | None = None  # by the probability of the winning class, from 0 to 1
    entropy: Bins | None = None  # [nat], from 0 to `highest`; what is beyond is in the last bin
    highest: float = nan

    @property
    def ece(self) -> float:
        """Expected calibration error, from 0 to 1; NaN without voxels."""
        if self.confidence is None or not self.confidence[:, 0].any():
            return nan
        voxels, wrong, summed = self.confidence.T
        return float(np.abs(voxels - wrong - summed).sum() / voxels.sum())

    @property
    def mean_entropy(self) -> float:
        """Mean entropy of a voxel [nat]; NaN without voxels."""
        if self.entropy is None or not self.entropy[:, 0].any():
            return nan
        return float(self.entropy[:, 2].sum() / self.entropy[:, 0].sum())

    @property
    def scores(self) -> dict[str, float]:
        """Both by the names that they have in files."""
        return {"ece": self.ece, "mean_entropy_nat": self.mean_entropy}


def calibration(
    reference: Segmentation,
    prediction: Segmentation,
    confidence: Values | None = None,
    entropy: Values | None = None,
) -> Calibration:
    """Bin the voxels of one case; all (i, j, k) arrays lie on one grid.

    What is predicted of a class that nobody has looked for is not judged where the reference has
    background. Taken plane by plane, so that nothing as large as the volume is made.
    """
    unseen = reference.labels.indices(reference.unannotated)
    highest = log(len(reference.labels.classes))
    of_confidence, of_entropy = (np.zeros((n, 3)) for n in (CONFIDENCE_BINS, ENTROPY_BINS))
    for plane in range(reference.array.shape[2]):
        true, found = reference.array[..., plane], prediction.array[..., plane]
        judged = ((true > 0) | (found > 0)) & (true != IGNORED)
        if unseen:
            judged &= (true > 0) | ~np.isin(found, unseen)
        if not judged.any():
            continue
        wrong = true[judged] != found[judged]
        if confidence is not None:
            _add(of_confidence, confidence[..., plane][judged], wrong, 1.0)
        if entropy is not None:
            _add(of_entropy, entropy[..., plane][judged], wrong, highest)
    return Calibration(
        None if confidence is None else of_confidence,
        None if entropy is None else of_entropy,
        highest,
    )


def pooled(cases: Sequence[Calibration]) -> Calibration:
    """Put the voxels of cases together, of which there is at least one."""
    confidences = [case.confidence for case in cases if case.confidence is not None]
    entropies = [case.entropy for case in cases if case.entropy is not None]
    return Calibration(
        np.sum(confidences, axis=0) if confidences else None,
        np.sum(entropies, axis=0) if entropies else None,
        cases[0].highest,
    )


def _add(bins: Bins, values: Values, wrong: NDArray[np.bool_], highest: float) -> None:
    """Add voxels to their bins, each of which holds its upper end, as with Guo et al."""
    exact, count = values.astype(np.float64), len(bins)
    places = np.clip(np.ceil(exact / highest * count) - 1, 0, count - 1).astype(np.intp)
    for column, weights in enumerate((None, wrong, exact)):
        bins[:, column] += np.bincount(places, weights, minlength=count)
