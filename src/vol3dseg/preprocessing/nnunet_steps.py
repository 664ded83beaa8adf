"""What nnU-Net's `DefaultPreprocessor` does to a scan, and the way home of what comes out of it.

Its order is kept: crop to what is not zero in any image, normalise, resample. The working grid is
the crop box with another number of voxels: outer edges coincide, whatever the spacing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np

from vol3dseg.errors import IntensityError, in_memory
from vol3dseg.machine import thread_pool, usable_cores
from vol3dseg.recipe.nnunet_normalisation import Image, Mask, Scale, ZScoreOfScan
from vol3dseg.recipe.nnunet_recipe import NnunetRecipe
from vol3dseg.recipe.nnunet_resampling import NoResampling, axis_alone, ways_of
from vol3dseg.space.axes import AxisMap, AxisMaps, axis_maps
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.enclosed import ENCLOSED_BYTES, fill_holes
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.many_taps import Part, portion_bytes, resample_by_products
from vol3dseg.space.memory_layout import copy_voxels, slowest_first
from vol3dseg.space.stretched_axes import StretchedAxis, Way
from vol3dseg.space.volume import Volume

_PLANES = 8  # that a thread normalises at once
_IN_MASK = ZScoreOfScan(method="zscore", inside="mask")


def oriented(recipe: NnunetRecipe, source: Geometry) -> Geometry:
    """Return the grid of a scan with the axes that the network was trained on."""
    turned = source.canonical()
    if recipe.orientation == "stored" or turned == source:
        return source
    # nibabel, which turns scans for nnU-Net, writes them a header from the affine.
    i, j, k = map(float, np.array(turned.spacing_mm, dtype=np.float32))
    return Geometry(turned.shape, turned.affine, (i, j, k))


def new_shape(recipe: NnunetRecipe, crop: Geometry) -> Shape:
    """Return the working shape of a crop box: rounded, half to even."""
    if isinstance(recipe.images, NoResampling):
        return crop.shape
    lengths = zip(crop.header_spacing_mm, recipe.spacing_mm, crop.shape, strict=True)
    i, j, k = (round(now / then * size) for now, then, size in lengths)
    return i, j, k


def prepare_as_nnunet(
    images: Mapping[str, Image],
    grid: Geometry,
    recipe: NnunetRecipe,
    afford: Callable[[Shape], None],
) -> Volume:
    """Bring images, (i, j, k) on one grid, to what the network sees; see `prepare`."""
    with thread_pool() as pool:
        boxes = [box for box in pool.map(_nonzero_box, images.values()) if box]
    box = reduce(Box.union, boxes) if boxes else Box.whole(grid.shape)
    crop = grid.cropped(box)
    working = crop.stretched(new_shape(recipe, crop))
    afford(working.shape)
    what = f"{len(images)} images of {working.shape} voxels on the working grid"
    with in_memory(what, remedy="crop the scan, or use a machine with more"):
        array = np.empty((len(images), *working.shape), dtype=np.float32)
    cropped = {name: image[box.slices] for name, image in images.items()}
    steps = {name: recipe.normalisation[name] for name in images}
    masked = {name for name, step in steps.items() if step == _IN_MASK}
    mask = _filled_mask(list(cropped.values())) if masked else None

    def fitted(name: str, inside: Mask | None) -> Scale:
        try:
            return steps[name].fitted(cropped[name], inside)
        except IntensityError as error:
            raise error.at(name) from error

    masks = [mask if name in masked else None for name in images]
    with thread_pool() as pool:
        scales = list(pool.map(fitted, images, masks))
    for target, image, scale, inside in zip(array, cropped.values(), scales, masks, strict=True):
        _resample(_Normalised(image, scale, inside), recipe, crop, working, target)
    return Volume(np.moveaxis(array, 0, -1), working, tuple(images))


def largest_nnunet_grid(recipe: NnunetRecipe, source: Geometry) -> Geometry:
    """Return the working grid of a scan of which nothing is cropped."""
    grid = oriented(recipe, source)
    return grid.stretched(new_shape(recipe, grid))


def nnunet_preparing_bytes(recipe: NnunetRecipe, source: Geometry, working: Shape) -> int:
    """Return what preparing a scan takes, at most, beside the scan and the result."""
    grid = oriented(recipe, source)
    voxels, threads = prod(grid.shape), usable_cores()
    taken = 2 * 4 * _PLANES * voxels // min(grid.shape) * threads
    found = _maps(recipe, grid, working)
    if found is not None:
        taken = max(taken, threads * portion_bytes(*found))
    if _IN_MASK in recipe.normalisation.values():
        taken += voxels + int(voxels * ENCLOSED_BYTES)
    return taken


def nnunet_maps_home(recipe: NnunetRecipe, working: Geometry, source: Geometry) -> AxisMaps:
    """Return how the network's outputs come from the working grid to that of the scan.

    What its field of view does not cover, since it was cropped, is outside.
    """
    ways: tuple[Way, Way, Way] = ("linear", "linear", "linear")
    if not isinstance(recipe.outputs, NoResampling):
        there_mm = oriented(recipe, source).header_spacing_mm
        ways = ways_of(recipe.outputs, axis_alone(recipe.outputs, recipe.spacing_mm, there_mm))
    i, j, k = (
        StretchedAxis.between(
            m.axis, m.size, m.count, ways[m.axis], part=_covered(m), flipped=m.scale < 0
        )
        for m in axis_maps(working, source)
    )
    return i, j, k


def _covered(axis_map: AxisMap) -> tuple[int, int]:
    """Return which target voxels, whole ones, lie inside the source; half-open."""
    ends = (-0.5 - axis_map.offset, axis_map.size - 0.5 - axis_map.offset)
    begin, stop = sorted(round(end / axis_map.scale + 0.5) for end in ends)
    return begin, stop


@dataclass(frozen=True, slots=True)
class _Normalised:
    """An image of which parts are normalised as they are read."""

    image: Image
    scale: Scale
    mask: Mask | None

    def __call__(self, part: Part) -> Image:
        """Return a part, normalised; its axes in memory have the order of the image's."""
        values = np.array(self.image[part], order="K")
        self.scale(values, None if self.mask is None else self.mask[part])
        return values

    def limits(self) -> tuple[float, float]:
        """Return the least and the largest value."""

        def ends(part: Part) -> tuple[float, float]:
            values = self(part)
            return float(values.min()), float(values.max())

        with thread_pool() as pool:
            least, most = zip(*pool.map(ends, _parts(self.image)), strict=True)
        return min(least), max(most)


