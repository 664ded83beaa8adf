"""Sliding window: where tiles lie, how they are blended."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vol3dseg.inference.session import Backend
from vol3dseg.volumes.box import Box, Shape, grid_boxes, read_padded


def tile_step(tile: Shape, overlap: float) -> Shape:
    """Return the distance between tiles that overlap by this share [voxels]."""
    i, j, k = (max(1, round(n * (1 - overlap))) for n in tile)
    return i, j, k


def gaussian_weights(tile: Shape) -> NDArray[np.float32]:
    """Return the weight of each voxel of a tile, highest in its middle, never zero.

    A Gaussian per axis with a standard deviation of 1/8 of the tile, the choice of nnU-Net (Isensee
    et al. 2021): voxels near the border see less of their surroundings, so they count less.

    Parameters
    ----------
    tile : (3,) tuple of int

    Returns
    -------
    (*tile,) array of float32, largest value near 1, smallest at least 1e-3
    """
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in tile]
    product: NDArray[np.float64] = np.einsum("i,j,k->ijk", *axes)
    return np.maximum(product, 1e-3).astype(np.float32)


def sliding_window(
    image: NDArray[np.float32],
    backend: Backend,
    classes: int,
    tile: Shape,
    overlap: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Run a network over a volume of any size, tile by tile, blended by Gaussian weights.

    Parameters
    ----------
    image : (i, j, k, c) array of float32
        A side shorter than the tile is padded with 0 on both ends, as in training.
    backend : Backend
    classes : int
    tile : (3,) tuple of int
    overlap : float
        Share by which neighbouring tiles overlap, 0 to below 1.
    progress : callable
        Called with the tiles done and their number.

    Returns
    -------
    (i, j, k, class) array of float32
        Probabilities. At each voxel the weights of its tiles sum to one.
    """
    shape = (image.shape[0], image.shape[1], image.shape[2])
    weights = gaussian_weights(tile)
    total = np.zeros((classes, *shape), dtype=np.float32)
    norm = np.zeros(shape, dtype=np.float32)
    boxes = list(grid_boxes(shape, tile, tile_step(tile, overlap)))
    for number, box in enumerate(boxes, start=1):
        patch = np.moveaxis(read_padded(image, box), -1, 0)[None]
        output = backend(np.ascontiguousarray(patch))[0]
        inside = box.intersection(Box.whole(shape))
        kept = inside.relative_to(box).slices
        norm[inside.slices] += weights[kept]
        total[:, *inside.slices] += output[:, *kept] * weights[kept]
        progress(number, len(boxes))
    total /= norm
    return np.moveaxis(total, 0, -1)
