"""What is expected of a scan, and how far one is from it: the numbers behind a guard's words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import Literal

import numpy as np

from vol3dseg.quality.appearance import AXES, Appearance
from vol3dseg.quality.statistics import Joint, Key, Matrix, Usual, correlations_between, usual

Check = Literal[
    "swapped", "turned", "intensities", "background", "texture", "grid", "together"
]  # fmt: skip
Order = tuple[int, ...]
Flips = tuple[bool, ...]

# Smallest spread that counts, for each kind of number.
FLOORS = {
    "correlation": 0.05,  # after Fisher's transformation
    "slopes": 0.05,
    "shape": 0.03,  # shares of the range of intensities
    "roughness": 0.1,  # of logarithms
    "scale": 0.2,
    "level": 0.05,
    "inside": 0.03,
    "spacing": 0.01,
    "size": 0.05,
    "profile": 0.03,
}
TOGETHER = ("correlation", "slopes", "shape", "roughness")  # kinds that tell modalities apart
CHECK_OF: dict[str, Check] = {
    "scale": "intensities",
    "level": "intensities",
    "inside": "background",
    "roughness": "texture",
    "spacing": "grid",
    "size": "grid",
}
_SURE = 0.995  # largest correlation; Fisher's transformation of 1 is infinite
_AS_GOOD = 0.8  # of the largest gain; a simpler turn is preferred then
# The simplest first: in order of how many axes change places, then of how many are mirrored.
_ORIENTATIONS: tuple[tuple[Order, Flips], ...] = tuple(
    sorted(
        product(permutations((0, 1, 2)), product((False, True), repeat=3)),
        key=lambda turn: (sum(a != n for n, a in enumerate(turn[0])), sum(turn[1])),
    )[1:]
)


def numbers_of(appearance: Appearance) -> dict[Key, float]:
    """Return the numbers of a scan that are compared, on scales where spread is even."""
    found: dict[Key, float] = {}
    for pair in appearance.pairs:
        for kind, value in (("correlation", pair.values), ("slopes", pair.slopes)):
            if value is not None:
                found[kind, *pair.names] = float(np.arctanh(np.clip(value, -_SURE, _SURE)))
    for name, look in appearance.looks.items():
        found["inside", name] = look.inside
        if look.roughness > 0:
            found["roughness", name] = float(np.log(look.roughness))
        first, low, quarter, median, three_quarters, high, last = look.quantiles
        if last > first:
            found["scale", name] = float(np.log(last - first))
            found["level", name] = median / (last - first)
            found["shape", name, "median"] = (median - first) / (last - first)
        if high > low:
            found["shape", name, "lower quartile"] = (quarter - low) / (high - low)
            found["shape", name, "upper quartile"] = (three_quarters - low) / (high - low)
    for axis, spacing_mm, size_mm in zip(
        AXES, appearance.spacing_mm, appearance.size_mm, strict=True
    ):
        found["spacing", axis] = float(np.log(spacing_mm))
        found["size", axis] = float(np.log(size_mm))
    return found | profile_numbers(appearance)


def profile_numbers(appearance: Appearance) -> dict[Key, float]:
    """Return the numbers that depend on which way the axes run."""
    return {
        ("profile", name, axis, str(place)): value
        for name, look in appearance.looks.items()
        for axis, profile in zip(AXES, look.profiles, strict=True)
        for place, value in enumerate(profile)
    }


@dataclass(frozen=True, slots=True)
class Exchange:
    """The two modalities whose exchange brings a scan closest to what is expected.

    Parameters
    ----------
    names : (2,) tuple of str
    before, after : float
        Squared distance as they are, and exchanged.
    """

    names: tuple[str, str]
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Turn:
    """The orientation that brings a scan closest to what is expected; see `Appearance.turned`.

    Parameters
    ----------
    order, mirrored : tuple
        The simplest of those that gain nearly most.
    gain : float
        By how much the squared distance falls; negative where the scan fits best as it is.
    """

    order: Order
    mirrored: Flips
    gain: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a scan is from what is expected.

    Parameters
    ----------
    numbers : mapping from Key to float
    apart : mapping from Key to float
        Signed distance of each number from the usual one [spreads].
    together : float
        Distance of all that tells modalities apart, taken together.
    exchange : Exchange or None
        None where there is one modality.
    turn : Turn
    """

    numbers: Mapping[Key, float]
    apart: Mapping[Key, float]
    together: float
    exchange: Exchange | None
    turn: Turn

    def scores(self) -> dict[Check, float]:
        """Return one figure for each check: the larger, the less expected."""
        found: dict[Check, float] = {"turned": self.turn.gain, "together": self.together}
        if self.exchange is not None:
            found["swapped"] = self.exchange.before - self.exchange.after
        for key, distance in self.apart.items():
            if key[0] in CHECK_OF:
                check = CHECK_OF[key[0]]
                found[check] = max(found.get(check, 0.0), abs(distance))
        return found


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of a scan.

    Parameters
    ----------
    usual : Usual
        Of all numbers.
    together : Joint
        Of what tells modalities apart.
    profiles : Joint
        Of what tells which way the axes run, each by itself.
    correlations : (n, n) array
        Between the numbers of `together`.
    """

    usual: Usual
    together: Joint
    profiles: Joint
    correlations: Matrix

    @classmethod
    def of(cls, known: Usual, correlations: Matrix, kinds: Sequence[str] = TOGETHER) -> "Expected":
        """Make it of what is usual and the correlations between what tells modalities apart.

        Parameters
        ----------
        known : Usual
        correlations : (n, n) array
        kinds : sequence of str
            The kinds of numbers that they are of.
        """
        profiles = known.only("profile")
        return cls(
            known,
            Joint.of(known.only(*kinds), correlations),
            Joint.of(profiles, np.eye(len(profiles.keys))),
            correlations,
        )

    @classmethod
    def learnt(
        cls, appearances: Sequence[Appearance], kinds: Sequence[str] = TOGETHER
    ) -> "Expected":
        """Learn it from scans.

        The correlation matrix of n numbers from m scans is shrunk by n / (n + m) towards that of
        independent numbers.

        Parameters
        ----------
        appearances : sequence of Appearance
            At least eight.
        kinds : sequence of str
            Which numbers shall tell modalities apart.
        """
        cases = [numbers_of(each) for each in appearances]
        known = usual(cases, FLOORS)
        part = known.only(*kinds)
        shrinkage = len(part.keys) / (len(part.keys) + len(cases))
        return cls.of(known, correlations_between(cases, part, shrinkage), kinds)

    def compare(self, appearance: Appearance) -> Comparison:
        """Return how far a scan is from what is expected."""
        numbers = numbers_of(appearance)
        apart = zip(self.usual.keys, self.usual.far_out(numbers).tolist(), strict=True)
        together = self.together.distance(numbers)
        return Comparison(
            numbers=numbers,
            apart={key: value for key, value in apart if key in numbers},
            together=float(np.sqrt(together)),
            exchange=self._exchange(appearance, together),
            turn=self._turn(appearance),
        )

    def _exchange(self, appearance: Appearance, before: float) -> Exchange | None:
        tried = (
            Exchange(pair, before, self.together.distance(numbers_of(appearance.exchanged(*pair))))
            for pair in combinations(sorted(appearance.looks), 2)
        )
        return min(tried, key=lambda each: each.after, default=None)

    def _turn(self, appearance: Appearance) -> Turn:
        before = self.profiles.distance(profile_numbers(appearance))
        turns = list(self._turns(appearance, before))
        best = max(each.gain for each in turns)
        # The first of those that gain about as much: whoever is symmetrical is not mirrored twice.
        return next(each for each in turns if each.gain >= min(_AS_GOOD * best, best))

    def _turns(self, appearance: Appearance, before: float) -> Iterator[Turn]:
        for order, mirrored in _ORIENTATIONS:
            there = profile_numbers(appearance.turned(order, mirrored))
            yield Turn(order, mirrored, before - self.profiles.distance(there))
