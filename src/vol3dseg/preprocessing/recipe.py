"""The recipe: what the network sees of a scan. THE definition, used everywhere.

`vol3dseg preprocess` and `vol3dseg predict` run the same `prepare`; nothing else reads a `Recipe`'s
steps. A recipe travels with what was made by it: prepared store, run, ONNX file.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vol3dseg.cores import usable_cores
from vol3dseg.errors import ConfigError, DatasetError, MemoryLimitError, RecipeMismatch
from vol3dseg.files import canonical_json, sha256_text
from vol3dseg.preprocessing.appearance import Appearance, look_at
from vol3dseg.preprocessing.bias_field import N4
from vol3dseg.preprocessing.crop import nonzero_box
from vol3dseg.preprocessing.normalise import Normalisation, normalise_part
from vol3dseg.volumes.axes import axis_maps
from vol3dseg.volumes.box import Box
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.itk import simpleitk
from vol3dseg.volumes.kernels import CUBIC, LINEAR, Kernel
from vol3dseg.volumes.label_resampling import (
    interpolate_labels,
    nearest_labels,
    resample_labels,
)
from vol3dseg.volumes.labels import Segmentation
from vol3dseg.volumes.resampling import resample_along, turned
from vol3dseg.volumes.volume import Volume

_SAYS_NOTHING = {"bias_correction": None, "interpolation": "linear"}


class Recipe(BaseModel):
    """What is done to a scan before the network sees it.

    Attributes
    ----------
    version : int
        Of the meaning of these fields. An old model keeps its version and its answers.
    modalities : tuple of str
        In the order of the network's channels.
    orientation : "RAS"
        Axes are brought to the order and direction closest to this.
    bias_correction : N4 or None
        What takes the bias field out of each whole image, before anything else is done to it.
    crop : "nonzero" or "none"
        Whether to cut off what is zero in all modalities.
    spacing_mm : (3,) tuple of float or None
        Voxel spacing to resample to, along R, A, S [mm]; None keeps each scan's own.
    interpolation : "linear" or "cubic"
        How images are resampled; labels and probabilities are resampled linearly in either case.
    normalisation : mapping from modality to Normalisation
    patch_size : (3,) tuple of int
        What the network is trained on and, unless told otherwise, the tile of inference [voxels].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    modalities: tuple[str, ...] = Field(min_length=1)
    orientation: Literal["RAS"] = "RAS"
    bias_correction: N4 | None = None
    crop: Literal["nonzero", "none"] = "nonzero"
    spacing_mm: tuple[float, float, float] | None = None
    interpolation: Literal["linear", "cubic"] = "linear"
    normalisation: dict[str, Normalisation]
    patch_size: tuple[int, int, int]

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, data: Any) -> Any:
        """Let `normalisation: {method: ...}` stand for all modalities."""
        if isinstance(data, Mapping) and "method" in (data.get("normalisation") or {}):
            each = dict.fromkeys(data.get("modalities", ()), data["normalisation"])
            return {**data, "normalisation": each}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities are named twice: {self.modalities}")
        if set(self.normalisation) != set(self.modalities):
            raise ValueError(
                f"normalisation is given for {sorted(self.normalisation)}, "
                f"modalities are {sorted(self.modalities)}"
            )
        if min(self.patch_size) < 1 or (self.spacing_mm and min(self.spacing_mm) <= 0):
            raise ValueError("patch_size and spacing_mm must be positive")
        return self

    def select(self, modalities: Iterable[str]) -> "Recipe":
        """Return the recipe of a model that sees these modalities only.

        Raises
        ------
        ConfigError
            A modality is not in the recipe.
        """
        wanted = tuple(modalities)
        unknown = [name for name in wanted if name not in self.modalities]
        if unknown or not wanted:
            raise ConfigError(
                f"modalities {unknown or 'of length 0'} cannot be chosen; the recipe has "
                f"{list(self.modalities)}"
            )
        chosen = {name: self.normalisation[name] for name in wanted}
        return self.model_copy(update={"modalities": wanted, "normalisation": chosen})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the recipe in canonical JSON.

        What recipes could not say at first is left out where nothing is said by it, so that what
        was made before keeps its fingerprint.
        """
        content = self.model_dump(mode="json")
        for name, value in _SAYS_NOTHING.items():
            if content[name] == value:
                del content[name]
        return sha256_text(canonical_json(content))

    def require_extras(self) -> None:
        """Refuse to begin where a step needs what is not installed.

        Raises
        ------
        MissingExtraError
        """
        if self.bias_correction is not None:
            simpleitk()

    @property
    def kernel(self) -> Kernel:
        """What images are interpolated with."""
        return CUBIC if self.interpolation == "cubic" else LINEAR

    def require_equal(self, other: "Recipe", ours: str, theirs: str) -> None:
        """Refuse `other` if it differs, naming every field that does.

        Parameters
        ----------
        other : Recipe
        ours, theirs : str
            What the two belong to, for the message.

        Raises
        ------
        RecipeMismatch
        """
        if self.fingerprint == other.fingerprint:
            return
        a, b = self.model_dump(mode="json"), other.model_dump(mode="json")
        fields = "; ".join(f"{f}: {a[f]} and {b[f]}" for f in a if a[f] != b[f])
        raise RecipeMismatch(
            f"the recipes of {ours} and {theirs} differ in {fields}; "
            "use one recipe for both, or prepare into another folder"
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scan as the network sees it, and the way back.

    Parameters
    ----------
    volume : Volume
        Normalised, on the cropped working grid.
    source : Geometry
        The grid of the scan as read.
    grid : Geometry
        The whole working grid, anchored to the source grid, not to the crop.
    box : Box
        Which part of `grid` the volume covers.
    boxes : mapping from modality to Box
        The non-zero box of each modality, in voxels of `grid`; `box` is their union.
    appearance : Appearance
        What the modalities looked like as read.
    """

    volume: Volume
    source: Geometry
    grid: Geometry
    box: Box
    boxes: Mapping[str, Box]
    appearance: Appearance


