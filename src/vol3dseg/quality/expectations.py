"""What is expected of a scan, learnt from many, and how far a scan is from it.

Whoever says "this scan is unlike the others" asks here: `inspect` learns expectations from the
cases of a data set, a model carries those of its training cases (`vol3dseg.quality.guard`).
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from itertools import combinations, permutations, product
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from vol3dseg.quality.appearance import AXES, Rounded, rounded
from vol3dseg.quality.features import (
    IDENTIFYING,
    KINDS,
    Check,
    Features,
    Key,
    describe,
    exchanged,
    turned,
)
from vol3dseg.schema import Amount, Frozen, quoted

Matrix = NDArray[np.float64]
Limits = Mapping[Check, float]

FEWEST_CASES = 8  # fewer say nothing of what is typical
_MAD = 1.4826  # makes the median absolute deviation that of a normal distribution
_P90 = 1.6449  # 90 % of a normal distribution lie within this many standard deviations
_FARTHEST = 8.0  # spreads; farther is as bad, and must not drown the rest
_HELD = 3.0  # spreads; correlations between features are learnt from values held within
_AS_GOOD = 0.8  # of the largest gain; a simpler turn is preferred then
# The simplest first: by how many axes change places, then by how many are mirrored.
_ORIENTATIONS: tuple[tuple[tuple[int, ...], tuple[bool, ...]], ...] = tuple(
    sorted(
        product(permutations((0, 1, 2)), product((False, True), repeat=3)),
        key=lambda turn: (sum(a != n for n, a in enumerate(turn[0])), sum(turn[1])),
    )[1:]
)


class Expectation(Frozen):
    """What is expected of one feature; see `centre_and_spread`."""

    key: tuple[str, ...]
    centre: Rounded
    spread: Annotated[Amount, Field(ge=1e-6), AfterValidator(rounded)]

    @model_validator(mode="after")
    def _of_a_feature(self) -> "Expectation":
        try:
            describe(self.key, self.centre, self.centre)
            turned({self.key: self.centre}, (0, 1, 2), (False, False, False))
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(f"{quoted(self.key)} is the key of no feature") from error
        return self


class Exchange(NamedTuple):
    """The two modalities whose exchange brings a scan closest to what is expected."""

    names: tuple[str, str]
    before: float  # distance as they are
    after: float  # distance if exchanged

    @property
    def gain(self) -> float:
        """By how much the squared distance falls: twice a logarithm of likelihoods."""
        return self.before**2 - self.after**2

    def describe(self, others: str) -> str:
        """Say that the two look swapped; `others` are the scans that expectations come from."""
        return (
            f"{' and '.join(self.names)} look swapped: they fit {others} better if exchanged "
            f"(distance {self.before:.1f} as they are, {self.after:.1f} if exchanged); check which "
            "file is which"
        )


class Turn(NamedTuple):
    """The orientation that brings a scan closest to what is expected; see `features.turned`."""

    order: tuple[int, ...]
    mirrored: tuple[bool, ...]
    gain: float  # by how much the squared distance falls; negative if the scan fits best as it is

    def describe(self, others: str) -> str:
        """Say how the scan seems to lie; `others` are the scans that expectations come from."""
        if self.order == (0, 1, 2):
            axes = [name for name, m in zip(AXES, self.mirrored, strict=True) if m]
            how = f"mirrored {' and '.join(axes)}"
        else:
            turns = zip(self.order, self.mirrored, strict=True)
            axes = [("RL", "AP", "SI")[axis][mirrored] for axis, mirrored in turns]
            how = f"rotated: its axes seem to run {', '.join(axes)} where the header says R, A, S"
        return (
            f"the scan looks {how}; that way round it fits {others} better; check the orientation "
            "in its header"
        )


class Expectations(Frozen):
    """What is expected of a scan."""

    features: tuple[Expectation, ...]
    # (n, n), between the features that tell one modality from another, in the order of `features`.
    correlations: tuple[tuple[Rounded, ...], ...]

    @model_validator(mode="after")
    def _invertible(self) -> "Expectations":
        size = len(self._identifying)
        if [*map(len, self.correlations)] != [size] * size:
            raise ValueError(f"correlations are not {size} x {size}, one of each feature")
        if size and np.linalg.eigvalsh(self.correlations).min() <= 0:
            raise ValueError("correlations are none: the matrix is not positive definite")
        return self

    @classmethod
    def learn(cls, cases: Sequence[Features]) -> "Expectations":
        """Learn from scans, most of them good, the features that at least eight of them have.

        The correlation matrix of n features in m cases is that of their values held within three
        spreads, shrunk by 2 n / (2 n + m) towards that of independent features, since there may be
        fewer cases than features.
        """
        counts = Counter(key for case in cases for key in case)
        keys = [key for key, count in counts.items() if count >= FEWEST_CASES]
        values = [case.get(key, np.nan) for case in cases for key in keys]
        table = np.reshape(values, (len(cases), len(keys)))
        centres, spreads = centre_and_spread(table, [KINDS[key[0]].floor for key in keys])
        places = [n for n, key in enumerate(keys) if key[0] in IDENTIFYING]
        deviations = ((table - centres) / spreads)[:, places]
        correlations = _shrunk(np.clip(np.nan_to_num(deviations), -_HELD, _HELD))
        return cls(
            features=tuple(
                Expectation(key=key, centre=centre, spread=spread)
                for key, centre, spread in zip(keys, centres, spreads, strict=True)
            ),
            correlations=tuple(map(tuple, correlations.tolist())),
        )

    @cached_property
    def _expected(self) -> dict[Key, Expectation]:
        return {each.key: each for each in self.features}

    @cached_property
    def _identifying(self) -> tuple[Expectation, ...]:
        return tuple(each for each in self.features if each.key[0] in IDENTIFYING)

    @cached_property
    def _whitening(self) -> Matrix:
        size = len(self._identifying)
        values, vectors = np.linalg.eigh(np.reshape(self.correlations, (size, size)))
        return np.asarray(vectors / np.sqrt(values))

    def lacking(self, features: Features, modalities: Collection[str]) -> tuple[str, ...]:
        """Return the modalities for whose sake most is missing of what a scan is compared by.

        The scan has `modalities`; what tells of others is not asked for.
        """
        of = {
            each.key: each.key[1 : 1 + KINDS[each.key[0]].modalities]
            for each in self.features
            if each.key not in features
        }
        named = Counter(n for names in of.values() if {*names} <= {*modalities} for n in names)
        return tuple(sorted(name for name, n in named.items() if n == max(named.values())))

    def deviations(self, features: Features) -> dict[Key, float]:
        """Return how far each feature is from its centre [spreads], with a sign."""
        known = ((self._expected[key], v) for key, v in features.items() if key in self._expected)
        return {each.key: (value - each.centre) / each.spread for each, value in known}

    def distance(self, features: Features) -> float:
        """Return the Mahalanobis distance over all that tells one modality from another.

        A feature that the scan lacks counts as expected.
        """
        return float(np.linalg.norm(_held(features, self._identifying) @ self._whitening))

    def unusual(self, features: Features, limits: Limits) -> dict[Key, float]:
        """Return what is farther out than the limit of its check, the farthest first.

        Of several features of the same modalities, class or axis that one check judges, it is the
        farthest.
        """
        found: dict[tuple[str, ...], tuple[Key, float]] = {}
        for key, deviation in sorted(self.deviations(features).items(), key=lambda e: -abs(e[1])):
            check = KINDS[key[0]].check
            if check != "turned" and abs(deviation) > limits.get(check, np.inf):
                found.setdefault((check, *key[1:]), (key, deviation))
        return dict(found.values())

    def describe(self, key: Key, features: Features) -> str:
        """Say how a feature differs from what is expected."""
        return describe(key, features[key], self._expected[key].centre)

    def best_exchange(self, features: Features) -> Exchange | None:
        """Return the exchange of two modalities that fits best; None where there are no two."""
        # Only of modalities that this scan can compare: what it lacks counts as expected, and
        # would make any exchange look good.
        names = sorted({n for key in features if key[0] == "correlation" for n in key[1:]})
        before = self.distance(features)
        pairs = combinations(names, 2)
        tried = (Exchange(p, before, self.distance(exchanged(features, *p))) for p in pairs)
        return min(tried, key=lambda each: each.after, default=None)

    def swap(self, features: Features, limits: Limits) -> Exchange | None:
        """Return the two modalities that look swapped: whose exchange makes the scan fit."""
        best = self.best_exchange(features)
        if best is None or best.gain <= limits["swapped"] or best.after > limits["together"]:
            return None
        return best

    def best_turn(self, features: Features) -> Turn:
        """Return the orientation that fits best, other than that of the scan."""
        profiles = [each for each in self.features if each.key[0] == "profile"]
        before = float(np.square(_held(features, profiles)).sum())
        turns = [
            Turn(*turn, before - float(np.square(_held(turned(features, *turn), profiles)).sum()))
            for turn in _ORIENTATIONS
        ]
        best = max(each.gain for each in turns)
        # The first of those that gain about as much: what is symmetrical is not mirrored twice.
        return next(each for each in turns if each.gain >= min(_AS_GOOD * best, best))


def centre_and_spread(table: Matrix, floors: Sequence[float] | float) -> tuple[Matrix, Matrix]:
    """Return median and robust standard deviation of each column, without its NaN.

    The spread is the larger of the median absolute deviation and of what holds 90 % of the cases,
    each scaled to a normal distribution: the second respects that some features have long tails,
    and both let one case in ten be wrong. It is no smaller than the floor of the column.
    """
    if table.size == 0:
        return np.zeros(table.shape[1]), np.ones(table.shape[1])
    centre = np.nanmedian(table, axis=0)
    apart = np.abs(table - centre)
    # Of few cases an interpolated percentile would be drawn towards the one that is far out.
    most = np.nanpercentile(apart, 90, axis=0, method="lower")
    spread = np.maximum(_MAD * np.nanmedian(apart, axis=0), most / _P90)
    return centre, np.maximum(spread, floors)


def _held(features: Features, expected: Sequence[Expectation]) -> Matrix:
    """Return deviations held within eight spreads; 0 for what the scan lacks."""
    apart = ((features.get(e.key, e.centre) - e.centre) / e.spread for e in expected)
    return np.clip(np.fromiter(apart, np.float64, len(expected)), -_FARTHEST, _FARTHEST)


def _shrunk(deviations: Matrix) -> Matrix:
    cases, count = deviations.shape
    products: Any = deviations.T @ deviations
    lengths = np.sqrt(np.maximum(np.diag(products), 1e-12))
    matrix: Matrix = cases / max(2 * count + cases, 1) * products / np.outer(lengths, lengths)
    np.fill_diagonal(matrix, 1.0)
    return matrix
