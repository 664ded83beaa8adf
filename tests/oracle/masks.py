"""Pairs of masks to compare: random ones, and those at which implementations part."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
SHAPE = (22, 18, 14)
SPACINGS = ((1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (1.1, 1.3, 2.1))


@dataclass(frozen=True, slots=True, eq=False)  # kept by themselves, not by their voxels
class Pair:
    """A reference and a prediction on one grid."""

    reference: Mask
    prediction: Mask
    spacing_mm: tuple[float, float, float]


def ball(centre, radius) -> Mask:
    """Return the voxels so near to a place."""
    squares = ((i - c) ** 2 for i, c in zip(np.indices(SHAPE), centre, strict=True))
    return np.asarray(sum(squares) <= radius**2)


def block(*slices) -> Mask:
    """Return a box."""
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[slices] = True
    return mask


def _blobs(rng: np.random.Generator, share: float) -> Mask:
    smooth = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.6)
    return np.asarray(smooth > np.quantile(smooth, 1 - share))


def _random() -> dict[str, tuple[Mask, Mask]]:
    rng = np.random.default_rng(20)
    found = {}
    for share in (0.05, 0.2, 0.5):
        truth = _blobs(rng, share)
        found[f"blobs of {share:.0%}, others"] = truth, _blobs(rng, share)
        near = np.roll(truth, (1, -1, 1), (0, 1, 2)) ^ (rng.random(SHAPE) < 0.01)
        found[f"blobs of {share:.0%}, moved and specked"] = truth, near
    for share in (0.02, 0.3, 0.9):
        found[f"noise of {share:.0%}"] = rng.random(SHAPE) < share, rng.random(SHAPE) < share
    return found


def _odd() -> dict[str, tuple[Mask, Mask]]:
    everything = np.ones(SHAPE, dtype=np.bool_)
    middle, every = ball((10, 8, 6), 5), slice(None)
    i, j, k = np.indices(SHAPE)
    apart = ball((4, 4, 4), 2), ball((16, 13, 9), 3), ball((16, 3, 10), 2)
    return {
        "the same": (middle, middle),
        "one voxel, another": (block(3, 4, 5), block(9, 4, 5)),
        "one voxel, a ball": (block(0, 0, 0), middle),
        "corner, opposite corner": (block(0, 0, 0), block(-1, -1, -1)),
        "at six borders": (block(slice(0, 9), every, every), block(slice(2, 22), every, every)),
        "everything, a ball": (everything, middle),
        "everything, everything": (everything, everything),
        "all but one voxel, everything": (~block(7, 7, 7), everything),
        "thin sheets": (block(every, every, 3), block(every, every, 6)),
        "oblique sheets": ((i + j + k) % 19 == 9, (i + j + k) % 19 == 11),
        "lines": (block(every, 4, 4), block(5, every, 9)),
        "with a hole, without": (middle & ~ball((10, 8, 6), 2), middle),
        "a shell, what it holds": (middle & ~ball((10, 8, 6), 4), ball((10, 8, 6), 3)),
        "nested": (middle, ball((10, 8, 6), 2)),
        "chequers, the others": ((i + j + k) % 2 == 0, (i + j + k) % 2 == 1),
        "diagonal of voxels": ((i == j) & (j == k), (i == j) & (j == k + 1)),
        "three balls, two of them": (apart[0] | apart[1] | apart[2], apart[0] | apart[1]),
        "two balls, three": (apart[0] | apart[1], apart[0] | apart[1] | apart[2]),
        "two balls, bridged": (
            apart[0] | apart[2],
            apart[0] | apart[2] | block(slice(4, 17), 4, slice(4, 11)),
        ),
        "a ball, in two parts": (apart[1], apart[1] & (i != 16)),
        "balls that nearly touch": (
            ball((6, 8, 6), 3) | ball((14, 8, 6), 3),
            ball((6, 9, 6), 3),
        ),
    }


def _empty() -> dict[str, tuple[Mask, Mask]]:
    nothing, something = np.zeros(SHAPE, dtype=np.bool_), ball((10, 8, 6), 3)
    return {
        "both empty": (nothing, nothing),
        "prediction empty": (something, nothing),
        "reference empty": (nothing, something),
    }


PAIRS = {
    f"{name}, {'x'.join(map(str, mm))} mm": Pair(*masks, mm)
    for name, masks in (_random() | _odd()).items()
    for mm in SPACINGS
}
EMPTY = {name: Pair(*masks, SPACINGS[1]) for name, masks in _empty().items()}
