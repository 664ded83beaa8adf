"""From a scan to the box that is worth looking at, by the first network of a pair."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from vol3dseg.model.locating import ANYTHING, Locating
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.recipe import own_recipe
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

if TYPE_CHECKING:
    from vol3dseg.inference.predictor import Predictor

_ROUNDING = 1e-3  # voxels


def region_of(
    locator: "Predictor", locating: Locating, volume: Volume, target: Geometry
) -> Box | None:
    """Return the box of `target` that holds what a locator finds, with its margin.

    `target` has closest-canonical axes, as the working grid of the second network; None: nothing is
    found.
    """
    manifest = locator.manifest
    recipe = own_recipe(manifest.recipe, "finding where to look")
    prepared = prepare(volume, recipe, optional=manifest.optional)
    found = locator.segment(prepared.volume, prepared.volume.geometry).segmentation
    box = Box.around(found.array == found.labels.index(ANYTHING))
    if box is None:
        return None
    return on_grid(box, found.geometry, target, locating.found.margin_mm)


def looked(
    nothing: Literal["whole", "empty"], nothing_found: bool, measured: bool
) -> tuple[str, ...]:
    """Say what a first network did not find, and what uncertainty is where nobody looked."""
    if not nothing_found:
        said = "uncertainty is 0 outside of the box that was looked at"
        return (said,) * measured
    done = {"whole": "the whole scan was segmented", "empty": "all of it is background"}
    sure = ", and its uncertainty 0" * (measured and nothing == "empty")
    return (f"nothing was found where to look: {done[nothing]}{sure}",)


def on_grid(box: Box, source: Geometry, target: Geometry, margin_mm: float = 0.0) -> Box:
    """Return the voxels of `target` that a box of `source` touches, and those within a margin.

    Both grids have closest-canonical axes. What lies beyond `target` is left out; one voxel is left
    where that is everything.
    """
    ends = np.array([box.start, box.stop], dtype=float) - 0.5  # edges, not centres, of voxels
    to_target = np.linalg.inv(target.affine) @ source.affine
    corners = ends @ to_target[:3, :3].T + to_target[:3, 3]
    margin = margin_mm / np.array(target.spacing_mm)
    low = np.floor(corners.min(axis=0) - margin + 0.5 + _ROUNDING)
    high = np.ceil(corners.max(axis=0) + margin + 0.5 - _ROUNDING)
    last = np.array(target.shape)
    start = np.clip(low, 0, last - 1).astype(int).tolist()
    stop = np.maximum(np.clip(high, 0, last), np.array(start) + 1).astype(int).tolist()
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def smallest_region(target: Geometry) -> Box:
    """Return the voxel in the middle of a grid: what is prepared where nothing is looked at."""
    i, j, k = (n // 2 for n in target.shape)
    return Box.at((i, j, k), (1, 1, 1))
