"""The numbers of a case that are compared with those of the other cases of its set."""

from collections.abc import Mapping, Sequence

import numpy as np

from vol3dseg.quality.facts import CaseFacts
from vol3dseg.quality.statistics import Joint, Key, correlations_between, usual

ALL_CLASSES = "all classes"
# Smallest spread that counts, for each kind: closer together than this is the same.
FLOORS = {
    "noise": 0.01,
    "contrast": 0.1,
    "correlation": 0.05,
    "scale": 0.2,  # of logarithms, so a fifth
    "skew": 0.03,
    "volume": 0.2,
    "spacing": 0.01,
    "size": 0.05,
}
_SHRINKAGE = 0.7  # of the correlation matrix towards independence: many facts, few cases


def features(facts: CaseFacts) -> dict[Key, float]:
    """Return the numbers of a case that are compared, on scales where spread is even."""
    found: dict[Key, float] = {}
    for name, modality in facts.modalities.items():
        if modality.noise:
            found["noise", name] = modality.noise
        if modality.high > modality.low:
            span = modality.high - modality.low
            found["scale", name] = float(np.log(span))
            found["skew", name] = (modality.median - modality.low) / span
    for pair, value in facts.contrasts.items():
        found["contrast", *pair] = value
    for pair, value in facts.correlations.items():
        found["correlation", *pair] = float(np.arctanh(np.clip(value, -0.999, 0.999)))
    volumes = dict(facts.volumes_ml or {})
    volumes[ALL_CLASSES] = facts.foreground_ml or 0.0
    found |= {("volume", name): float(np.log(ml)) for name, ml in volumes.items() if ml > 0}
    if facts.geometry is not None:
        places = zip("ijk", facts.geometry.spacing_mm, facts.geometry.shape, strict=True)
        for axis, spacing_mm, voxels in places:
            found["spacing", axis] = float(np.log(spacing_mm))
            found["size", axis] = float(np.log(spacing_mm * voxels))
    return found


def joint(cases: Sequence[Mapping[Key, float]]) -> Joint:
    """Return how the numbers of the cases go together."""
    known = usual(cases, FLOORS)
    return Joint.of(known, correlations_between(cases, known, _SHRINKAGE))
