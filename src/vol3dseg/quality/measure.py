"""From the files of one case to its facts; one case is in memory at a time."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.quality.case_likeness import coarse, mirrorings
from vol3dseg.quality.contents import Contents, Image, read_contents
from vol3dseg.quality.facts import (
    HISTOGRAM_BINS,
    HISTOGRAM_RANGE,
    MASK,
    CaseFacts,
    ModalityFacts,
)
from vol3dseg.quality.likeness import correlations, inside_of, ranked
from vol3dseg.space.labels import LabelSet

_FEWEST = 20  # voxels that a mean is taken over


def measure(case: Case, modalities: tuple[str, ...], labels: LabelSet | None = None) -> CaseFacts:
    """Read a case and return its facts; never raises an error of ours, but says it in `problems`.

    Parameters
    ----------
    case : Case
    modalities : tuple of str
        Those that it should have.
    labels : LabelSet or None
        None names classes by their values: "value 1".
    """
    return measure_contents(case.id, case.subject, read_contents(case, modalities, labels))


def measure_contents(case_id: str, subject: str, contents: Contents) -> CaseFacts:
    """Return the facts of a case whose arrays are in memory."""
    insides = {name: inside_of(array) for name, array in contents.images.items()}
    facts, scores = {}, {}
    for name, array in contents.images.items():
        facts[name], scores[name] = _measure_modality(array, insides[name])
    small = {name: coarse(scores[name], insides[name]) for name in scores}
    masks = {name: inside for name, (_, inside) in small.items()}
    ranks = {name: ranked(array, inside) for name, (array, inside) in small.items()}
    pairs = correlations(ranks, masks)
    if contents.classes is not None and ranks:
        everywhere = np.ones(contents.classes.shape, dtype=bool)
        ranks[MASK], masks[MASK] = coarse((contents.classes > 0).astype(np.float32), everywhere)
    return CaseFacts(
        case_id=case_id,
        subject=subject,
        geometry=contents.geometry,
        modalities=facts,
        contrasts=_contrasts(contents, scores, insides),
        correlations=pairs,
        mirrorings=mirrorings(ranks, masks),
        volumes_ml=_volumes_ml(contents),
        problems=contents.problems,
    )


def _measure_modality(array: Image, inside: NDArray[np.bool_]) -> tuple[ModalityFacts, Image]:
    """Return facts and z-scores; the latter are 0 outside."""
    values = array[inside]
    if values.size == 0:
        return _flat(float(array.flat[0])), np.zeros_like(array)
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    scores = np.zeros_like(array)
    scores[inside] = (values - mean) / max(deviation, 1e-12)
    low, median, high = (float(v) for v in np.percentile(values, (1, 50, 99)))
    minimum, maximum = float(values.min()), float(values.max())
    clipped = np.clip(scores[inside], *HISTOGRAM_RANGE)
    counts, _ = np.histogram(clipped, HISTOGRAM_BINS, HISTOGRAM_RANGE)
    facts = ModalityFacts(
        minimum, low, median, high, maximum, mean, deviation,
        noise=noise(scores, inside) if deviation > 0 else None,
        inside=values.size / array.size,
        commonest=float(np.unique(values, return_counts=True)[1].max() / values.size),
        at_minimum=float(np.mean(values == minimum)),
        at_maximum=float(np.mean(values == maximum)),
        histogram=tuple(counts.tolist()),
    )  # fmt: skip
    return facts, scores


def _flat(value: float) -> ModalityFacts:
    """Return the facts of an image that has one value everywhere."""
    return ModalityFacts(
        minimum=value, low=value, median=value, high=value, maximum=value, mean=value,
        deviation=0.0, noise=None, inside=0.0, commonest=1.0, at_minimum=1.0, at_maximum=1.0,
        histogram=(0,) * HISTOGRAM_BINS,
    )  # fmt: skip


def noise(array: Image, inside: NDArray[np.bool_]) -> float | None:
    """Return the standard deviation of white noise in an image.

    The second difference along all three axes in turn removes what is smooth along any of them;
    the mean of its absolute value, over voxels whose 26 neighbours are inside, is that of the noise
    times sqrt(6^3) sqrt(2 / pi). After J. Immerkaer, "Fast noise variance estimation", 1996, which
    does so in 2-D.

    Parameters
    ----------
    array : (i, j, k) array
    inside : (i, j, k) array of bool

    Returns
    -------
    float or None
        In units of `array`; None where fewer than 20 voxels have all their neighbours inside.
    """
    if min(array.shape) < 3:
        return None
    rough = array
    for axis in range(3):
        rough = np.diff(rough, n=2, axis=axis)
        ends = [np.take(inside, np.arange(s, inside.shape[axis] - 2 + s), axis) for s in range(3)]
        inside = ends[0] & ends[1] & ends[2]
    if np.count_nonzero(inside) < _FEWEST:
        return None
    mean = float(np.abs(rough[inside]).mean(dtype=np.float64))
    return mean * float(np.sqrt(np.pi / 2 / 6**3))


def _contrasts(
    contents: Contents, scores: Mapping[str, Image], insides: Mapping[str, NDArray[np.bool_]]
) -> dict[tuple[str, str], float]:
    if contents.classes is None:
        return {}
    size, found = len(contents.names) + 1, {}
    for modality, array in scores.items():
        inside = insides[modality]
        classes, values = contents.classes[inside], array[inside]
        counts = np.bincount(classes, minlength=size)
        sums = np.bincount(classes, weights=values, minlength=size)
        if counts[0] < _FEWEST:
            continue
        for index, name in enumerate(contents.names, start=1):
            if counts[index] >= _FEWEST:
                found[name, modality] = float(sums[index] / counts[index] - sums[0] / counts[0])
    return found


def _volumes_ml(contents: Contents) -> dict[str, float] | None:
    if contents.classes is None or contents.geometry is None:
        return None
    counts = np.bincount(contents.classes.ravel(), minlength=len(contents.names) + 1).tolist()
    voxel_ml = contents.geometry.voxel_volume_mm3 / 1000
    return {name: counts[n] * voxel_ml for n, name in enumerate(contents.names, start=1)}
