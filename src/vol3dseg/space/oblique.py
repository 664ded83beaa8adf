"""From one grid to any other in the same world: what a dataset table may ask for.

Grids with parallel axes are left to `resampling`; others, sheared ones included, need SimpleITK. It
is given voxel indices as its world and the affine between the grids as a transform, so that no grid
is too crooked for it.
"""

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import GridError
from vol3dseg.extras import simpleitk
from vol3dseg.space.axes import axis_maps
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.label_resampling import interpolate_labels, largest_share, mask_of
from vol3dseg.space.resampling import resample


def resample_image_onto(
    array: NDArray[np.float32], source: Geometry, target: Geometry
) -> NDArray[np.float32]:
    """Resample an image onto another grid: linear, anti-aliased where that is coarser.

    Outside of the source is the median of its eight corner voxels: 0 or air in most scans.
    MissingExtraError: the axes are not parallel and SimpleITK is not installed.
    """
    fill = float(np.median(array[np.ix_(*([0, size - 1] for size in array.shape))]))
    if _parallel(source, target):
        return np.asarray(resample(array, source, target, fill), dtype=np.float32)
    return _linear(array, source, target, fill, smooth=True)


def resample_labels_onto(
    classes: NDArray[np.uint8], source: Geometry, target: Geometry
) -> NDArray[np.uint8]:
    """Resample class indices, each class by itself: the largest share wins, 0 is outside."""
    if _parallel(source, target):
        return interpolate_labels(classes, source, target)

    def share(value: int) -> NDArray[np.float32]:
        return _linear(mask_of(classes, value), source, target, float(value == 0))

    return largest_share(classes, target.shape, share)


def _parallel(source: Geometry, target: Geometry) -> bool:
    try:
        axis_maps(source, target)
    except GridError:
        return False
    return True


def _linear(
    array: NDArray[np.float32],
    source: Geometry,
    target: Geometry,
    fill: float,
    smooth: bool = False,
) -> NDArray[np.float32]:
    """Interpolate; `smooth` blurs along the axes in which the target's voxels are larger.

    So none is skipped: the Gaussian turns a point spread function of one voxel, taken as the width
    at half maximum, into that of the target's voxel. After M. J. Cardoso et al., "Scale factor
    point spread function matching: beyond aliasing in image resampling", 2015.
    """
    sitk = simpleitk()
    affine = np.linalg.inv(source.affine) @ target.affine
    image = sitk.GetImageFromArray(array.T)
    extent = np.linalg.norm(affine[:3, :3], axis=1)
    variance = np.maximum(extent**2 - 1, 0) / (8 * np.log(2))
    if smooth and variance.any():
        image = sitk.DiscreteGaussian(image, variance.tolist())
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(affine[:3, :3].ravel().tolist())
    transform.SetTranslation(affine[:3, 3].tolist())
    found = sitk.Resample(image, list(target.shape), transform, defaultPixelValue=fill)
    return np.asarray(sitk.GetArrayFromImage(found).T, np.float32)
