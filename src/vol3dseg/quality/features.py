"""The numbers that scans are compared by: how they are made, how far they vary, how they are named.

A feature has a key: its kind, then the modalities, the class or the axis that it is of. `KINDS`
says everything about a kind but its formula, which is below.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from vol3dseg.quality.appearance import AXES, Appearance, ModalityAppearance
from vol3dseg.quality.case_facts import CaseFacts
from vol3dseg.quality.contents import MASK

Key = tuple[str, ...]
Features = Mapping[Key, float]
Check = Literal[
    "swapped", "turned", "together", "intensities", "background", "texture", "grid",
    "noise", "similarity", "shape", "contrast", "volume",
]  # fmt: skip


class Kind(NamedTuple):
    """One kind of feature."""

    floor: float  # of the spread: scans that are closer together than this are the same
    check: Check  # that judges it by itself; "turned" judges all profiles at once
    text: str = ""  # of a scan that is far out; {0} and {1} are the names in the key
    sides: tuple[str, str] = ("low", "high")  # {side}, where it is below and above the others
    form: str = "{:.2f}"  # of {value}, and of what is typical
    natural: Callable[[float], float] = float  # from the scale of the feature to that of the text
    causes: tuple[str, str] = ("", "")  # what may have happened to a scan below and above
    modalities: int = 1  # how many of the names in the key, from the first, are modalities
    identifies: bool = False  # tells one modality from another, whatever the units


_CORRELATED = Kind(
    0.05, "similarity", "{0} and {1} are unusually {side}: their intensities correlate at {value}",
    ("dissimilar", "similar"), natural=np.tanh, modalities=2, identifies=True,
)  # fmt: skip
_PLACED = "the {} of {{0}} lies unusually {{side}} in its range: at {{value}}"
_UNITS = ("are the units right?", "are the units right?")
KINDS = {
    "correlation": _CORRELATED,
    "edge correlation": _CORRELATED._replace(text=_CORRELATED.text.replace("intensities", "edges")),
    "median": Kind(0.03, "shape", _PLACED.format("median"), identifies=True),
    "lower quartile": Kind(0.03, "shape", _PLACED.format("lower quartile"), identifies=True),
    "upper quartile": Kind(0.03, "shape", _PLACED.format("upper quartile"), identifies=True),
    "roughness": Kind(
        0.1, "texture",
        "{0} is unusually {side}: neighbouring voxels differ by {value} standard deviations",
        ("smooth", "rough"), natural=np.exp,
        causes=("was it resampled or smoothed?", "is it noisy?"), identifies=True,
    ),
    "contrast": Kind(
        0.1, "contrast",
        "{1} is unusually {side} in {0}: {value} standard deviations from the other tissue",
        ("dark", "bright"), "{:+.1f}", identifies=True,
    ),
    "noise": Kind(
        0.01, "noise", "{0} is unusually {side}: noise is {value} of its standard deviation",
        ("free of noise", "noisy"), "{:.3f}",
    ),
    "scale": Kind(
        0.2, "intensities",
        "{0} has an unusually {side} range of intensities: {value} from percentile 1 to 99",
        ("narrow", "wide"), "{:.4g}", np.exp, causes=_UNITS,
    ),
    "level": Kind(
        0.05, "intensities",
        "{0} has unusually {side} intensities: the median is {value} times their range",
        causes=_UNITS,
    ),
    "inside": Kind(
        0.03, "background", "unusually {side} of {0} is not background: {value}",
        ("little", "much"), "{:.0%}",
        causes=("was too much masked?", "was skull-stripping or masking left out?"),
    ),
    "profile": Kind(0.03, "turned"),
    "spacing": Kind(
        0.01, "grid", "the {0} voxel spacing is unusually {side}: {value}",
        ("fine", "coarse"), "{:.3g} mm", np.exp, modalities=0,
    ),
    "size": Kind(
        0.05, "grid", "the {0} field of view is unusually {side}: {value}",
        ("small", "large"), "{:.4g} mm", np.exp, modalities=0,
    ),
    "volume": Kind(
        0.2, "volume", "{0} is unusually {side}: {value}",
        ("small", "large"), "{:.4g} ml", np.exp, modalities=0,
    ),
}  # fmt: skip
IDENTIFYING = tuple(name for name, kind in KINDS.items() if kind.identifies)
_SURE = 0.995  # largest correlation; Fisher's transformation of 1 is infinite


def features_of(appearance: Appearance) -> dict[Key, float]:
    """Return the features of a scan, on scales where their spread is even."""
    found: dict[Key, float] = {}
    for pair in appearance.pairs:
        both = {"correlation": pair.correlation, "edge correlation": pair.edge_correlation}
        for kind, value in both.items():
            if value is not None:
                found[kind, *pair.names] = float(np.arctanh(np.clip(value, -_SURE, _SURE)))
    for name, modality in appearance.modalities.items():
        found |= {(kind, name): value for kind, value in _of_modality(modality)}
        for axis, profile in zip(AXES, modality.profiles, strict=True):
            found |= {("profile", name, axis, str(n)): value for n, value in enumerate(profile)}
    for kind, lengths_mm in (("spacing", appearance.spacing_mm), ("size", appearance.size_mm)):
        logarithms = np.log(lengths_mm).tolist()
        found |= {(kind, axis): v for axis, v in zip(AXES, logarithms, strict=True)}
    return found


def _of_modality(modality: ModalityAppearance) -> Iterator[tuple[str, float]]:
    first, low, lower, median, upper, high, last = modality.quantiles
    yield "inside", modality.inside
    if modality.roughness > 0:
        yield "roughness", float(np.log(modality.roughness))
    if last > first:
        yield "scale", float(np.log(last - first))
        yield "level", median / (last - first)
        yield "median", (median - first) / (last - first)
    if high > low:
        yield "lower quartile", (lower - low) / (high - low)
        yield "upper quartile", (upper - low) / (high - low)


def features_of_case(case: CaseFacts) -> dict[Key, float]:
    """Return the features of a scan and its mask."""
    found = features_of(case.appearance) if case.appearance else {}
    found |= {("noise", n): m.noise for n, m in case.modalities.items() if m.noise}
    found |= {("contrast", m, label): value for (label, m), value in case.contrasts.items()}
    volumes = {**(case.volumes_ml or {}), MASK: case.foreground_ml or 0.0}
    return found | {("volume", name): float(np.log(ml)) for name, ml in volumes.items() if ml > 0}


def exchanged(features: Features, first: str, second: str) -> dict[Key, float]:
    """Return the features that a scan would have if these modalities had each other's name."""
    other, found = {first: second, second: first}, {}
    for key, value in features.items():
        last = 1 + KINDS[key[0]].modalities
        names = sorted(other.get(name, name) for name in key[1:last])
        found[key[0], *names, *key[last:]] = value
    return found


def turned(
    features: Features, order: tuple[int, ...], mirrored: tuple[bool, ...]
) -> dict[Key, float]:
    """Return the profiles that a scan would have if its axes had been understood otherwise.

    The axis `order[n]` of now would be the n-th of right, front, up; the other way round where
    `mirrored[n]`.
    """
    found: dict[Key, float] = {}
    places = {AXES[axis]: n for n, axis in enumerate(order)}
    profiles = [key for key in features if key[0] == "profile"]
    last = max((int(key[3]) for key in profiles), default=0)
    for key in profiles:
        target = places[key[2]]
        place = str(last - int(key[3])) if mirrored[target] else key[3]
        found["profile", key[1], AXES[target], place] = features[key]
    return found


def describe(key: Key, value: float, median: float) -> str:
    """Say how a feature of a scan differs from the median of the others."""
    kind, high = KINDS[key[0]], value > median
    found, typical = (kind.form.format(kind.natural(number)) for number in (value, median))
    text = kind.text.format(*key[1:], side=kind.sides[high], value=found)
    return "; ".join(filter(None, (f"{text}, typically {typical}", kind.causes[high])))
