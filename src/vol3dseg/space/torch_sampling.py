"""Linear interpolation with the very rounding of torch's `affine_grid` and `grid_sample`.

Where a target voxel falls on a source voxel, torch's places are off by 1e-16 or not, and with them
what is exactly zero beside an object. MONAI's transforms ask for that, so it must be as theirs. The
arithmetic is that of torch on the CPU, which multiplies and adds with one rounding only where
`linspace` is made; edges are repeated beyond the outermost centres.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.machine import thread_pool
from vol3dseg.space.box import Shape

Precision = Literal["float64", "float32"]
Floats = NDArray[np.floating[Any]]
Indices = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
# Of a voxel of a plane, which a thread holds: places, shares, indices, weights, products.
PLANE_BYTES = 256


def sample_as_torch(
    images: Sequence[NDArray[np.float32]],
    transform: Floats,
    sides: Shape,
    precision: Precision,
) -> NDArray[np.float32]:
    """Return (i, j, k) images on another grid, as one (channel, i, j, k) array.

    Parameters
    ----------
    images : sequence of (i, j, k) arrays
        Of one grid; perhaps views.
    transform : (4, 4) array
        From voxels of the result to those of the images.
    sides : (3,) tuple of int
        Of the result.
    precision : "float64" or "float32"
        What is computed with; the result is float32.
    """
    kind = np.dtype(precision).type
    i, j, k = images[0].shape
    source = i, j, k
    theta = _normalised(transform, source, sides, kind)
    bases = [_base(side, kind) for side in sides]
    result = np.empty((len(images), *sides), dtype=np.float32)

    def plane(number: int) -> None:
        along = [bases[0][number], bases[1][:, None], bases[2][None, :]]
        places = [_place(row, along, side) for row, side in zip(theta[:3], source, strict=True)]
        corners = list(_corners(places, source))
        for image, target in zip(images, result, strict=True):
            total = np.zeros(sides[1:], dtype=kind)
            for index, weight in corners:
                total += image[index] * weight
            target[number] = total

    with thread_pool() as pool:
        list(pool.map(plane, range(sides[0])))
    return result


def _normalised(transform: Floats, source: Shape, target: Shape, kind: Any) -> Floats:
    """Return the transform between grids that reach from -1 to 1, edge to edge."""

    def onto(shape: Shape) -> Floats:
        matrix = np.diag([*(2.0 / np.array(shape)), 1.0])
        matrix[:3, 3] = 1.0 / np.array(shape) - 1.0
        return matrix.astype(kind)

    return _product(_product(onto(source), transform.astype(kind)), np.linalg.inv(onto(target)))


def _product(one: Floats, other: Floats) -> Floats:
    """Multiply matrices term after term: BLAS adds up with fewer roundings, and torch with all."""
    total = np.zeros_like(one)
    for k in range(len(other)):
        total = total + one[:, k, None] * other[None, k]
    return total


def _base(count: int, kind: Any) -> Floats:
    """Return the centres of voxels between -1 and 1."""
    if count == 1:
        return np.zeros(1, dtype=kind)
    step = Fraction(float(kind(2) / kind(count - 1)))
    ends = [n * step - 1 if n < count // 2 else 1 - (count - 1 - n) * step for n in range(count)]
    centres = np.array([kind(float(end)) for end in ends]) * kind(count - 1) / kind(count)
    return np.asarray(centres)


def _place(row: Floats, along: Sequence[Floats], side: int) -> Floats:
    """Return where voxels lie, in those of the source; as few axes as they depend on."""
    total = row[2] * along[2] if row[2] else np.zeros((1, 1), dtype=row.dtype)
    for factor, base in ((row[1], along[1]), (row[0], along[0])):
        total = total + factor * base if factor else total
    one = row.dtype.type(1)
    place = ((total + row[3] + one) * row.dtype.type(side) - one) / row.dtype.type(2)
    return np.asarray(np.clip(place, 0, side - 1))


def _corners(places: Sequence[Floats], source: Shape) -> Iterator[tuple[Indices, Floats]]:
    """Give of each of the eight voxels around places its index and its weight."""
    low = [np.floor(place) for place in places]
    shares = [(n + 1 - place, place - n) for place, n in zip(places, low, strict=True)]
    # Those beyond the last one have no weight.
    ends = [(n, np.minimum(n + 1, side - 1)) for n, side in zip(low, source, strict=True)]
    voxels = [(n.astype(np.intp), after.astype(np.intp)) for n, after in ends]
    for a, b, c in product((0, 1), repeat=3):
        weight = shares[2][c] * shares[1][b] * shares[0][a]
        if weight.any():
            yield (voxels[0][a], voxels[1][b], voxels[2][c]), weight
