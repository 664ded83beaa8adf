"""From a scan to what the network sees, also as an ONNX graph; for labels the way back.

`vol3dseg preprocess` and `vol3dseg predict` run the same `prepare`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import DatasetError, in_memory
from vol3dseg.machine import thread_pool
from vol3dseg.preprocessing.monai_transforms import monai_maps_home, prepare_as_monai
from vol3dseg.preprocessing.nnunet_steps import nnunet_maps_home, oriented, prepare_as_nnunet
from vol3dseg.quality.appearance import Appearance, measure_appearance
from vol3dseg.recipe import ModelRecipe, MonaiRecipe, NnunetRecipe, Recipe, own_recipe
from vol3dseg.recipe.cropping import AXES, WrittenBox, nonzero_box, write_nonzero_box
from vol3dseg.space.axes import AxisMaps, axis_maps
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.label_resampling import interpolate_labels, nearest_labels, resample_labels
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.resampling import reoriented, resample_along
from vol3dseg.space.volume import Volume

if TYPE_CHECKING:
    from vol3dseg.recipe.graph_values import Graph, Value


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scan as the network sees it, and the way back."""

    volume: Volume  # normalised, on the cropped working grid
    source: Geometry  # the grid of the scan as read
    grid: Geometry  # the whole working grid, anchored to the source grid, not to the crop
    box: Box  # the part of `grid` that the volume covers: the union of `boxes`
    boxes: Mapping[str, Box]  # what is not zero in each modality, in voxels of `grid`
    appearance: Appearance  # of the modalities as read; it has none of those that are missing
    nothing_found: bool = False  # by the first network of a pair, which was asked where to look


def prepare(
    volume: Volume,
    recipe: ModelRecipe,
    afford: Callable[[Shape], None] = lambda shape: None,
    optional: Collection[str] = (),
    within: Box | None = None,
) -> Prepared:
    """Bring a scan, which may have more modalities than the recipe, to what the network sees.

    Each modality is treated by itself (normalised inside its own mask, with its own non-zero box),
    so a model of one modality sees the same voxels whichever others were prepared with it. One of
    the `optional` that the scan lacks is zeros, and has no part in the box. `within` is the box of
    `whole_grid` that is prepared, in place of what is not zero; intensities are still normalised by
    the whole scan. `afford` is called with the shape of the result before that is made; it may
    raise.

    Raises DatasetError (a modality is missing, or all are), GridError (the working grid would have
    more voxels than any scan has), IntensityError (no bias field is found), MemoryLimitError,
    MissingExtraError.
    """
    present = [m for m in recipe.modalities if m in volume.modalities]
    missing = [m for m in recipe.modalities if m not in (*present, *optional)]
    if missing or not present:
        raise DatasetError(
            f"the scan has {volume.modalities}, {missing or [*optional]} is missing",
            expected=f"{recipe.modalities}, as the recipe says",
        )
    if isinstance(recipe, NnunetRecipe | MonaiRecipe):
        return _prepared_as_others_do(volume, recipe, afford)
    canonical, grid = volume.geometry.canonical(), whole_grid(recipe, volume.geometry)
    views = _views(volume, recipe, canonical)
    with thread_pool() as pool:
        appearance = pool.submit(measure_appearance, views, volume.geometry)
        if within is not None or recipe.crop == "none":
            boxes = dict.fromkeys(views, within or Box.whole(grid.shape))
        else:
            box_in = partial(nonzero_box, source=canonical, grid=grid, kernel=recipe.kernel)
            found = pool.map(box_in, views.values())
            boxes = dict(zip(views, found, strict=True))
        box = box_of(boxes, present)
        afford(box.shape)
        what = f"{len(recipe.modalities)} images of {box.shape} voxels on the working grid"
        with in_memory(what, remedy="prepare with a coarser spacing, or use a machine with more"):
            array = np.empty((len(recipe.modalities), *box.shape), dtype=np.float32)
        every = dict(zip(recipe.modalities, array, strict=True))
        targets = [every.pop(name) for name in present]
        for lacking in every.values():
            lacking[...] = 0
        steps = [recipe.normalisation[name] for name in views]
        images: Iterable[NDArray[np.float32]] = views.values()
        if recipe.bias_correction is not None:
            images = pool.map(recipe.bias_correction.corrected, views.values(), views)
        if grid == canonical:
            list(pool.map(lambda step, *both: step.apply(box, *both), steps, images, targets))
    if grid != canonical:
        maps = axis_maps(canonical, grid, box, recipe.kernel)
        for target, image, step in zip(targets, images, steps, strict=True):
            resample_along(image, maps, each=step.fitted(image), out=target)
    prepared = Volume(np.moveaxis(array, 0, -1), grid.cropped(box), recipe.modalities)
    return Prepared(prepared, volume.geometry, grid, box, boxes, appearance.result())


def whole_grid(recipe: Recipe, source: Geometry) -> Geometry:
    """Return the working grid of a scan of which nothing is cut off."""
    canonical = source.canonical()
    return canonical.with_spacing(recipe.spacing_mm) if recipe.spacing_mm else canonical


def _views(volume: Volume, recipe: ModelRecipe, grid: Geometry) -> dict[str, NDArray[np.float32]]:
    """Return each modality that is there with its axes as those of `grid`, without a copy."""
    return {
        name: reoriented(volume.array[..., volume.modalities.index(name)], volume.geometry, grid)
        for name in recipe.modalities
        if name in volume.modalities
    }


