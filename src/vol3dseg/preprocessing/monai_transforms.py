"""What MONAI's transforms do to a scan, one after the other, and the way home of the outputs.

Grids are those of MONAI 1.6: `Spacingd` keeps the centre of the first voxel and rounds the distance
between the outermost centres to whole voxels; `Invertd` goes back by the same interpolation.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import IntensityError, in_memory
from vol3dseg.recipe.monai_recipe import MonaiRecipe
from vol3dseg.recipe.monai_steps import CropToPositive, Resample, TurnToRAS
from vol3dseg.space.axes import AxisMaps, axis_maps
from vol3dseg.space.box import Box, Shape, read_padded
from vol3dseg.space.geometry import Geometry, corners
from vol3dseg.space.resampling import reoriented, resample_along
from vol3dseg.space.sampled_axes import SampledAxis
from vol3dseg.space.volume import Volume

_TOLERANCE = 1e-3  # mm, and of affines: MONAI's AFFINE_TOL
_RELATIVE = 1e-5  # that it adds, comparing affines
_ROUNDED = 1e-8  # voxels, of corners
Images = NDArray[np.float32]


def prepare_as_monai(
    images: Mapping[str, NDArray[np.float32]],
    source: Geometry,
    recipe: MonaiRecipe,
    afford: Callable[[Shape], None],
) -> Volume:
    """Bring (i, j, k) images, as stored, to what the network sees; see `prepare`."""
    afford(_before_crop(recipe, source).shape)
    what = f"{len(images)} images of {source.shape} voxels"
    with in_memory(what, remedy="crop the scan, or use a machine with more"):
        array, grid = np.stack([*images.values()]), source
        for step in recipe.steps:
            if isinstance(step, TurnToRAS):
                there = grid.canonical()
                array = np.stack([reoriented(image, grid, there) for image in array])
                grid = there
            elif isinstance(step, Resample):
                there = _spaced(grid, step)
                array = array if there is grid else _resampled(array, grid, there)
                grid = there
            elif isinstance(step, CropToPositive):
                box = _positive_box(array, step)
                array = np.stack([read_padded(image, box) for image in array])
                grid = grid.cropped(box)
            else:
                step.apply(array)
    return Volume(np.moveaxis(array, 0, -1), grid, tuple(images))


def monai_maps_home(recipe: MonaiRecipe, working: Geometry, source: Geometry) -> AxisMaps:
    """Return how the network's outputs come from the working grid to that of the scan.

    What was cropped is zero in all outputs, and is so before it is interpolated.
    """
    whole = _before_crop(recipe, source)
    start = np.rint(np.linalg.solve(whole.affine, working.affine)[:3, 3]).astype(int).tolist()
    i, j, k = (
        SampledAxis(
            axis=m.axis, offset=m.offset, scale=m.scale, size=m.size, first=0, count=m.count,
            low=-start[m.axis], high=whole.shape[m.axis] - 1 - start[m.axis],
        )
        for m in axis_maps(working, source)
    )  # fmt: skip
    return i, j, k


def _before_crop(recipe: MonaiRecipe, grid: Geometry) -> Geometry:
    """Return the working grid that a scan would have if nothing were cropped."""
    for step in recipe.steps:
        if isinstance(step, TurnToRAS):
            grid = grid.canonical()
        elif isinstance(step, Resample):
            grid = _spaced(grid, step)
    return grid


def _spaced(grid: Geometry, step: Resample) -> Geometry:
    """Return the grid of another spacing; the same where MONAI takes it for the same.

    Of an oblique grid, whose affine is rounded in its header, MONAI finds no corner that is the
    outermost along all axes, and lets the middles coincide (`compute_shape_offset`).
    """
    now, then = np.array(grid.spacing_mm), np.array(step.spacing_mm)
    then = np.where(np.abs(now - then) <= _TOLERANCE, now, then)
    linear, shape = grid.affine[:3, :3], np.array(grid.shape)
    straight = linear @ np.linalg.inv(np.linalg.cholesky(linear.T @ linear).T) @ np.diag(then)
    ends = corners(grid.shape)[:3]
    places = np.linalg.solve(straight, linear) @ ends
    sides = np.asarray(np.round(np.ptp(places, axis=1) + 1))
    ratio = then / now
    same = np.abs(ratio - 1) <= _TOLERANCE + _RELATIVE
    if np.array_equal(sides, shape) and same.all():
        return grid
    outermost = np.abs(places - places.min(axis=1, keepdims=True)).max(axis=0) <= _ROUNDED
    first = ends[:, outermost.argmax()] if outermost.any() else (shape - ratio * sides) / 2
    return grid.sampled(sides, ratio, first.astype(np.float64))


def _resampled(array: Images, grid: Geometry, there: Geometry) -> Images:
    i, j, k = (
        SampledAxis(
            axis=m.axis, offset=m.offset, scale=m.scale, size=m.size, first=0, count=m.count,
            low=0, high=m.size - 1,
        )
        for m in axis_maps(grid, there)
    )  # fmt: skip
    return np.stack([resample_along(image, (i, j, k)) for image in array])


def _positive_box(array: Images, step: CropToPositive) -> Box:
    found = Box.around(np.asarray((array > 0).any(axis=0)))
    if found is None:
        raise IntensityError(
            "holds nothing above 0 to crop to",
            expected="a scan of what the model was trained on",
            remedy="see that it is the right file",
        )
    start, stop = np.array(found.start) - step.margin, np.array(found.stop) + step.margin
    if step.inside:
        start, stop = np.maximum(start, 0), np.minimum(stop, array.shape[1:])
    sides = -(-(stop - start) // step.divisible) * np.array(step.divisible)
    start -= (sides - (stop - start)) // 2
    i, j, k = start.tolist()
    a, b, c = sides.tolist()
    return Box.at((i, j, k), (a, b, c))
