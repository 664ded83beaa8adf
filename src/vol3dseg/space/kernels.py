"""What a source voxel weighs in interpolation, by its distance along an axis."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Kernel:
    """The weights of one kind of interpolation, by signed distances; from `radius` on they are 0.

    Distances count voxels of the coarser of both grids. Where the kernel reaches beyond the source,
    its outermost voxels are repeated or, without `repeats_edge`, those inside share the weight.
    """

    radius: int
    weights: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    repeats_edge: bool


def _triangle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(0, 1 - np.abs(distance)))


def _keys(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


LINEAR = Kernel(1, _triangle, repeats_edge=False)

# Cubic convolution with a = -1/2, the value with which parabolas are followed exactly: R. G. Keys,
# "Cubic convolution interpolation for digital image processing", IEEE Transactions on Acoustics,
# Speech, and Signal Processing 29(6), 1981. It takes the image as it is and two voxels each way,
# so that it works portion by portion; B-splines of this degree need a recursive filter over whole
# lines first. Some weights are negative: beside an edge the result goes beyond the source's values.
CUBIC = Kernel(2, _keys, repeats_edge=True)
