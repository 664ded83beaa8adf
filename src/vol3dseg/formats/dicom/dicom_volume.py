"""A DICOM series of a folder, opened as an image file is."""

from collections import deque
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, IntensityError, in_memory
from vol3dseg.formats.dicom.dicom_file import read_dataset
from vol3dseg.formats.dicom.pixel_data import decode
from vol3dseg.formats.dicom.planes import planes_of
from vol3dseg.formats.dicom.series import Series, choose, find_series
from vol3dseg.formats.dicom.stack import Stack, stack, without_copies
from vol3dseg.formats.limits import require_memory
from vol3dseg.machine import thread_pool, usable_cores
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Intake, Note

_Voxels = NDArray[np.float32]

_PROJECTION = ("projection, not slices", "export slices that were reconstructed")
_NO_SLICES = {  # by modality: what it is, and what to do instead
    "SEG": ("segmentation (DICOM-SEG)", "give it as the label"),
    "RTDOSE": ("dose (RTDOSE)", "convert it to NIfTI, as 3D Slicer does"),
    **dict.fromkeys(("CR", "DX", "MG", "RF", "PX", "IO", "RTIMAGE"), _PROJECTION),
}


class DicomVolume:
    """A series whose slices are found and placed; they are decoded when they are asked for.

    `path` is a folder or a file; `choose` says what `wanted` may be; with `repair`, what has a
    repair is mended, not refused. `series` has only the files that are read. Raises FileFormatError
    (no series fits, or several; or a file is damaged), GridError (the slices make no volume, or
    more than one) and MissingExtraError.
    """

    def __init__(self, path: Path, wanted: str | None = None, repair: bool = False) -> None:
        self.path = path
        self._intake = Intake(repair)
        found = find_series(path)
        chosen = choose(found, wanted)
        if found.others:
            self._intake.note(f"beside the slices: {found.passed_over}", "passed over")
        self._placed = place_series(chosen, self._intake)
        read = {plane.path for plane in self._placed.planes}  # all of them but copies
        files = tuple(file for file in chosen.files if file in read)
        self.series = replace(chosen, files=files, images=len(self._placed.planes))
        self.shape: tuple[int, ...] = self._placed.geometry.shape
        require_memory(self.shape, self.series.where)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found and put right."""
        return tuple(self._intake.notes)

    def geometry(self, channel: int | None = None) -> Geometry:
        """See `VolumeFile`; a series is one volume, of number 0."""
        if channel not in (None, 0):
            raise FileFormatError(
                "is one volume",
                where=self.series.where,
                expected=f"one with a volume {channel}",
                remedy="leave that number out",
            )
        return self._placed.geometry

    def image(
        self, channel: int | None = None, out: _Voxels | None = None
    ) -> tuple[_Voxels, Geometry, int]:
        """See `VolumeFile` and `read_stack`; a series with NaN is refused."""
        geometry = self.geometry(channel)
        return read_stack(self._placed, self.series.where, out), geometry, 0

    def labels(self) -> tuple[NDArray[Any], Geometry]:
        """See `VolumeFile`: the values of a mask that is kept as an image."""
        return self.image()[:2]


def place_series(series: Series, intake: Intake | None = None) -> Stack:
    """Return the slices of a series in the order of k, and their grid.

    No voxel is decoded, but for those of a slice that may be the copy of another. Raises the errors
    of `DicomVolume`; without an intake no repair is allowed.
    """
    if series.modality in _NO_SLICES:
        what, instead = _NO_SLICES[series.modality]
        raise FileFormatError(
            f"is a {what}",
            where=series.where,
            expected="an image",
            remedy=f"choose another series, or {instead}",
        )
    intake = intake or Intake()
    headers = ((path, read_dataset(path, voxels=False)) for path in series.files)
    planes = [plane for path, header in headers for plane in planes_of(header, path)]
    for found, done in dict.fromkeys(remark for plane in planes for remark in plane.remarks):
        intake.note(found, done)
    return stack(without_copies(planes, series.where, intake), series.where, intake)


def read_stack(placed: Stack, where: str, out: _Voxels | None = None) -> _Voxels:
    """Read the voxels of slices that are placed; compressed ones are decoded side by side.

    They are put into `out` if its shape is that of the grid; `where` is for messages. Raises
    FileFormatError (a file is truncated, damaged, in colours, or compressed in a way that cannot be
    decoded), IntensityError (NaN or infinite after slope and intercept) and MemoryLimitError.
    """
    by_file: dict[Path, list[tuple[int, int]]] = {}
    for k, plane in enumerate(placed.planes):
        by_file.setdefault(plane.path, []).append((plane.frame, k))
    # Without compression nearly all is pydicom's Python: threads would wait for each other.
    threads = usable_cores() if any(plane.compressed for plane in placed.planes) else 1
    # Frames of a few files are shared out; of many files each is decoded by one thread.
    few = {path: read_dataset(path) for path in by_file} if len(by_file) < threads else {}
    volume = _Volume(placed, where, out)

    def read(path: Path, part: list[tuple[int, int]]) -> None:
        dataset = few[path] if path in few else read_dataset(path)
        frames = decode(dataset, [frame for frame, _ in part], path)
        for (_, k), stored in zip(part, frames, strict=True):
            volume.put(k, stored)

    shares = threads if few else 1
    parts = [
        (path, frames[start::shares])
        for path, frames in by_file.items()
        for start in range(min(shares, len(frames)))
    ]
    with thread_pool(threads) as pool:
        deque(pool.map(read, *zip(*parts, strict=True)), maxlen=0)  # raises the first error
    return volume.array


class _Volume:
    """The array of a volume, to which threads bring its slices."""

    def __init__(self, placed: Stack, where: str, out: _Voxels | None) -> None:
        self._planes, self._shape, self._where = placed.planes, placed.geometry.shape, where
        self._lock = Lock()
        fits = out is not None and out.shape == self._shape
        self.array = out if out is not None and fits else np.empty((0, 0, 0), np.float32)

    def put(self, k: int, stored: NDArray[Any]) -> None:
        """Put the stored (rows, columns) values of a slice at its place."""
        with self._lock:
            if not self.array.size:  # not before a slice has been decoded: headers may lie
                with in_memory(f"its {self._shape} voxels", self._where):
                    self.array = np.empty(self._shape, np.float32, order="F")
        plane, values = self._planes[k], self.array[..., k]
        plain = (plane.slope, plane.intercept) == (1, 0)
        with np.errstate(over="ignore", invalid="ignore"):  # counted below
            scaled = stored if plain else stored.astype(float) * plane.slope + plane.intercept
            values[...] = scaled.T
        bad = values.size - int(np.count_nonzero(np.isfinite(values)))
        if bad:
            raise IntensityError(
                f"{bad} voxels are NaN or infinite",
                where=plane.path,
                expected="finite intensities",
                remedy="replace them in a copy of the file",
            )
