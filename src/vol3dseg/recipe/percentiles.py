"""Percentiles as `numpy.percentile` gives them, without sorting all values, and in a graph."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vol3dseg.recipe.graph_values import Value

# Gives all values, in groups.
_Groups = Callable[[], Iterable[NDArray[np.float32]]]

_BITS = np.uint32(16)  # of a float32 that are counted in each pass
_BINS = 2**16
_SIGN = np.uint32(2**31)


def percentiles(groups: _Groups, percents: Sequence[float]) -> NDArray[np.float64]:
    """Return (n,) percentiles as `numpy.percentile` does, to the last bit, without an array of all.

    Values are counted by the upper half of their bits, then those in the bins that matter by the
    lower half: a radix selection in two passes. So `groups` is called twice; it gives all values,
    in groups, without NaN. Without values the percentiles are 0.
    """
    upper = sum((_counts(keys >> _BITS) for keys in _keys(groups())), np.zeros(_BINS, np.intp))
    count = int(upper.sum())
    if count == 0:
        return np.zeros(len(percents))
    places = np.array(percents, dtype=np.float64) / np.float32(100) * (count - 1)
    below = np.floor(places).astype(np.intp)
    ranks = np.stack([below, np.minimum(below + 1, count - 1)])
    low, high = _at(ranks, upper, groups)
    share, apart = places - below, high - low
    found: NDArray[np.float64] = np.where(
        share < 0.5, low + apart * share, high - apart * (1 - share)
    )
    return found


def _at(ranks: NDArray[np.intp], upper: NDArray[np.intp], groups: _Groups) -> NDArray[np.float32]:
    """Return the values that would stand at `ranks` if all were sorted."""
    ends = np.cumsum(upper)
    bins = np.searchsorted(ends, ranks, side="right")
    lower = {int(b): np.zeros(_BINS, np.intp) for b in np.unique(bins)}
    for keys in _keys(groups()):
        theirs = keys >> _BITS
        for wanted, counts in lower.items():
            counts += _counts(keys[theirs == wanted] & np.uint32(_BINS - 1))
    keys = np.empty(ranks.shape, dtype=np.uint32)
    for place, number in np.ndenumerate(bins):
        rank = ranks[place] - (ends[number] - upper[number])
        rest = np.searchsorted(np.cumsum(lower[int(number)]), rank, side="right")
        keys[place] = int(number) * _BINS + int(rest)
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float32)


def _keys(groups: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint32]]:
    """Give whole numbers in the order of the values: bits of floats rise with their size."""
    for values in groups:
        sign = (values.view(np.int32) >> 31).view(np.uint32)  # all bits set where negative
        yield values.view(np.uint32) ^ (sign | _SIGN)


def _counts(halves: NDArray[np.uint32]) -> NDArray[np.intp]:
    return np.bincount(halves, minlength=_BINS)


def write_percentile(values: "Value", percent: float) -> "Value":
    """Append what `numpy.percentile` does to a graph: linear between neighbours in order.

    The neighbours are found among the smallest or the largest values, whichever are fewer. From
    (n,) float32, n at least 1, to (1,) float64.
    """
    last = values.shape() - 1
    place = last.to(np.float64) * (percent / 100)
    floor = place.then("Floor")
    below = floor.to(np.int64)
    above = (below + 1).at_most(last)
    from_top = percent > 50
    if from_top:
        below, above = last - below, last - above
    wanted = below.at_least(above) + 1
    ordered = values.then("TopK", wanted, outputs=2, largest=int(from_top))
    low, high = ordered.then("Gather", below), ordered.then("Gather", above)
    # numpy subtracts in float32, and from the nearer of the two.
    apart, weight = (high - low).to(np.float64), place - floor
    from_low = low.to(np.float64) + apart * weight
    from_high = high.to(np.float64) - apart * (1 - weight)
    return weight.then("Less", 0.5, dtype=np.bool_).where(from_low, from_high)
