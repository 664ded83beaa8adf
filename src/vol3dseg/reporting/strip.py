"""A strip of pictures: the same slice of a case as it was predicted after epochs of a training.

After epochs 1, 2, 4, 8 and so on, and after the latest: few, whatever the training takes. They lie
in strip.json of the run folder; image and reference are drawn anew from the prepared case.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vol3dseg.preprocessing.index import Index
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.quality.background import grey_scale, inside_of
from vol3dseg.reporting.inspection.thumbnails import draw_plane
from vol3dseg.reporting.slices import PLANES, Plane, areas_of, plane_of
from vol3dseg.schema import Frozen, Positive
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.resampling import reoriented

STRIP = "strip.json"
_SIDE = 176  # of a picture [px]
_ORDER: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

# A WebP file in base64: nothing else may get into the page.
Picture = Annotated[str, Field(max_length=2**18, pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


class Prediction(Frozen):
    """What was predicted after an epoch."""

    epoch: Positive
    picture: Picture


class Strip(Frozen):
    """Predictions of one case, by epoch."""

    predictions: Annotated[tuple[Prediction, ...], Field(max_length=64)] = ()

    def until(self, epoch: int) -> "Strip":
        """Return the strip as it was after an epoch."""
        return Strip(predictions=tuple(each for each in self.predictions if each.epoch <= epoch))

    def then(self, epoch: int, picture: bytes) -> "Strip":
        """Return the strip with one more picture, which replaces the latest unless that is kept."""
        kept = [each for each in self.predictions if is_kept(each.epoch) and each.epoch < epoch]
        text = base64.b64encode(picture).decode()
        return Strip(predictions=(*kept, Prediction(epoch=epoch, picture=text)))


def is_kept(epoch: int) -> bool:
    """Tell whether the picture of an epoch, from 1, stays: of 1, 2, 4, 8 and so on."""
    return epoch & (epoch - 1) == 0


@dataclass(frozen=True, slots=True)
class Slice:
    """The slice of a case that a strip shows, and the patch around it that is predicted.

    `image` is the (i, j, k, c) patch, `inside` the part of it that lies in the scan. `reference`
    has the class indices of that part, `geometry` is its grid, and the slice lies at `at` in it,
    along the axis of `plane` once it is upright.
    """

    case: str
    modality: str
    plane: Plane
    at: int
    image: NDArray[np.float32]
    inside: Box
    reference: NDArray[np.uint8]
    geometry: Geometry
    grey: NDArray[np.uint8]

    @classmethod
    def of(cls, case_id: str, case: StoredCase, size: Shape, classes: int) -> "Slice":
        """Return the slice that shows most of all classes, each as a share of its largest area.

        Across the longest side of a voxel, so that it is a slice as it was scanned.
        """
        grid = case.geometry.canonical()
        plane = max(_ORDER, key=lambda name: round(grid.spacing_mm[PLANES.index(name)], 3))
        axis = PLANES.index(plane)
        label = case.read_label(Box.whole(case.shape))
        label[label >= classes] = 0
        upright = reoriented(label, case.geometry, grid)
        areas = areas_of(upright, axis, classes)[:, 1:]
        middle = [n // 2 for n in grid.shape]
        if areas.any():
            middle[axis] = int((areas / np.maximum(areas.max(axis=0), 1)).sum(axis=1).argmax())
            shown = np.argwhere(upright.take(middle[axis], axis)).mean(axis=0).round()
            middle = np.insert(shown.astype(int), axis, middle[axis]).tolist()
        box = _around(_voxel(middle, grid, case.geometry), size, case.shape)
        seen = box.intersection(Box.whole(case.shape))
        inside, part = seen.relative_to(box), case.geometry.cropped(seen)
        at = _voxel(middle, grid, part.canonical())[axis]
        channel = next(n for n, name in enumerate(case.modalities) if name in case.boxes)
        image, name = case.read(box)[0], case.modalities[channel]
        flat = _upright_plane(image[..., channel][inside.slices], part, plane, at)
        grey = _brightness(flat, name)
        return cls(case_id, name, plane, at, image, inside, label[seen.slices], part, grey)

    def draw(self, label: NDArray[np.uint8] | None) -> bytes:
        """Draw the image, with a label map of what is `inside` over it, as a WebP file."""
        if label is not None:
            label = _upright_plane(label, self.geometry, self.plane, self.at)
        grid = self.geometry.canonical()
        lengths_mm = np.multiply(grid.shape, grid.spacing_mm)
        width, height = np.delete(lengths_mm, PLANES.index(self.plane)).tolist()
        return draw_plane(self.grey, label, (width, height), _SIDE)


def typical_case(names: tuple[str, ...], index: Index, volumes_ml: Mapping[str, float]) -> str:
    """Return of the cases with most classes the one whose foreground has the median volume."""
    held = {name: sum(map(bool, (index.entry(name).class_voxels or {}).values())) for name in names}
    most = [name for name in names if held[name] == max(held.values())]
    return sorted(most, key=lambda name: (volumes_ml[name], name))[len(most) // 2]


def _upright_plane(array: NDArray[Any], geometry: Geometry, plane: Plane, at: int) -> NDArray[Any]:
    upright = reoriented(array, geometry, geometry.canonical())
    return np.ascontiguousarray(plane_of(upright, PLANES.index(plane), at))


def _voxel(place: list[int], source: Geometry, target: Geometry) -> tuple[int, int, int]:
    """Return the voxel of another grid, of the same directions, at a voxel of a grid."""
    world = source.affine @ [*place, 1]
    i, j, k = np.rint(np.linalg.solve(target.affine, world)[:3]).astype(int).tolist()
    return i, j, k


def _around(middle: Shape, size: Shape, extent: Shape) -> Box:
    """Return a box of this size about a voxel, in the scan as far as it goes."""
    i, j, k = (
        min(max(m - side // 2, min(0, n - side)), max(0, n - side))
        for m, side, n in zip(middle, size, extent, strict=True)
    )
    return Box.at((i, j, k), size)


def _brightness(plane: NDArray[np.float32], name: str) -> NDArray[np.uint8]:
    scale = grey_scale(plane, inside_of(plane, name), name)
    scaled = (plane - scale.low) / ((scale.high - scale.low) or 1.0) * 255
    return np.asarray(np.clip(scaled, 0, 255), dtype=np.uint8)
