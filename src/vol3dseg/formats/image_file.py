"""Files that hold an image as one array, whatever the format: headers first, voxels later."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, in_memory
from vol3dseg.formats.limits import MOST_BESIDE, SMALLER, require_memory, too_much
from vol3dseg.formats.streams import PORTION, FileStart, damaged, unfit_file
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Intake, Note
from vol3dseg.space.memory_layout import contiguous

_LINE = 64  # bytes that processors fetch at once


class VolumeFile(Protocol):
    """A file whose header is read and checked; its voxels are read when they are asked for.

    `shape` leaves out axes of one voxel behind the third. `channel` is a volume of a 4-D file, None
    for a 3-D file.
    """

    path: Path
    shape: tuple[int, ...]

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found and put right; more may come as more is read."""

    def geometry(self, channel: int | None = None) -> Geometry:
        """Return the grid of an image after checking all that headers say; no voxel is read.

        FileFormatError: there are other axes, or what is stored is no intensity. GridError: the
        header's geometry is not usable, or says nothing of orientation.
        """

    def image(
        self, channel: int | None = None, out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], Geometry, int]:
        """Return one modality, its grid, and how many voxels are NaN or infinite.

        It goes into `out`, if that has the file's shape; the first axis must be the fastest.
        FileFormatError: see `geometry`, or the file is truncated or damaged.
        """

    def labels(self) -> tuple[NDArray[Any], Geometry]:
        """Return the values of a label map as stored, and its grid; errors are those of `image`."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is read and written."""

    name: str  # as users choose it
    title: str  # with its article, for messages
    suffix: str  # of files that are written
    suffixes: tuple[str, ...]  # of files that are read; ".nii.gz" before ".gz"
    matches: Callable[[FileStart], bool]  # whether a file begins as those of the format do
    open: "Callable[[FileStart, bool], ImageFile]"  # the latter: whether to repair
    files: Callable[[Path], tuple[Path, ...]]  # two where voxels stand beside their header
    write: Callable[[Path, NDArray[Any], Geometry], None]  # an (i, j, k) or (i, j, k, n) array

    def stem(self, path: Path) -> str | None:
        """Return the name of a file without its suffix; None if it has another."""
        suffix = next((s for s in self.suffixes if path.name.lower().endswith(s)), None)
        return None if suffix is None else path.name[: -len(suffix)]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image file says, checked, and the way to its voxels."""

    axes: tuple[int, ...]  # voxels; several numbers in a voxel are the last, wherever they stand
    dtype: np.dtype[Any]  # as stored
    geometry: Callable[[tuple[int, ...]], Geometry]  # of an image of some (3,) shape; GridError
    stored: Callable[[], Iterator[bytes]]  # the content from the first voxel on, in portions
    scaling: tuple[float | None, float | None] = (None, None)  # slope and intercept
    interleaved: bool = False  # the volumes of several alternate with each voxel
    exact: bool = False  # nothing may stand behind the voxels
    unusable: str = ""  # what voxels are, where they are no plain numbers
    labels: bool = False  # the header says that they are classes


class ImageFile:
    """A VolumeFile whose voxels are one array.

    Those of one volume go straight into place; those of several are kept as they are stored, so
    that the file is decompressed once.
    """

    def __init__(self, path: Path, header: ImageHeader, intake: Intake) -> None:
        self.path = path
        self._header = header
        self._intake = intake
        self._kept: NDArray[Any] | None = None
        self.shape = _without_single_volumes(header.axes, intake)

    @property
    def notes(self) -> tuple[Note, ...]:
        """See `VolumeFile`."""
        return tuple(self._intake.notes)

    def geometry(self, channel: int | None = None) -> Geometry:
        """See `VolumeFile`."""
        if self._header.unusable:
            wanted = "plain numbers, neither colours nor complex ones"
            found = f"voxels are {self._header.unusable}"
            raise unfit_file(found, self.path, wanted, "export intensities")
        several = len(self.shape) == 4 and channel is not None and channel < self.shape[3]
        if not several and not (len(self.shape) == 3 and channel in (None, 0)):
            raise _unfit_shape(self.shape, channel, self.path)
        require_memory(self.shape[:3], self.path)
        return self._header.geometry(self.shape[:3])

    def image(
        self, channel: int | None = None, out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], Geometry, int]:
        """See `VolumeFile`."""
        geometry = self.geometry(channel)
        if self._header.labels:
            self._intake.note("header says that it is a label map", "read as an image")
        array, bad = self._array(channel, np.dtype(np.float32), out)
        return array, geometry, bad

    def largest(self) -> tuple[NDArray[np.float32], Geometry, float]:
        """Return the largest value of each voxel in all volumes, the grid, and the mean of all.

        No more than that one volume is held, however many there are.
        """
        geometry = self.geometry(0)
        array = self._empty(geometry.shape, np.dtype(np.float32))
        array.fill(-np.inf)
        voxels, at, total = array.size, 0, 0.0
        count = self.shape[3] if len(self.shape) == 4 else 1
        with np.errstate(over="ignore", invalid="ignore"):  # the mean tells
            for stored in self._voxels():
                values = apply_read_scaling(stored, *self._header.scaling).astype(np.float32)
                places = np.arange(at, at + values.size)
                places = places // count if self._header.interleaved else places % voxels
                np.maximum.at(array, places, values)
                at += values.size
                total += float(values.sum(dtype=np.float64))
        return array.reshape(geometry.shape, order="F"), geometry, total / at

    def labels(self) -> tuple[NDArray[Any], Geometry]:
        """See `VolumeFile`."""
        geometry = self.geometry()
        one = np.zeros(1, dtype=self._header.dtype)
        dtype = apply_read_scaling(one, *self._header.scaling).dtype
        return self._array(None, dtype.newbyteorder("="))[0], geometry

    def _array(
        self, channel: int | None, dtype: np.dtype[Any], out: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], int]:
        """Return one volume, scaled as the header says, and how many voxels are not finite."""
        array, shape = out, self.shape[:3]
        if array is None or array.shape != shape:
            array = self._empty(shape, dtype).reshape(shape, order="F")
        target = array.reshape(-1, order="F")  # a view, since the first axis is the fastest
        at, bad = 0, 0
        # What float32 cannot hold becomes infinite, and is counted.
        with np.errstate(over="ignore", invalid="ignore"):
            for stored in self._volume(channel or 0) if len(self.shape) == 4 else self._voxels():
                values = apply_read_scaling(stored, *self._header.scaling)
                part = target[at : at + values.size]
                part[:] = values
                at += values.size
                if values.dtype.kind == "f":
                    bad += values.size - int(np.count_nonzero(np.isfinite(part)))
        return array, bad

    def _volume(self, channel: int) -> Iterator[NDArray[Any]]:
        """Give the stored voxels of one volume of several."""
        if self._kept is None:
            kept, at = self._empty(self.shape, self._header.dtype), 0
            for values in self._voxels():
                kept[at : at + values.size] = values
                at += values.size
            count = self.shape[3]
            together = self._header.interleaved
            self._kept = kept.reshape((-1, count)).T if together else kept.reshape((count, -1))
        volume = self._kept[channel]
        step = PORTION // volume.itemsize
        for start in range(0, volume.size, step):
            yield volume[start : start + step]

    def _voxels(self) -> Iterator[NDArray[Any]]:
        """Give all stored voxels, in the order of the file; refuse too few or too many bytes."""
        dtype = self._header.dtype
        left, rest, more = math.prod(self.shape) * dtype.itemsize, b"", 0
        for content in self._header.stored():  # and no other name holds on to it meanwhile
            if rest:
                content = rest + content
            count = min(len(content), left) // dtype.itemsize
            left -= count * dtype.itemsize
            if count:
                yield np.frombuffer(content, dtype, count)
            rest = content[count * dtype.itemsize :] if left else b""
            more += 0 if left else len(content) - count * dtype.itemsize
            if more > MOST_BESIDE:
                raise too_much(self.path, "what stands behind its voxels")
        if left:
            found = f"truncated: {left - len(rest)} bytes of its voxels are missing"
            raise damaged(found, self.path)
        if more and self._header.exact:
            raise too_long(more, self.path)

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        require_memory(shape, self.path, dtype.itemsize)
        with in_memory(f"its {self.shape} voxels", self.path, SMALLER):
            return np.empty(math.prod(shape), dtype=dtype)


def too_long(more: int, path: Path) -> FileFormatError:
    """Return the error of bytes behind the voxels: some may be lost before, which shifts all."""
    found = f"holds {more} bytes more than its header promises"
    return unfit_file(found, path, "nothing behind the voxels")


def _without_single_volumes(shape: tuple[int, ...], intake: Intake) -> tuple[int, ...]:
    """Return a shape without the axes of one voxel behind the third, and note that."""
    axes = len(shape)
    while axes > 3 and shape[axes - 1] == 1:
        axes -= 1
    if axes < len(shape):
        intake.note(f"has {len(shape)} axes, of which the last are single", f"read as {axes}")
    return shape[:axes]


def _unfit_shape(shape: tuple[int, ...], channel: int | None, path: Path) -> FileFormatError:
    """Return the error of a file that does not hold the volume that is asked for."""
    wanted, remedy = "three axes", "choose another file"
    if channel is not None:
        wanted, remedy = f"a file of four axes with a volume {channel}", "name a volume that it has"
    elif len(shape) == 4:
        remedy = (
            f"name one of its {shape[3]} volumes, from 0, in the column <modality>_volume of a "
            "dataset table, or split the file"
        )
    return unfit_file(f"has shape {shape}", path, wanted, remedy)


def stored_portions(array: NDArray[Any]) -> Iterator[memoryview]:
    """Give an array as files hold it, the first axis fastest, in portions."""
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    plane_bytes = math.prod(array.shape[:2]) * array.itemsize
    step = max(1, PORTION // plane_bytes, _LINE // array.itemsize)
    for volume in native.T if array.ndim == 4 else [native.T]:
        for start in range(0, len(volume), step):
            yield contiguous(volume[start : start + step]).data
