"""Which part of the working grid holds something."""

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.axes import axis_maps
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.kernels import LINEAR, Kernel


def nonzero_box(
    array: NDArray[np.float32], source: Geometry, grid: Geometry, kernel: Kernel = LINEAR
) -> Box:
    """Return the box, in voxels of `grid`, of what is not zero in `array`.

    Parameters
    ----------
    array : (i, j, k) array
        On `source`. An array of zeros has the whole grid as its box: there is nothing to crop to.
    source : Geometry
        In closest-canonical axes.
    grid : Geometry
        The same field of view with another spacing. Every voxel of `grid` whose value the non-zero
        voxels influence by interpolation lies inside the box.
    kernel : Kernel
        Of the interpolation.
    """
    box = Box.around(array != 0)
    if box is None:
        return Box.whole(grid.shape)
    maps = axis_maps(source, grid, kernel=kernel)
    ends = [m.touched(a, b) for m, a, b in zip(maps, box.start, box.stop, strict=True)]
    (i, i_stop), (j, j_stop), (k, k_stop) = ends
    return Box((i, j, k), (i_stop, j_stop, k_stop))
