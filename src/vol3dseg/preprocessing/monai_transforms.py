"""What MONAI's transforms do to a scan, one after the other, and the way home of the outputs.

Grids are those of MONAI 1.6: `Spacingd` keeps the centre of the first voxel and rounds the distance
between the outermost centres to whole voxels; `Invertd` goes back by the same interpolation.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import IntensityError, in_memory
from vol3dseg.machine import usable_cores
from vol3dseg.recipe.monai_recipe import MonaiRecipe
from vol3dseg.recipe.monai_steps import CropToPositive, Resample, Standardise, TurnToRAS
from vol3dseg.space.axes import AxisMaps, axis_maps
from vol3dseg.space.box import Box, Shape, read_padded
from vol3dseg.space.geometry import Geometry, corners
from vol3dseg.space.resampling import reoriented
from vol3dseg.space.sampled_axes import SampledAxis
from vol3dseg.space.torch_sampling import PLANE_BYTES, sample_as_torch
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
    afford(largest_monai_grid(recipe, source).shape)
    what = f"{len(images)} images of {source.shape} voxels"
    with in_memory(what, remedy="crop the scan, or use a machine with more"):
        # Views are of the scan as read, and stay as they are; an array may be written into.
        held: Sequence[Images] | Images = [*images.values()]
        grid = source
        for step in recipe.steps:
            if isinstance(step, TurnToRAS):
                there = grid.canonical()
                held = [reoriented(image, grid, there) for image in held]
                grid = there
            elif isinstance(step, Resample):
                there = _spaced(grid, step)
                if there is not grid:
                    transform = np.linalg.solve(grid.affine, there.affine)
                    held = sample_as_torch([*held], transform, there.shape, step.precision)
                grid = there
            elif isinstance(step, CropToPositive):
                box = _positive_box(held, step)
                afford(box.shape)
                held = _cropped(held, box)
                grid = grid.cropped(box)
            else:
                held = _own(held)
                step.apply(held)
        return Volume(np.moveaxis(_own(held), 0, -1), grid, tuple(images))


def _own(held: Sequence[Images] | Images) -> Images:
    return held if isinstance(held, np.ndarray) else np.stack(held)


def largest_monai_grid(recipe: MonaiRecipe, source: Geometry) -> Geometry:
    """Return the working grid that a scan would have if nothing were cropped."""
    grid = source
    for step in recipe.steps:
        if isinstance(step, TurnToRAS):
            grid = grid.canonical()
        elif isinstance(step, Resample):
            grid = _spaced(grid, step)
    return grid


def monai_preparing_bytes(recipe: MonaiRecipe, source: Geometry, working: Shape) -> int:
    """Return what preparing a scan takes, at most, beside the scan and the result."""
    each = 4 * len(recipe.modalities)  # of a voxel
    grid, voxels, views, held, most = source, prod(source.shape), True, 0, 0
    for step in recipe.steps:
        made, more = 0, 0
        if isinstance(step, TurnToRAS):
            grid, views = grid.canonical(), True
        elif isinstance(step, Resample):
            there = _spaced(grid, step)
            if there is not grid:
                grid, voxels = there, prod(there.shape)
                made = each * voxels
                more = PLANE_BYTES * prod(there.shape[1:]) * usable_cores()
        elif isinstance(step, CropToPositive):
            most = max(most, held + 2 * voxels)
            voxels = prod(working)
            made, more = each * voxels, 4 * voxels
        else:
            made = each * voxels if views else 0
            if isinstance(step, Standardise) and step.nonzero:
                more = 5 * voxels * (1 if step.channel_wise else len(recipe.modalities))
        most = max(most, held + made + more)
        if made:
            held, views = made, False
    return max(0, most - each * prod(working))


def monai_maps_home(recipe: MonaiRecipe, working: Geometry, source: Geometry) -> AxisMaps:
    """Return how the network's outputs come from the working grid to that of the scan.

    What was cropped is zero in all outputs, and is so before it is interpolated.
    """
    whole = largest_monai_grid(recipe, source)
    start = np.rint(np.linalg.solve(whole.affine, working.affine)[:3, 3]).astype(int).tolist()
    exact = np.linalg.solve(working.affine, source.affine)
    i, j, k = (
        SampledAxis(
            axis=m.axis,
            offset=_whole(exact[m.axis, 3]),
            scale=_whole(exact[m.axis, t]),
            size=m.size, first=0, count=m.count,
            low=-start[m.axis], high=whole.shape[m.axis] - 1 - start[m.axis],
        )
        for t, m in enumerate(axis_maps(working, source))
    )  # fmt: skip
    return i, j, k


def _whole(value: float) -> float:
    """Return the whole number that a value is but for rounding."""
    return round(value) * 1.0 if abs(value - round(value)) < _ROUNDED / 10 else float(value)


def _spaced(grid: Geometry, step: Resample) -> Geometry:
    """Return the grid of another spacing; the same where MONAI takes it for the same.

    Of an oblique grid, whose affine is rounded in its header, MONAI finds no corner that is the
    outermost along all axes, and lets the middles coincide (`compute_shape_offset`).
    """
    now, then = np.array(grid.spacing_mm), np.array(step.spacing_mm)
    then = np.where(np.abs(now - then) <= _TOLERANCE, now, then)
    linear, shape = grid.affine[:3, :3], np.array(grid.shape)
    affine = np.eye(4)
    affine[:3, :3] = linear @ np.linalg.inv(np.linalg.cholesky(linear.T @ linear).T) @ np.diag(then)
    ends = corners(grid.shape)
    places = (np.linalg.solve(affine, grid.affine) @ ends)[:3]
    sides = np.asarray(np.round(np.ptp(places, axis=1) + 1))
    ratio = then / now
    same = np.abs(ratio - 1) <= _TOLERANCE + _RELATIVE
    if np.array_equal(sides, shape) and same.all():
        return grid
    shape_there = grid.sampled(sides, ratio, np.zeros(3)).shape
    outermost = np.abs(places - places.min(axis=1, keepdims=True)).max(axis=0) <= _ROUNDED
    if outermost.any():
        affine[:3, 3] = (grid.affine @ ends)[:3, outermost.argmax()]
    else:
        affine[:3, 3] = linear @ (shape / 2) + grid.affine[:3, 3] - affine[:3, :3] @ (sides / 2)
    return Geometry(shape_there, affine)


def _cropped(images: Sequence[Images] | Images, box: Box) -> Images:
    made = np.empty((len(images), *box.shape), dtype=np.float32)
    for target, image in zip(made, images, strict=True):
        target[...] = read_padded(image, box)
    return made


def _positive_box(images: Sequence[Images] | Images, step: CropToPositive) -> Box:
    shape = images[0].shape
    positive = np.zeros(shape, dtype=np.bool_)
    for image in images:
        positive |= image > 0
    found = Box.around(positive)
    if found is None:
        raise IntensityError(
            "holds nothing above 0 to crop to",
            expected="a scan of what the model was trained on",
            remedy="see that it is the right file",
        )
    start, stop = np.array(found.start) - step.margin, np.array(found.stop) + step.margin
    if step.inside:
        start, stop = np.maximum(start, 0), np.minimum(stop, shape)
    sides = -(-(stop - start) // step.divisible) * np.array(step.divisible)
    start -= (sides - (stop - start)) // 2
    i, j, k = start.tolist()
    a, b, c = sides.tolist()
    return Box.at((i, j, k), (a, b, c))
