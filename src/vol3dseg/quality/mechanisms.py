"""What can have happened to a case: an image mirrored, noisy, or exchanged for another.

One of these explains several numbers that are unusual, so it is one reason in place of many.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vol3dseg.quality.facts import MASK, CaseFacts, Mirroring
from vol3dseg.quality.statistics import Joint, Key, Usual
from vol3dseg.quality.suspect_words import in_words

# Distance from the median at which a number counts as far out [spreads].
LIMITS = {
    "noise": 5.0,
    "contrast": 4.5,
    "correlation": 4.5,
    "scale": 5.0,
    "skew": 4.5,
    "volume": 3.5,
    "spacing": 4.0,
    "size": 4.0,
}
_MIRROR_GAIN = 0.02  # nat per voxel
_SWAP_GAIN = 10.0  # of squared distances, hence twice a logarithm of likelihoods
_SWAP_SHARE = 0.25  # of the squared distance, which must go


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is wrong with a case, or unusual.

    Parameters
    ----------
    kind : str
        "files", "empty mask", "flat", "clipped", "mirrored", "swapped", "orientation",
        "missing class", or the kind of a number of `outliers.features`.
    text : str
    score : float
        1 at the limit from which on it counts.
    """

    kind: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Something that can have happened to a case, which explains what is unusual of `names`."""

    names: frozenset[str]
    reason: Reason


def mirrored(case: CaseFacts) -> Mechanism | None:
    """Return what looks mirrored; the one image that explains most."""
    best = max(case.mirrorings, key=lambda m: m.gain, default=None)
    if best is None or best.gain < _MIRROR_GAIN:
        return None
    names = [m.name for m in case.mirrorings]
    pair = len(names) == 2  # then nobody can tell which of the two it is
    what = " or ".join(names) if pair else best.name
    reason = Reason("mirrored", _mirror_text(what, best, case), best.gain / _MIRROR_GAIN)
    return Mechanism(frozenset(names if pair else (best.name,)), reason)


def _mirror_text(what: str, found: Mirroring, case: CaseFacts) -> str:
    ends = {"L": "left-right", "R": "left-right", "A": "front-back", "P": "front-back"}
    code = case.geometry.axis_codes[found.axis] if case.geometry else "?"
    others = "the images" if found.name == MASK else "the other modalities"
    return (
        f"{what} looks mirrored along {'ijk'[found.axis]} ({ends.get(code, 'up-down')}): "
        f"correlation with {others} is {found.before:.2f}, {found.after:.2f} after mirroring"
    )


def swappable(numbers: Mapping[Key, float]) -> dict[Key, float]:
    """Return the numbers that tell one modality from another."""
    return {key: v for key, v in numbers.items() if key[0] in ("contrast", "correlation")}


def swapped(own: Mapping[Key, float], known: Joint) -> Mechanism | None:
    """Return the two modalities whose exchange makes the case usual."""
    keys, numbers = known.usual.keys, swappable(own)
    # Not of all cases: what this one lacks counts as usual, and would make any exchange look good.
    names = sorted(
        {n for key in keys if key in numbers and key[0] == "correlation" for n in key[1:]}
    )
    here = known.distance(numbers)
    there = {
        pair: known.distance(_exchanged(numbers, *pair, keys)) for pair in combinations(names, 2)
    }
    best = min(there, key=lambda pair: there[pair], default=None)
    if best is None or here - there[best] < max(_SWAP_GAIN, _SWAP_SHARE * here):
        return None
    text = (
        f"{best[0]} and {best[1]} look swapped: contrasts and correlations are {np.sqrt(here):.1f} "
        f"spreads from the usual as they are, {np.sqrt(there[best]):.1f} if exchanged"
    )
    return Mechanism(frozenset(best), Reason("swapped", text, (here - there[best]) / _SWAP_GAIN))


def noisy(
    own: Mapping[Key, float], known: Usual, exchange: Mechanism | None
) -> Iterator[Mechanism]:
    """Give modalities that are noisier than usual, even if the two that look swapped are."""
    names = sorted(exchange.names) if exchange else []
    partner = dict(zip(names, reversed(names), strict=True))
    places = {key: n for n, key in enumerate(known.keys) if key[0] == "noise"}
    for key, place in places.items():
        value, limit = own.get(key, 0.0), LIMITS["noise"]
        as_swapped = places.get(("noise", partner.get(key[1], key[1])), place)
        score = min(known.far_out_of(n, value) for n in (place, as_swapped)) / limit
        if score > 1:
            median = float(known.location[place])
            yield Mechanism(
                frozenset({key[1]}), Reason("noise", in_words(key, value, median), score)
            )


def _exchanged(
    numbers: Mapping[Key, float], first: str, second: str, keys: Sequence[Key]
) -> dict[Key, float]:
    other = {first: second, second: first}
    found = {}
    for key in keys:
        kind, *names = key
        turned = [other.get(n, n) for n in names]
        if kind == "contrast":
            turned[0] = names[0]  # a class, whatever it is called
        source = (kind, *turned)
        if source not in numbers and kind == "correlation":
            source = (kind, *reversed(turned))
        if source in numbers:
            found[key] = numbers[source]
    return found
