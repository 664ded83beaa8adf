"""How similar the images of a scan are.

Contrast differs between modalities, anatomy does not. So images are compared by their ranks, hence
whatever their scale, and by their edges, which lie at the same places even where contrast differs.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from vol3dseg.quality.background import Array, Inside

_FEWEST = 100  # voxels that a correlation is taken over
_LARGEST_SIDE = 64  # voxels; finer grids are averaged, for speed and against noise
_RIDGE = 1e-3  # on a correlation matrix, which may be singular


class Mirroring(NamedTuple):
    """How well an image, or the mask, fits the others as it is and mirrored along an axis."""

    name: str
    axis: int  # of i, j, k
    before: float  # multiple correlation with the others, 0 to 1
    after: float
    gain: float  # information about the others that mirroring adds [nat per voxel]; may be negative


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


def coarse(array: Array, inside: Inside) -> tuple[Array, Inside]:
    """Average blocks of voxels until no side is longer than 64; half of a block must be inside."""
    factors = [max(1, -(-n // _LARGEST_SIDE)) for n in array.shape]
    if max(factors) == 1:
        return array, inside
    return _blocks(array, factors), _blocks(inside.astype(np.float32), factors) >= 0.5


def _blocks(array: Array, factors: list[int]) -> Array:
    """Return means of blocks; what is left over at the far ends is cut off."""
    i, j, k = factors
    a, b, c = np.floor_divide(array.shape, factors).tolist()
    blocks = array[: a * i, : b * j, : c * k].reshape(a, i, b, j, c, k)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def mirrorings(ranks: Mapping[str, Array], insides: Mapping[str, Inside]) -> tuple[Mirroring, ...]:
    """Return for each `ranked` image the axis whose mirroring makes it fit the others best.

    An image is compared with all others at once, by how much of it a linear combination of them
    explains: of its ranks, and of its edges. With R the multiple correlation of an image with the
    others, the information that it shares with them is -1/2 ln(1 - R^2) for normal variables; the
    gain is the sum, over ranks and edges, of that after mirroring minus that before. Outside counts
    as the mean, so that bodies that do not overlap lower R.
    """
    varied = {name: a for name, a in ranks.items() if np.ptp(a) > 0}
    if len(varied) < 2:
        return ()
    shades = {name: _unit(a, insides[name]) for name, a in varied.items()}
    outlines = {n: _unit(np.sqrt(_edges(a)), insides[n]) for n, a in shades.items()}
    return tuple(_best_axis(name, shades, outlines) for name in varied)


def _best_axis(name: str, shades: dict[str, Array], outlines: dict[str, Array]) -> Mirroring:
    of_shades, of_outlines = (_unexplained(name, each) for each in (shades, outlines))
    both = np.multiply(of_shades, of_outlines)
    gains = 0.5 * np.log(both[0] / both[1:])
    axis = int(gains.argmax())
    before, after = (float(np.sqrt(1 - of_shades[n])) for n in (0, axis + 1))
    return Mirroring(name, axis, before, after, float(gains[axis]))


def _unexplained(name: str, images: dict[str, Array]) -> list[float]:
    """Return 1 - R^2 of an image given the others: as it is, then mirrored along each axis."""
    others = np.stack([a.ravel() for other, a in images.items() if other != name])
    matrix = others @ others.T + _RIDGE * np.eye(len(others))
    found = []
    for axis in (None, 0, 1, 2):
        turned = images[name] if axis is None else np.flip(images[name], axis)
        shared = others @ turned.ravel()
        explained = float(shared @ np.linalg.solve(matrix, shared))
        found.append(1 - min(max(explained, 0.0), 1 - _RIDGE))
    return found


def _unit(array: Array, inside: Inside) -> Array:
    """Return the array with mean 0 inside, 0 outside and a sum of squares of 1."""
    centred = np.where(inside, array - array[inside].mean(), np.float32(0))
    length = float(np.sqrt(np.vdot(centred, centred)))
    return np.asarray(centred / (length or 1.0), dtype=np.float32)


def _edges(array: Array) -> Array:
    """Return the length of the gradient; an axis of one voxel has none."""
    axes = [axis for axis, n in enumerate(array.shape) if n > 1]
    slopes: Any = [np.gradient(array, axis=axis) for axis in axes]
    return np.asarray(np.sqrt(sum(s * s for s in slopes)), dtype=np.float32)
