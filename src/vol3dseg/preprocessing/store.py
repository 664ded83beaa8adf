"""One prepared case in HDF5: image, label, a table of patches, and the label map as read.

::

    /image/<modality>   (i, j, k) float32, attribute `box`: its non-zero box; none if missing
    /label              (i, j, k) uint8, class indices
    /source_label       (i, j, k) uint8, class indices on the grid of the scan as read
    /patches/<box>      (n, 3 + classes) int64: origin of a patch, voxels of each class in it
    attributes          case, recipe, box, grid_shape, grid_affine, source_shape, source_affine

Boxes are in voxels of the whole working grid. There is one table for each box that some choice of
modalities spans, since a model of a subset sees only the box of that subset; its origins count from
the start of the box.
"""

import hashlib
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import GridError, StoreError, in_memory
from vol3dseg.files import write_bytes
from vol3dseg.preprocessing.case_check import AGAIN, case_faults
from vol3dseg.preprocessing.index import CaseEntry, Index
from vol3dseg.preprocessing.patch_table import VOXELS, patch_table, subset_boxes
from vol3dseg.preprocessing.prepare import Prepared, box_of
from vol3dseg.quality.appearance import Appearance
from vol3dseg.recipe import Recipe
from vol3dseg.space.box import Box, Shape, read_padded
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.volume import Volume

_CHUNK = 32  # voxels along each side: 128 KiB of float32, small beside a patch


def write_case(
    path: Path,
    case_id: str,
    recipe: Recipe,
    prepared: Prepared,
    labels: tuple[Segmentation, Segmentation] | None,
) -> str:
    """Write one prepared case, atomically, and return the SHA-256 of its voxels and their place.

    `labels` lie on the grid of `prepared.volume`, and as read on that of the scan.
    """
    # HDF5 ends the process where the disk is full: it never sees one.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        _fill(file, case_id, recipe, prepared, labels)
    write_bytes(path, content.getbuffer())
    return _contents(prepared, labels)


def _contents(prepared: Prepared, labels: tuple[Segmentation, Segmentation] | None) -> str:
    """Return what stays the same where another zlib packs it otherwise."""
    grids = [(grid.shape, grid.affine.tolist()) for grid in (prepared.grid, prepared.source)]
    boxes = {name: str(box) for name, box in prepared.boxes.items()}
    unseen = [of.unannotated for of in labels or () if of.unannotated]
    digest = hashlib.sha256(f"{grids} {prepared.box} {boxes} {unseen or ''}".rstrip().encode())
    for array in (*np.moveaxis(prepared.volume.array, -1, 0), *(s.array for s in labels or ())):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _fill(
    file: Any,
    case_id: str,
    recipe: Recipe,
    prepared: Prepared,
    labels: tuple[Segmentation, Segmentation] | None,
) -> None:
    file.attrs["case"] = case_id
    file.attrs["recipe"] = recipe.model_dump_json()
    file.attrs["box"] = str(prepared.box)
    for name, grid in (("grid", prepared.grid), ("source", prepared.source)):
        file.attrs[f"{name}_shape"], file.attrs[f"{name}_affine"] = grid.shape, grid.affine
    for channel, name in enumerate(prepared.volume.modalities):
        if name in prepared.boxes:  # and not missing
            dataset = _dataset(file, f"image/{name}", prepared.volume.array[..., channel])
            dataset.attrs["box"] = str(prepared.boxes[name])
    if labels is None:
        return
    working, source = labels
    _dataset(file, "label", working.array)
    _dataset(file, "source_label", source.array)
    for box in subset_boxes(list(prepared.boxes.values())):
        part = working.array[box.relative_to(prepared.box).slices]
        table = patch_table(part, recipe.patch_size, len(working.labels.classes))
        file.create_dataset(f"patches/{box}", data=table, fletcher32=True).flush()


