"""Many numbers per case, most cases good: what is usual, and how far out a case is, robustly."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = tuple[str, ...]  # kind of number, then the names it is about
Matrix = NDArray[np.float64]

FEWEST_CASES = 8  # fewer say nothing of what is usual
_MAD = 1.4826  # makes the median absolute deviation that of a normal distribution
_P90 = 1.6449  # 90 % of a normal distribution lie within this many standard deviations
_FARTHEST = 8.0  # spreads; farther is as bad, and must not drown the rest
_USUAL = 3.0  # spreads; correlations of facts are learnt from cases held within


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual in a set of cases.

    Parameters
    ----------
    keys : (n,) tuple of Key
    location : (n,) array
        Medians.
    spread : (n,) array
        Robust standard deviations.
    """

    keys: tuple[Key, ...]
    location: Matrix
    spread: Matrix

    def only(self, *kinds: str) -> "Usual":
        """Return what is usual of these kinds of numbers."""
        places = [n for n, key in enumerate(self.keys) if key[0] in kinds]
        keys = tuple(self.keys[n] for n in places)
        return Usual(keys, self.location[places], self.spread[places])

    def far_out(self, numbers: Mapping[Key, float]) -> Matrix:
        """Return (n,) signed distances from the median [spreads]; NaN where there is no number."""
        values = np.array([numbers.get(key, np.nan) for key in self.keys])
        return np.asarray((values - self.location) / self.spread)

    def far_out_of(self, place: int, value: float) -> float:
        """Return the signed distance of one value from the median of `keys[place]` [spreads]."""
        return float((value - self.location[place]) / self.spread[place])


def usual(cases: Sequence[Mapping[Key, float]], floors: Mapping[str, float]) -> Usual:
    """Return what is usual, of the numbers that at least eight cases have.

    The spread is the larger of the median absolute deviation and of what holds 90 % of the cases,
    each scaled to a normal distribution: the second respects that some numbers have long tails, and
    both let one case in ten be wrong.

    Parameters
    ----------
    cases : sequence of mapping from Key to float
    floors : mapping from kind of number to float
        Smallest spread that counts: closer together than this is the same.
    """
    counts: dict[Key, int] = {}
    for case in cases:
        for key in case:
            counts[key] = counts.get(key, 0) + 1
    keys = tuple(key for key, count in counts.items() if count >= FEWEST_CASES)
    table = table_of(cases, keys)
    location = np.nanmedian(table, axis=0) if keys else np.zeros(0)
    apart = np.abs(table - location)
    spread = np.array([floors[key[0]] for key in keys])
    if keys:
        middle = np.nanmedian(apart, axis=0)
        # Of few cases an interpolated percentile would be drawn towards the one that is far out.
        most = np.nanpercentile(apart, 90, axis=0, method="lower")
        spread = np.maximum(spread, np.maximum(_MAD * middle, most / _P90))
    return Usual(keys, location, spread)


def table_of(cases: Iterable[Mapping[Key, float]], keys: Sequence[Key]) -> Matrix:
    """Return the (cases, keys) numbers; NaN where a case has none."""
    rows = [[case.get(key, np.nan) for key in keys] for case in cases]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(keys))


@dataclass(frozen=True, slots=True)
class Joint:
    """How numbers go together: the squared Mahalanobis distance of a case from the usual one.

    Parameters
    ----------
    usual : Usual
    whitening : (n, n) array
    """

    usual: Usual
    whitening: Matrix

    @classmethod
    def of(cls, known: Usual, correlations: Matrix) -> "Joint":
        """Make one of what is usual and the (n, n) correlations between the numbers."""
        values, vectors = np.linalg.eigh(correlations)
        return cls(known, vectors / np.sqrt(values))

    def distance(self, numbers: Mapping[Key, float]) -> float:
        """Return the squared distance; numbers that a case lacks count as usual."""
        whole = np.nan_to_num(np.clip(self.usual.far_out(numbers), -_FARTHEST, _FARTHEST))
        white = whole @ self.whitening
        return float(white @ white)


def correlations_between(
    cases: Sequence[Mapping[Key, float]], known: Usual, shrinkage: float
) -> Matrix:
    """Return the (n, n) correlations between the numbers of `known`.

    They are taken of values held within three spreads, and shrunk towards those of independent
    numbers, since there may be fewer cases than numbers.

    Parameters
    ----------
    cases : sequence of mapping from Key to float
    known : Usual
        Of these cases.
    shrinkage : float
        0 shrinks nothing, 1 leaves no correlation.
    """
    rows = np.array([known.far_out(case) for case in cases]).reshape(len(cases), len(known.keys))
    held = np.clip(np.nan_to_num(rows), -_USUAL, _USUAL)
    products: Any = held.T @ held
    lengths = np.sqrt(np.maximum(np.diag(products), 1e-12))
    matrix: Matrix = (1 - shrinkage) * products / np.outer(lengths, lengths)
    np.fill_diagonal(matrix, 1.0)
    return matrix