def prepare(volume: Volume, recipe: Recipe) -> Prepared:
    """Bring a scan to what the network sees.

    Each modality is treated by itself (normalised inside its own mask, with its own non-zero box),
    so a model of one modality sees the same voxels whichever others were prepared with it.

    Parameters
    ----------
    volume : Volume
        As read; it may have more modalities than the recipe, in any order.
    recipe : Recipe

    Raises
    ------
    DatasetError
        A modality of the recipe is missing.
    GridError
        The working grid would have more voxels than any scan has.
    IntensityError
        The bias field of a modality cannot be found.
    MemoryLimitError
        What comes of it does not fit into memory.
    MissingExtraError
        A step of the recipe needs what is not installed.
    """
    missing = [m for m in recipe.modalities if m not in volume.modalities]
    if missing:
        raise DatasetError(f"modality {missing} is missing; the scan has {volume.modalities}")
    canonical = volume.geometry.canonical()
    grid = canonical.with_spacing(recipe.spacing_mm) if recipe.spacing_mm else canonical
    views = {
        name: turned(volume.array[..., volume.modalities.index(name)], volume.geometry, canonical)
        for name in recipe.modalities
    }
    with ThreadPoolExecutor(usable_cores()) as pool:
        appearance = pool.submit(look_at, views, volume.geometry)
        if recipe.crop == "none":
            boxes = dict.fromkeys(views, Box.whole(grid.shape))
        else:
            box_in = partial(nonzero_box, source=canonical, grid=grid, kernel=recipe.kernel)
            found = pool.map(box_in, views.values())
            boxes = dict(zip(views, found, strict=True))
        box = box_of(boxes, recipe.modalities)
        array = _empty((len(views), *box.shape))
        steps = [recipe.normalisation[name] for name in views]
        images: Iterable[NDArray[np.float32]] = views.values()
        if recipe.bias_correction is not None:
            images = pool.map(recipe.bias_correction.corrected, views.values(), views)
        if grid == canonical:
            list(pool.map(partial(normalise_part, box), steps, images, array))
    if grid != canonical:
        maps = axis_maps(canonical, grid, box, recipe.kernel)
        for target, image, step in zip(array, images, steps, strict=True):
            resample_along(image, maps, each=step.fitted(image), out=target)
    prepared = Volume(np.moveaxis(array, 0, -1), grid.cropped(box), recipe.modalities)
    return Prepared(prepared, volume.geometry, grid, box, boxes, appearance.result())


def _empty(shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        return np.empty(shape, dtype=np.float32)
    except MemoryError as error:
        raise MemoryLimitError(
            f"{shape[0]} images of {shape[1:]} voxels on the working grid do not fit into memory",
            remedy="prepare with a coarser spacing, or use a machine with more",
        ) from error


def box_of(boxes: Mapping[str, Box], modalities: Iterable[str]) -> Box:
    """Return the box over the non-zero boxes of these modalities."""
    first, *others = (boxes[name] for name in modalities)
    for other in others:
        first = first.union(other)
    return first


def prepare_labels(segmentation: Segmentation, prepared: Prepared) -> Segmentation:
    """Bring the label map of a scan onto its cropped working grid.

    Labels outside the box are lost; `labels_outside` counts them.
    """
    working = prepared.volume.geometry
    array = resample_labels(segmentation.array, segmentation.geometry, prepared.grid, prepared.box)
    return Segmentation(array, working, segmentation.labels)


def restore_labels(segmentation: Segmentation, source: Geometry) -> Segmentation:
    """Bring a label map from the working grid home; outside the box is background.

    Where the working grid is nowhere coarser than the source, this undoes `prepare_labels` exactly
    for all labels inside the box; elsewhere classes are interpolated, and the largest wins.
    """
    working = segmentation.geometry
    coarser = any(abs(m.scale) < 1 for m in axis_maps(working, source))
    bring = interpolate_labels if coarser else nearest_labels
    return Segmentation(bring(segmentation.array, working, source), source, segmentation.labels)