def _dataset(file: Any, name: str, array: NDArray[Any]) -> Any:
    # Not LZF: its table begins with what lies in memory, so that it packs not always alike. Not
    # shuffled: values of scans repeat, and gzip finds them whole.
    chunks = tuple(min(_CHUNK, n) for n in array.shape)
    made = file.create_dataset(
        name, data=array, chunks=chunks, compression="gzip", compression_opts=1, fletcher32=True
    )
    made.flush()  # else it lies in the file where it does when Python happens to let go of it
    return made


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Open a prepared case, and turn what HDF5 says of damage into an error of ours."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, GridError) as error:
        raise StoreError(f"not a prepared case ({error})", where=path, remedy=AGAIN) from error


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A prepared case as a model of some modalities sees it: the box over their boxes, no more.

    A modality that is missing is zeros, and has no box. `background` is what stands in labels for
    voxels of no class; outside of the scan that is 0 always.
    """

    path: Path
    modalities: tuple[str, ...]  # that the model sees, in the order of its channels
    boxes: Mapping[str, Box]  # of those that are there, in voxels of `grid`
    stored: Box  # what the file holds, over all modalities
    grid: Geometry  # the whole working grid
    source: Geometry  # the grid of the scan as read
    appearance: Appearance  # of these modalities as read
    unannotated: tuple[str, ...] = ()  # classes that nobody has looked for
    background: int = 0

    @classmethod
    def open(cls, folder: Path, entry: CaseEntry, modalities: Sequence[str]) -> "StoredCase":
        """Read what is needed to read a case that is checked already: see `open_cases`.

        StoreError: the file is no prepared case, is not that of the entry, or lacks a modality that
        the entry does not say is missing, or has none of these.
        """
        path = folder / entry.file
        present = [name for name in modalities if name not in entry.missing]
        if not present:
            raise StoreError(
                f"has none of {', '.join(modalities)}",
                where=f"case {entry.id}",
                expected="at least one modality that the model sees",
                remedy="leave the case out, or train on other modalities",
            )
        with _reading(path) as file:
            boxes = {n: Box.parse(file[f"image/{n}"].attrs["box"]) for n in present}
            stored = Box.parse(file.attrs["box"])
            grid, source = (
                Geometry(tuple(file.attrs[f"{name}_shape"]), file.attrs[f"{name}_affine"])
                for name in ("grid", "source")
            )
        if (stored.shape, source.shape) != (entry.shape, entry.source_shape):
            raise StoreError(
                f"holds {stored.shape} voxels of {source.shape}",
                where=path,
                expected=f"{entry.shape} of {entry.source_shape}, as the index says",
                remedy=AGAIN,
            )
        looks = entry.appearance.select(modalities)
        unannotated = entry.unannotated
        return cls(path, tuple(modalities), boxes, stored, grid, source, looks, unannotated)

    def without(self, missing: Collection[str]) -> "StoredCase":
        """Return the case as if it lacked these modalities too, of which one is left at least."""
        boxes = {name: box for name, box in self.boxes.items() if name not in missing}
        return replace(self, boxes=boxes, appearance=self.appearance.select(boxes))

    @property
    def missing(self) -> list[int]:
        """Which channels are those of modalities that the case lacks."""
        return [n for n, name in enumerate(self.modalities) if name not in self.boxes]

    @property
    def box(self) -> Box:
        """Over the boxes of these modalities, in voxels of the working grid."""
        return box_of(self.boxes, self.boxes)

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
        """Return the (n, 3 + classes) table: origin in this box, voxels of each class.

        Patches in which nothing is judged are left out, unless there is no other.
        """
        with _reading(self.path) as file:
            table = np.asarray(file[f"patches/{self.box}"][()])
        judged = table[:, VOXELS].any(axis=1)
        return table[judged] if judged.any() else table

    def read(self, box: Box) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return image (i, j, k, c) and label (i, j, k) of a patch.

        `box` is in voxels of this case's box; what lies beyond that is 0. Each modality lies in one
        piece in memory.
        """
        inside = box.intersection(Box.whole(self.shape))
        with _reading(self.path) as file:
            image = np.moveaxis(np.stack(self._channels(file, inside)), 0, -1)
            label = self._labels(file, inside)
        around = box.relative_to(inside)
        return read_padded(image, around), read_padded(label, around)

    def read_label(self, box: Box) -> NDArray[np.uint8]:
        """Read the label of a patch alone; see `read`."""
        inside = box.intersection(Box.whole(self.shape))
        with _reading(self.path) as file:
            return read_padded(self._labels(file, inside), box.relative_to(inside))

    def prepared(self) -> Prepared:
        """Return the whole case as `prepare` gave it: what a predictor segments."""
        grid, names = self.geometry, self.modalities
        with (
            in_memory(f"{len(names)} images of {grid.shape} voxels", self.path),
            _reading(self.path) as file,
        ):
            array = np.stack(self._channels(file, Box.whole(self.shape)))
        volume = Volume(np.moveaxis(array, 0, -1), grid, names)
        return Prepared(volume, self.source, self.grid, self.box, self.boxes, self.appearance)

    def reference(self, labels: LabelSet) -> Segmentation:
        """Return the label map as it was read, on the grid of the scan.

        `labels` say what the class indices mean. StoreError: there is no label map.
        """
        with _reading(self.path) as file:
            array = file["source_label"][()]
        return Segmentation(array, self.source, labels, unannotated=self.unannotated)

    def _channels(self, file: Any, inside: Box) -> list[NDArray[np.float32]]:
        place = self._place(inside).slices
        return [
            file[f"image/{name}"][place]
            if name in self.boxes
            else np.zeros(inside.shape, np.float32)
            for name in self.modalities
        ]

    def _labels(self, file: Any, inside: Box) -> NDArray[np.uint8]:
        label: NDArray[np.uint8] = file["label"][self._place(inside).slices]
        if self.background:
            label[label == 0] = self.background
        return label

    def _place(self, inside: Box) -> Box:
        """Return where a part of this case's box lies in what the file holds."""
        return inside.shifted(self.box.relative_to(self.stored).start)


def open_cases(
    folder: Path, index: Index, case_ids: Iterable[str], modalities: Sequence[str]
) -> Mapping[str, StoredCase]:
    """Open prepared cases of a folder, once they are what its index says, and well built.

    StoreError: a file is missing, is not the one that was written, reaches into other files, claims
    more than it can hold, or ends the process that examines it.
    """
    entries = {name: index.entry(name) for name in case_ids}
    for fault in case_faults(folder, index, list(entries.values())).values():
        raise fault
    return {name: StoredCase.open(folder, entry, modalities) for name, entry in entries.items()}
