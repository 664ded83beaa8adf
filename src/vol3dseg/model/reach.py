"""How far one output of a U-Net can see along one axis."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple


class Level(NamedTuple):
    """One level along one axis, by what its parts add to either side of an interval [voxels].

    `encoder` and `decoder` are its convolutions there; the step down to it, from the grid above
    by `stride`, makes voxel v of voxels stride v - before to stride v + after.
    """

    encoder: int
    decoder: int
    stride: int
    before: int
    after: int


def reach(levels: Sequence[Level]) -> int:
    """Return how far from an output voxel an input voxel can lie that it depends on [voxels].

    Follows the interval [low, high] of voxels that output voxel x depends on, from the output back
    to the input:

    - a convolution of width k widens it by (k - 1) / 2 on either side;
    - a transposed convolution of kernel and stride s makes voxel v of voxel floor(v / s), so the
      interval becomes [floor(low / s), floor(high / s)] one level down;
    - the step down makes voxel v of voxels s v - before to s v + after: [s low - before,
      s high + after] one level up;
    - a skip connection sees a part of what the way through the bottom sees.

    Rounding makes the result depend on x modulo the product of all strides, so every alignment is
    tried and the worst counts. The finest level stands first; its stride counts for nothing.
    """
    return max(_reach(voxel, levels) for voxel in range(prod(n.stride for n in levels[1:])))


def _reach(voxel: int, levels: Sequence[Level]) -> int:
    low = high = voxel
    for above, below in pairwise(levels):
        low, high = (low - above.decoder) // below.stride, (high + above.decoder) // below.stride
    for level in reversed(levels[1:]):
        low, high = low - level.encoder, high + level.encoder
        low, high = level.stride * low - level.before, level.stride * high + level.after
    low, high = low - levels[0].encoder, high + levels[0].encoder
    return max(voxel - low, high - voxel)
