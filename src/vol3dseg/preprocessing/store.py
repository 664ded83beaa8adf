"""One prepared case in HDF5: image, label, and a table of patches.

::

    /image/<modality>   (i, j, k) float32, attribute `box`: its non-zero box
    /label              (i, j, k) uint8, class indices
    /patches/<box>      (n, 3 + classes) int64: origin of a patch, voxels of each class in it
    attributes          case, recipe, box, grid_shape, grid_affine, source_shape, source_affine

Boxes are in voxels of the whole working grid. There is one table for each box that some choice of
modalities spans, since a model of a subset sees only the box of that subset; its origins count from
the start of the box.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import GridError, StoreError
from vol3dseg.files import atomic_path
from vol3dseg.preprocessing.prepare import Prepared, box_of
from vol3dseg.preprocessing.recipe import Recipe
from vol3dseg.space.box import Box, Shape, grid_boxes, read_padded
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Segmentation

_CHUNK = 32  # voxels along each side: 128 KiB of float32, small beside a patch


def patch_step(patch_size: Shape) -> Shape:
    """Return the distance between the origins of stored patches: half a patch [voxels]."""
    i, j, k = (max(1, n // 2) for n in patch_size)
    return i, j, k


def write_case(
    path: Path, case_id: str, recipe: Recipe, prepared: Prepared, label: Segmentation | None
) -> None:
    """Write one prepared case, atomically.

    Parameters
    ----------
    path : Path
    case_id : str
    recipe : Recipe
    prepared : Prepared
    label : Segmentation or None
        On the grid of `prepared.volume`.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "x") as file:
        file.attrs["case"] = case_id
        file.attrs["recipe"] = recipe.model_dump_json()
        file.attrs["box"] = str(prepared.box)
        file.attrs["grid_shape"] = prepared.grid.shape
        file.attrs["grid_affine"] = prepared.grid.affine
        file.attrs["source_shape"] = prepared.source.shape
        file.attrs["source_affine"] = prepared.source.affine
        for channel, name in enumerate(prepared.volume.modalities):
            dataset = _dataset(file, f"image/{name}", prepared.volume.array[..., channel])
            dataset.attrs["box"] = str(prepared.boxes[name])
        if label is not None:
            _dataset(file, "label", label.array)
            for box in _subset_boxes(list(prepared.boxes.values())):
                part = label.array[box.relative_to(prepared.box).slices]
                table = _patch_table(part, recipe.patch_size, len(label.labels.classes))
                file.create_dataset(f"patches/{box}", data=table, fletcher32=True)


def _dataset(file: Any, name: str, array: NDArray[Any]) -> Any:
    chunks = tuple(min(_CHUNK, n) for n in array.shape)
    return file.create_dataset(
        name, data=array, chunks=chunks, compression="lzf", shuffle=True, fletcher32=True
    )


def _subset_boxes(boxes: Sequence[Box]) -> list[Box]:
    found: set[Box] = set()
    for box in boxes:
        found |= {box} | {box.union(other) for other in found}
    return sorted(found)


def _patch_table(label: NDArray[np.uint8], size: Shape, classes: int) -> NDArray[np.int64]:
    rows = [
        [
            *box.start,
            *np.bincount(
                label[box.intersection(Box.whole(label.shape)).slices].ravel(), minlength=classes
            ),
        ]
        for box in grid_boxes(label.shape, size, patch_step(size))
    ]
    return np.array(rows, dtype=np.int64)


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Open a prepared case, and turn what HDF5 says of damage into an error of ours."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, GridError) as error:
        raise StoreError(f"{path}: not a prepared case ({error}); prepare it again") from error


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A prepared case as a model of some modalities sees it: the box over their boxes, no more.

    Parameters
    ----------
    path : Path
        Checked by the caller, see `vol3dseg.preprocessing.open_cases.open_cases`.
    modalities : tuple of str
    box : Box
        Over the boxes of these modalities, in voxels of the working grid.
    stored : Box
        What the file holds, over all modalities.
    grid : Geometry
        The whole working grid.
    """

    path: Path
    modalities: tuple[str, ...]
    box: Box
    stored: Box
    grid: Geometry

    @classmethod
    def open(cls, path: Path, modalities: Sequence[str]) -> "StoredCase":
        """Read what is needed to read the case.

        Raises
        ------
        StoreError
            The file is no prepared case, or lacks a modality.
        """
        with _reading(path) as file:
            boxes = {n: Box.parse(file[f"image/{n}"].attrs["box"]) for n in modalities}
            stored = Box.parse(file.attrs["box"])
            grid = Geometry(tuple(file.attrs["grid_shape"]), file.attrs["grid_affine"])
        return cls(path, tuple(modalities), box_of(boxes, modalities), stored, grid)

    @property
    def shape(self) -> Shape:
        """Voxels along i, j, k."""
        return self.box.shape

    @property
    def memory_bytes(self) -> int:
        """What image and label take in memory when they are read whole [bytes]."""
        image, label = np.dtype(np.float32).itemsize, np.dtype(np.uint8).itemsize
        return math.prod(self.shape) * (len(self.modalities) * image + label)

    @property
    def geometry(self) -> Geometry:
        """The grid of this case's box."""
        return self.grid.cropped(self.box)

    def patches(self) -> NDArray[np.int64]:
        """Return the (n, 3 + classes) table: origin in this box, voxels of each class."""
        with _reading(self.path) as file:
            return np.asarray(file[f"patches/{self.box}"][()])

    def read(self, box: Box) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Read a patch; what lies outside this case's box is 0.

        Parameters
        ----------
        box : Box
            In voxels of this case's box; may reach beyond it.

        Returns
        -------
        image : (i, j, k, c) array of float32
        label : (i, j, k) array of uint8
        """
        inside = box.intersection(Box.whole(self.shape))
        place = inside.shifted(self.box.relative_to(self.stored).start)
        with _reading(self.path) as file:
            channels = [file[f"image/{name}"][place.slices] for name in self.modalities]
            label = file["label"][place.slices]
        around = box.relative_to(inside)
        image = np.stack(channels, axis=-1)
        return read_padded(image, around), read_padded(label, around)