def _prepared_as_others_do(
    volume: Volume, recipe: NnunetRecipe | MonaiRecipe, afford: Callable[[Shape], None]
) -> Prepared:
    """Prepare a scan for a network that another framework has trained, as that does it."""
    images = _views(volume, recipe, volume.geometry.canonical())
    with thread_pool(1) as pool:
        appearance = pool.submit(measure_appearance, images, volume.geometry)
        if isinstance(recipe, MonaiRecipe):
            stored = _views(volume, recipe, volume.geometry)
            prepared = prepare_as_monai(stored, volume.geometry, recipe, afford)
        else:
            grid = oriented(recipe, volume.geometry)
            prepared = prepare_as_nnunet(_views(volume, recipe, grid), grid, recipe, afford)
    whole = Box.whole(prepared.geometry.shape)
    boxes = dict.fromkeys(recipe.modalities, whole)
    working = prepared.geometry
    return Prepared(prepared, volume.geometry, working, whole, boxes, appearance.result())


def maps_home(recipe: ModelRecipe, working: Geometry, source: Geometry) -> AxisMaps:
    """Return how outputs come from the working grid of a scan to its own."""
    if isinstance(recipe, NnunetRecipe):
        return nnunet_maps_home(recipe, working, source)
    if isinstance(recipe, MonaiRecipe):
        return monai_maps_home(recipe, working, source)
    return axis_maps(working, source)


def keeps_type(recipe: ModelRecipe) -> bool:
    """Tell whether outputs are as exact on a scan's own grid as they came, not more.

    nnU-Net's splines give float16 where logits are that, and the first of equal ones wins; torch's
    interpolation gives float32.
    """
    return isinstance(recipe, NnunetRecipe) and recipe.outputs.method == "spline"


def box_of(boxes: Mapping[str, Box], modalities: Iterable[str]) -> Box:
    """Return the box over the non-zero boxes of these modalities."""
    return reduce(Box.union, (boxes[name] for name in modalities))


def graph_obstacles(recipe: ModelRecipe) -> list[str]:
    """Say why a recipe cannot be written into a graph; empty where it can."""
    if isinstance(recipe, NnunetRecipe):
        return ["its recipe is that of nnU-Net, whose resampling is not written into graphs"]
    if isinstance(recipe, MonaiRecipe):
        return ["its recipe is that of MONAI, whose transforms are not written into graphs"]
    found = []
    if recipe.bias_correction is not None:
        found.append(
            "its recipe corrects bias fields, which ONNX has no operators for; prepare and train "
            "with recipe.bias_correction: null"
        )
    if recipe.spacing_mm is not None:
        found.append(
            f"its recipe resamples to {recipe.spacing_mm} mm; prepare and train with "
            "recipe.spacing_mm: null"
        )
    return found


def write_prepare(graph: "Graph", recipe: ModelRecipe) -> tuple["Value", WrittenBox]:
    """Append to a graph what `prepare` does; see `graph_obstacles`.

    Inputs bear the names of the modalities: (i, j, k) float32 in closest-canonical axes. NaN or
    infinity stops the runtime before the network is run. Returns the (1, c, i, j, k) float32 image,
    cropped and normalised, and what it was cropped to.
    """
    recipe = own_recipe(recipe, "a standalone graph")
    images = {name: graph.input(name, np.float32) for name in recipe.modalities}
    box = reduce(WrittenBox.union, map(write_nonzero_box, images.values()))
    if recipe.crop == "none":
        whole = images[recipe.modalities[0]].shape()
        box = replace(box, start=graph.constant([0, 0, 0]), stop=whole)
    for image in images.values():
        box = replace(box, start=box.start + _refuse_not_finite(image))
    channels = []
    for name, image in images.items():
        step, cropped = recipe.normalisation[name], image.part(box.start, box.stop, AXES)
        scaled = step.write(cropped if step.ignores_zeros else image, cropped)
        channels.append(scaled.then("Unsqueeze", graph.constant([0, 1])))
    return channels[0].joined(*channels[1:], axis=1), box


def _refuse_not_finite(image: "Value") -> "Value":
    """Return a (1,) zero, or stop the runtime: NaN would spread, and come out as background."""
    # ONNX has no assertion, but an index that is too large fails.
    finite = image.then("Abs").then("Less", np.inf, dtype=np.bool_)
    worst = finite.to(np.uint8).then("ReduceMin", keepdims=0).to(np.int64)
    name = f"{image.name} holds NaN or infinity"
    return image.graph.constant([0]).then("Gather", 1 - worst, name=name)


def prepare_labels(segmentation: Segmentation, prepared: Prepared) -> Segmentation:
    """Bring the label map of a scan onto its cropped working grid; labels outside it are lost."""
    array = resample_labels(segmentation.array, segmentation.geometry, prepared.grid, prepared.box)
    return Segmentation(array, prepared.volume.geometry, segmentation.labels)


def restore_labels(segmentation: Segmentation, source: Geometry) -> Segmentation:
    """Bring a label map from the working grid home; outside the box is background.

    Where the working grid is nowhere coarser than the source, this undoes `prepare_labels` exactly
    for all labels inside the box; elsewhere classes are interpolated, and the largest wins.
    """
    working = segmentation.geometry
    coarser = any(abs(m.scale) < 1 for m in axis_maps(working, source))
    bring = interpolate_labels if coarser else nearest_labels
    return Segmentation(bring(segmentation.array, working, source), source, segmentation.labels)
