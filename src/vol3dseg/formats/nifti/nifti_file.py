"""NIfTI files, through nibabel, with the checks that nibabel leaves to its caller."""

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import DTypeLike, NDArray

from vol3dseg.errors import FileFormatError, MemoryLimitError
from vol3dseg.formats.gzipped import PORTION, Stream, write_stream
from vol3dseg.formats.nifti.nifti_grid import geometry_of
from vol3dseg.formats.nifti.nifti_header import fresh_header, read_header
from vol3dseg.formats.nifti.nifti_pair import header_and_voxels
from vol3dseg.machine import usable_cores
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Intake, Note, unfit_shape, without_single_volumes
from vol3dseg.space.portions import contiguous

SUFFIXES = (".nii.gz", ".nii")
_LINE = 64  # bytes that processors fetch at once


def stem(path: Path) -> str | None:
    """Return the name of a NIfTI file in one piece without its suffix; None if it has another.

    For conventions that know no other format; see `formats.stem`.
    """
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    return None if suffix is None else path.name[: -len(suffix)]


class NiftiFile:
    """A file whose header is read and checked; its voxels are unpacked when they are asked for.

    Those of one volume go straight into their array; those of several are kept as they are stored,
    so that the file is unpacked once.

    Parameters
    ----------
    path : Path
        NIfTI-1 or NIfTI-2, plain or gzip, in one file or either file of a pair.
    repair : bool
        Mend what has a repair; otherwise it is refused.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        Voxels along the axes; without those of one voxel behind the third.

    Raises
    ------
    FileFormatError
        The file or the other of its pair is missing or empty, its header is truncated or damaged,
        or it is no NIfTI.
    """

    def __init__(self, path: Path, repair: bool = False) -> None:
        self.path = path
        self._intake = Intake(repair)
        header, self._voxels = header_and_voxels(path)
        with Stream(header) as stream:
            self._header = read_header(stream, self._voxels, self._intake)
            _note_name(stream, self._intake)
        self._scaling = self._header.get_slope_inter()
        self._kept: NDArray[Any] | None = None
        self.shape = without_single_volumes(self._header.get_data_shape(), self._intake)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found and put right; more may come as more is read."""
        return tuple(self._intake.notes)

    def geometry(self, channel: int | None = None) -> Geometry:
        """Return the grid of an image after checking all that the header says of it.

        Parameters
        ----------
        channel : int or None
            Which volume of a 4-D file; None for a 3-D file.

        Raises
        ------
        FileFormatError
            There are other axes, or what is stored is no intensity.
        GridError
            The header's geometry is not usable.
        """
        self._volume(channel)
        return geometry_of(self._header, self.shape[:3], self.path, self._intake)

    def image(
        self, channel: int | None = None, out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], Geometry, int]:
        """Return one modality, its grid, and how many voxels are NaN or infinite.

        Raises the errors of `geometry`, and FileFormatError if the file is truncated or damaged.

        Parameters
        ----------
        channel : int or None
        out : (i, j, k) array of float32, or None
            Where to put it, if its shape is `shape`; contiguous, the first axis fastest.
        """
        geometry = self.geometry(channel)
        array, bad = self._array(channel, np.dtype(np.float32), out)
        return array, geometry, bad

    def labels(self) -> tuple[NDArray[Any], Geometry]:
        """Return the label map as stored, and its grid; raises the errors of `image`."""
        geometry = self.geometry()
        one = np.zeros(1, dtype=self._header.get_data_dtype())
        dtype = apply_read_scaling(one, *self._scaling).dtype
        array, _ = self._array(None, dtype.newbyteorder("="))
        return array, geometry

    def _array(
        self, channel: int | None, dtype: np.dtype[Any], out: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], int]:
        """Return one volume, scaled as the header says, and how many voxels are not finite."""
        volume = self._volume(channel)
        array, shape = out, self.shape[:3]
        if array is None or array.shape != shape:
            array = self._empty(math.prod(shape), dtype).reshape(shape, order="F")
        target = array.reshape(-1, order="F")  # a view, since the first axis is the fastest
        at, bad = 0, 0
        # What float32 cannot hold becomes infinite, and is counted.
        with np.errstate(over="ignore", invalid="ignore"):
            for stored in self._unpacked() if volume is None else self._portions(volume):
                values = apply_read_scaling(stored, *self._scaling)
                part = target[at : at + values.size]
                part[:] = values
                at += values.size
                if values.dtype.kind == "f":
                    bad += values.size - int(np.count_nonzero(np.isfinite(part)))
        return array, bad

    def _volume(self, channel: int | None) -> int | None:
        """Return which volume of several this is, None if there is only one."""
        dtype = self._header.get_data_dtype()
        if dtype.fields is not None or np.issubdtype(dtype, np.complexfloating):
            raise FileFormatError(
                f"voxels are {dtype if dtype.fields is None else 'colours'}",
                where=self.path,
                expected="plain numbers, neither colours nor complex ones",
                remedy="export intensities",
            )
        if len(self.shape) == 3 and channel in (None, 0):
            return None
        if len(self.shape) == 4 and channel is not None and channel < self.shape[3]:
            return channel
        raise unfit_shape(self.shape, channel, self.path)

    def _portions(self, volume: int) -> Iterator[NDArray[Any]]:
        """Give the stored voxels of one volume of several."""
        if self._kept is None:
            kept, at = self._empty(math.prod(self.shape), self._header.get_data_dtype()), 0
            for values in self._unpacked():
                kept[at : at + values.size] = values
                at += values.size
            self._kept = kept
        size, step = math.prod(self.shape[:3]), PORTION // self._kept.itemsize
        whole = self._kept[volume * size : (volume + 1) * size]
        for start in range(0, size, step):
            yield whole[start : start + step]

    def _unpacked(self) -> Iterator[NDArray[Any]]:
        """Give all stored voxels, in the order of the file, and verify the checksum after them."""
        dtype, left = self._header.get_data_dtype(), math.prod(self.shape)
        with Stream(self._voxels) as stream:
            stream.skip(int(self._header["vox_offset"]))
            while left:
                wanted = min(left, PORTION // dtype.itemsize) * dtype.itemsize
                content = stream.read(wanted)
                if len(content) < wanted:
                    lacking = left * dtype.itemsize - len(content)
                    raise FileFormatError(
                        f"truncated: {lacking} bytes of its voxels are missing",
                        where=self.path,
                        expected="all of them",
                        remedy="copy or export it again",
                    )
                values = np.frombuffer(content, dtype)
                left -= values.size
                yield values
            stream.drain()

    def _empty(self, size: int, dtype: DTypeLike) -> NDArray[Any]:
        try:
            return np.empty(size, dtype=dtype)
        except MemoryError as error:
            raise MemoryLimitError(
                f"its {self.shape} voxels do not fit into memory",
                where=self.path,
                remedy="crop the file, or use a machine with more",
            ) from error


def _note_name(stream: Stream, intake: Intake) -> None:
    """Note a file whose name says something else of packing than its content."""
    named = stream.path.name.lower().endswith(".gz")
    if named and not stream.packed:
        intake.note("is named .gz but not packed", "read as it is")
    if stream.packed and not named:
        intake.note("is packed with gzip but not named .gz", "unpacked")


def write(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write a volume with a fresh header: nothing of the source's header text is carried over.

    Parameters
    ----------
    path : Path
        Ends in .nii or .nii.gz; written atomically, and byte for byte the same for the same input.
    array : (i, j, k) or (i, j, k, n) array
        Stored with its own type.
    geometry : Geometry
    """
    header = fresh_header(array.shape, array.dtype, geometry)
    write_stream(path, chain([memoryview(header)], stored_portions(array)), usable_cores())


def stored_portions(array: NDArray[Any]) -> Iterator[memoryview]:
    """Give an array as files hold it, the first axis fastest, in portions."""
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    plane_bytes = math.prod(array.shape[:2]) * array.itemsize
    step = max(1, PORTION // plane_bytes, _LINE // array.itemsize)
    for volume in native.T if array.ndim == 4 else [native.T]:
        for start in range(0, len(volume), step):
            yield contiguous(volume[start : start + step]).data