def _resample(
    image: _Normalised, recipe: NnunetRecipe, crop: Geometry, working: Geometry, out: Image
) -> None:
    """Put an image, normalised, onto the working grid."""
    found = _maps(recipe, crop, working.shape)
    if found is None:
        with thread_pool() as pool:
            list(pool.map(lambda part: copy_voxels(out[part], image(part)), _parts(image.image)))
        return
    maps, alone = found
    # Only splines go beyond the values that they are between; planes are limited by themselves.
    beyond = alone is None and "cubic" in (axis_map.way for axis_map in maps)
    limits = image.limits() if beyond else (-np.inf, np.inf)
    resample_by_products(image, maps, out, slowest_first(image.image), limits, alone)


def _maps(
    recipe: NnunetRecipe, crop: Geometry, working: Shape
) -> tuple[tuple[StretchedAxis, StretchedAxis, StretchedAxis], int | None] | None:
    """Return how images come to the working grid, and along which axis alone; None: unchanged."""
    step = recipe.images
    if working == crop.shape or isinstance(step, NoResampling):
        return None
    alone = axis_alone(step, crop.header_spacing_mm, recipe.spacing_mm)
    sizes = zip(range(3), crop.shape, working, ways_of(step, alone), strict=True)
    i, j, k = (StretchedAxis.between(*of) for of in sizes)
    return (i, j, k), alone


def _nonzero_box(image: Image) -> Box | None:
    """Return the box of what is not zero, None where all is; without a mask of the whole."""
    slow = slowest_first(image)[0]
    planes = np.moveaxis(image, slow, 0)
    seen = np.zeros_like(planes[0], dtype=np.bool_)
    hit = np.zeros(len(planes), dtype=np.bool_)
    for number, plane in enumerate(planes):
        inside = plane != 0
        hit[number] = inside.any()
        seen |= inside
    if not hit.any():
        return None
    along = [seen.any(axis=1), seen.any(axis=0)]
    along.insert(slow, hit)
    ends = [np.flatnonzero(marks)[[0, -1]] for marks in along]
    (a, b, c), (d, e, f) = ([int(end[n]) for end in ends] for n in (0, 1))
    return Box((a, b, c), (d + 1, e + 1, f + 1))


def _parts(image: Image) -> Iterator[Part]:
    """Give portions that make up an image: some planes, of the axis that is slowest in memory."""
    slow = slowest_first(image)[0]
    for start in range(0, image.shape[slow], _PLANES):
        i, j, k = (slice(start, start + _PLANES) if a == slow else slice(None) for a in range(3))
        yield i, j, k


def _filled_mask(images: Sequence[Image]) -> Mask:
    """Return where any image is not zero, holes filled, with axes in memory as the first's."""
    mask = np.zeros_like(images[0], dtype=np.bool_)
    for image in images:
        for part in _parts(image):
            mask[part] |= image[part] != 0
    fill_holes(mask)
    return mask
