"""The slices that show most of a case, turned as radiologists look at them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import GridError
from vol3dseg.quality.background import inside_of
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.resampling import reoriented
from vol3dseg.space.volume import Volume

Plane = Literal["sagittal", "coronal", "axial"]
PLANES: tuple[Plane, ...] = get_args(Plane)  # by the axis that they are perpendicular to
LEFT_SIDE = {"sagittal": "A", "coronal": "R", "axial": "R"}  # what is on the left of the picture
_SIDES = {"A": "front", "R": "the subject's right"}
_COUNTED = {"sagittal": "the left", "coronal": "the back", "axial": "below"}
_MARGIN = 3  # voxels around what is not empty
_MOST = 3  # slices that nobody asked for
_SEEN = 0.2  # of its largest area: a slice that has so much of a class shows it

Label = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SliceView:
    """One slice: front or above is up, and on the left is what `LEFT_SIDE` says."""

    number: int  # from 1
    grey: NDArray[Any]
    prediction: Label
    reference: Label | None
    voxel_mm: tuple[float, float]  # width and height in the picture

    @property
    def aspect(self) -> float:
        """Height of a voxel over its width."""
        return self.voxel_mm[1] / self.voxel_mm[0]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the slice."""
        rows, columns = self.grey.shape
        return columns * self.voxel_mm[0], rows * self.voxel_mm[1]

    def voxels_of(self, index: int) -> tuple[int, ...]:
        """Return how many voxels of a class each map has here, the reference first."""
        maps = [m for m in (self.reference, self.prediction) if m is not None]
        return tuple(int(np.count_nonzero(each == index)) for each in maps)


@dataclass(frozen=True, slots=True)
class Slices:
    """Some slices of a case in one plane, cut to the same rows and columns."""

    views: tuple[SliceView, ...]
    plane: Plane
    total: int  # slices that the case has

    @property
    def caption(self) -> str:
        """Say which slices they are."""
        numbers = ", ".join(str(view.number) for view in self.views)
        side = LEFT_SIDE[self.plane]
        return (
            f"{self.plane} slice{'s' * (len(self.views) > 1)} {numbers} of {self.total} from "
            f"{_COUNTED[self.plane]}, {side}: {_SIDES[side]}"
        )

    def best(self, index: int) -> tuple[SliceView, bool]:
        """Return the slice with most of a class, the first of equals, and whether it has any."""
        view = max(self.views, key=lambda each: each.voxels_of(index))
        return view, any(view.voxels_of(index))


def slices_of(
    volume: Volume,
    prediction: Segmentation,
    reference: Segmentation | None,
    plane: Plane = "axial",
    numbers: Iterable[int] = (),
) -> Slices:
    """Return the slices of these `numbers`, from 1; or those that show most.

    That is the one with most foreground in the reference; in the prediction where there is none or
    it is empty; the middle one where both are. Classes that it has little or nothing of bring
    further ones. All lie on one grid, whose axes may have any order and direction. What is
    background around image and labels is cropped. GridError: there is no slice of a number.
    """
    source, axis = prediction.geometry, PLANES.index(plane)
    grid = source.canonical()
    # Views: no array of the volume's size is made.
    image = reoriented(volume.array[..., 0], source, grid)
    maps = [s.array for s in (reference, prediction) if s is not None]
    upright = [reoriented(array, source, grid) for array in maps]
    total = grid.shape[axis]
    chosen = [number - 1 for number in dict.fromkeys(numbers)]
    for place in chosen:
        if not 0 <= place < total:
            raise GridError(
                f"there is no {plane} slice {place + 1}",
                expected=f"1 to {total}",
                remedy="choose another --slice or --plane",
            )
    chosen = chosen or _telling(upright, axis, len(prediction.labels.classes))
    planes = [[plane_of(array, axis, place) for array in (image, *upright)] for place in chosen]
    name = volume.modalities[0]
    shown = [inside_of(np.ascontiguousarray(grey), name) for grey, *_ in planes]
    box = _filled([*shown, *(label > 0 for _, *labels in planes for label in labels)])
    width, height = np.delete(grid.spacing_mm, axis).tolist()
    views = [
        SliceView(place + 1, grey[box], labels[-1][box], labels[0][box] if reference else None,
                  (width, height))
        for place, (grey, *labels) in zip(chosen, planes, strict=True)
    ]  # fmt: skip
    return Slices(tuple(views), plane, total)


def plane_of(array: NDArray[Any], axis: int, place: int) -> NDArray[Any]:
    """Return a slice of an array in RAS axes; front or above is up, right or front is left."""
    return np.flip(array[(slice(None),) * axis + (place,)].T, axis=(0, 1))


def _telling(labels: Sequence[Label], axis: int, classes: int) -> list[int]:
    """Return the slice with most foreground in the first map that has any, and one or two more.

    Those have most of what is not seen yet of any class, each class as a share of its largest area.
    """
    areas = [areas_of(label, axis, classes)[:, 1:] for label in labels]
    first = next((each for each in areas if each.any()), None)
    if first is None:
        return [labels[0].shape[axis] // 2]
    chosen = [int(first.sum(axis=1).argmax())]
    # Each class by the first map that has it: the reference, if there is one.
    of_class = np.where(areas[0].any(axis=0), areas[0], areas[-1])
    shares = of_class / np.maximum(of_class.max(axis=0), 1)
    while len(chosen) < _MOST:
        unseen = shares[:, shares[chosen].max(axis=0) < _SEEN].sum(axis=1)
        if not unseen.any():
            break
        chosen.append(int(unseen.argmax()))
    return sorted(chosen)


def areas_of(label: Label, axis: int, classes: int) -> NDArray[np.int64]:
    """Return the voxels of each class but the background in each slice; (slices, classes).

    They are counted plane by plane as memory has them: along an axis NumPy would count in a copy of
    the whole. Planes of background alone are passed over.
    """
    slow = max(range(3), key=lambda a: abs(label.strides[a]))
    found = np.zeros((label.shape[axis], classes), dtype=np.int64)
    for place, plane in enumerate(np.moveaxis(label, slow, 0)):
        if not plane.any():
            continue
        if slow == axis:
            found[place] = np.bincount(plane.ravel(), minlength=classes)[:classes]
        else:
            across = 1 - (axis - (slow < axis))
            for index in np.unique(plane[plane < classes]):  # not of what is ignored
                found[:, index] += np.count_nonzero(plane == index, axis=across)
    return found


def _filled(planes: Sequence[NDArray[np.bool_]]) -> tuple[slice, slice]:
    """Return the rows and columns where any of the planes has something, with a margin."""
    filled = np.any(planes, axis=0)
    if not filled.any():
        return slice(None), slice(None)
    places = np.argwhere(filled)
    (top, left), (bottom, right) = places.min(axis=0) - _MARGIN, places.max(axis=0) + _MARGIN + 1
    return slice(max(top, 0), bottom), slice(max(left, 0), right)
