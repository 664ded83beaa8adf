"""The axial slice that shows most of a case, turned as radiologists look at it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.labels import Segmentation
from vol3dseg.space.resampling import reoriented
from vol3dseg.space.volume import Volume

_MARGIN = 3  # voxels around what is not empty


@dataclass(frozen=True, slots=True)
class AxialView:
    """One axial slice: rows from front to back, columns from the subject's right to the left."""

    grey: NDArray[Any]
    prediction: NDArray[np.uint8]
    reference: NDArray[np.uint8] | None
    voxel_mm: tuple[float, float]  # width and height in the picture
    caption: str  # which slice it is

    @property
    def aspect(self) -> float:
        """Height of a voxel over its width."""
        return self.voxel_mm[1] / self.voxel_mm[0]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the slice."""
        rows, columns = self.grey.shape
        return columns * self.voxel_mm[0], rows * self.voxel_mm[1]

    @property
    def classes(self) -> frozenset[int]:
        """Indices of the classes that either map has in this slice, background included."""
        maps = [m for m in (self.prediction, self.reference) if m is not None]
        return frozenset(int(index) for each in maps for index in np.unique(each))


def axial_view(
    volume: Volume, prediction: Segmentation, reference: Segmentation | None
) -> AxialView:
    """Return the axial slice with most foreground, cropped to where there is something to see.

    It shows the first modality. The slice is chosen by the reference; by the prediction where there
    is none or it is empty; it is the middle one where both are. All lie on one grid, whose axes may
    have any order and direction. Zeros around the image and the labels are cropped.
    """
    source = prediction.geometry
    grid = source.canonical()
    maps = [s.array for s in (reference, prediction) if s is not None]
    # Views: no array of the volume's size is made.
    image = reoriented(volume.array[..., 0], source, grid)
    upright = [reoriented(array, source, grid) for array in maps]
    level = _fullest(upright)
    # Front is up, and the subject's right is left.
    planes = [np.flip(array[..., level].T, axis=(0, 1)) for array in (image, *upright)]
    grey, *labels = _cropped(planes)
    return AxialView(
        grey=grey,
        prediction=labels[-1],
        reference=labels[0] if reference is not None else None,
        voxel_mm=grid.spacing_mm[:2],
        caption=f"axial slice {level + 1} of {grid.shape[2]} from below, R: the subject's right",
    )


def _fullest(labels: Sequence[NDArray[np.uint8]]) -> int:
    """Return the axial slice with most foreground in the first map that has any; the middle."""
    for areas in map(_areas, labels):
        if areas.any():
            return int(areas.argmax())
    return int(labels[0].shape[2] // 2)


def _areas(label: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the foreground voxels of each axial slice, counted plane by plane as memory has them.

    NumPy would count along an axis in a copy of the whole.
    """
    slow = max(range(3), key=lambda axis: abs(label.strides[axis]))
    planes = np.moveaxis(label, slow, 0)
    if slow == 2:
        return np.array([np.count_nonzero(plane) for plane in planes])
    areas: NDArray[np.intp] = np.sum([np.count_nonzero(p, axis=0) for p in planes], axis=0)
    return areas


def _cropped(planes: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Crop rows and columns that are zero in all planes, but for a margin."""
    filled = np.any([plane != 0 for plane in planes], axis=0)
    if not filled.any():
        return planes
    places = np.argwhere(filled)
    (top, left), (bottom, right) = places.min(axis=0) - _MARGIN, places.max(axis=0) + _MARGIN + 1
    return [plane[max(top, 0) : bottom, max(left, 0) : right] for plane in planes]
