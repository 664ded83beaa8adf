"""A DICOM series of a folder, opened as an image file is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.dicom.series import place_series, read_stack
from vol3dseg.formats.dicom.series_folder import Search, choose, find_series
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Intake, Note


class DicomVolume:
    """A series whose slices are found and placed; they are decoded when they are asked for.

    Parameters
    ----------
    path : Path
        A folder, or a file of several frames.
    wanted : str or None
        UID, number or a pattern of the description; None where there is only one.
    repair : bool
        Mend what has a repair; otherwise it is refused.
    search : callable
        Finds the series of a folder.

    Attributes
    ----------
    path : Path
    series : Series
        With the files that are read.
    shape : (3,) tuple of int

    Raises
    ------
    FileFormatError
        No series fits, or several; or a file is damaged.
    GridError
        The slices make no volume, or more than one.
    MissingExtraError
        pydicom is not installed.
    """

    def __init__(
        self,
        path: Path,
        wanted: str | None = None,
        repair: bool = False,
        search: Search = find_series,
    ) -> None:
        self.path = path
        self._intake = Intake(repair)
        found = search(path)
        chosen = choose(found, wanted)
        if found.ignored:
            noun = "file is" if found.ignored == 1 else "files are"
            self._intake.note(f"{found.ignored} {noun} no DICOM images", "passed over")
        self._placed = place_series(chosen, self._intake)
        read = {plane.path for plane in self._placed.planes}  # all of them but copies
        files = tuple(file for file in chosen.files if file in read)
        self.series = replace(chosen, files=files, images=len(self._placed.planes))
        self.shape: tuple[int, ...] = self._placed.geometry.shape

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found and put right."""
        return tuple(self._intake.notes)

    def geometry(self, channel: int | None = None) -> Geometry:
        """Return the grid; no voxel is decoded.

        Parameters
        ----------
        channel : int or None
            None or 0: a series is one volume.

        Raises
        ------
        FileFormatError
            Another volume is asked for.
        """
        if channel not in (None, 0):
            raise FileFormatError(
                "is one volume",
                where=self.series.where,
                expected=f"one with a volume {channel}",
                remedy="leave that number out",
            )
        return self._placed.geometry

    def image(
        self, channel: int | None = None, out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], Geometry, int]:
        """Return the volume, its grid and 0: a series with NaN is refused.

        Raises the errors of `geometry` and of `dicom_series.read_stack`.

        Parameters
        ----------
        channel : int or None
            None or 0: a series is one volume.
        out : (i, j, k) array of float32, or None
            Where to put it, if its shape is `shape`.
        """
        geometry = self.geometry(channel)
        array = read_stack(self._placed, self.series.where)
        if out is None or out.shape != array.shape:
            return array, geometry, 0
        out[...] = array
        return out, geometry, 0

    def labels(self) -> tuple[NDArray[Any], Geometry]:
        """Return the values of a mask that is kept as an image."""
        return self.image()[:2]
