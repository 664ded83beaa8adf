"""Which voxels of an image are no background, and how alike two images are by rank."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Inside = NDArray[np.bool_]

_BACKGROUND_SHARE = 0.1  # of all voxels that have the smallest value: it is no tissue then
_FEWEST = 100  # voxels that a correlation is taken over


def inside_of(array: Array) -> Inside:
    """Return the voxels that are not background: 0, or a floor that more and many voxels share."""
    lowest = array.min()
    floor = np.count_nonzero(array == lowest)
    if floor >= _BACKGROUND_SHARE * array.size and floor > np.count_nonzero(array == 0):
        return np.asarray(array != lowest)
    return np.asarray(array != 0)


def ranked(array: Array, inside: Inside) -> Array:
    """Return ranks of the inside voxels from -0.5 to 0.5, equals in their middle; 0 outside."""
    _, places, counts = np.unique(array[inside], return_inverse=True, return_counts=True)
    last = max(places.size - 1, 0)
    middles = np.cumsum(counts) - (counts + 1) / 2  # of 0 to `last`
    result = np.zeros(array.shape, dtype=np.float32)
    result[inside] = ((middles - last / 2) / max(last, 1))[places]
    return result


def correlations(
    ranks: Mapping[str, Array], insides: Mapping[str, Inside]
) -> dict[tuple[str, str], float]:
    """Return the correlation of each pair of `ranked` images over voxels inside in both.

    That is Spearman's, where the two have the same inside.
    """
    found = {}
    for first, second in combinations(ranks, 2):
        both = insides[first] & insides[second]
        pair = [ranks[name][both] for name in (first, second)]
        if pair[0].size >= _FEWEST and min(np.ptp(pair[0]), np.ptp(pair[1])) > 0:
            found[first, second] = float(np.corrcoef(pair[0], pair[1])[0, 1])
    return found
