"""NRRD and MetaImage files, through SimpleITK, with the checks that it leaves to its caller.

SimpleITK gives damaged zlib streams, and what it cannot unpack of them, as if it were well; so the
voxels are counted and their checksum is verified before it reads them. It takes 264 MB, hence it is
an extra, and imported only where such a file is met.
"""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import (
    FileFormatError,
    GridError,
    MemoryLimitError,
)
from vol3dseg.extras import simpleitk
from vol3dseg.formats.itk.metaimage_header import START as METAIMAGE_START
from vol3dseg.formats.itk.metaimage_header import read_metaimage_header
from vol3dseg.formats.itk.nrrd_header import START as NRRD_START
from vol3dseg.formats.itk.nrrd_header import read_nrrd_header
from vol3dseg.formats.itk.payload import require_room, verify_payload
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Intake, Note, unfit_shape, without_single_volumes
from vol3dseg.space.portions import copy_voxels

ItkFormat = Literal["NRRD", "MetaImage"]
_READERS = {"NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}
_HEADERS = {"NRRD": read_nrrd_header, "MetaImage": read_metaimage_header}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def format_of(start: bytes) -> ItkFormat | None:
    """Return which of the two formats a file is that begins with `start`; None if neither."""
    if NRRD_START.match(start):
        return "NRRD"
    return "MetaImage" if METAIMAGE_START.match(start) else None


class ItkFile:
    """A file whose header is read and checked; its voxels are read when they are asked for.

    Parameters
    ----------
    path : Path
        NRRD or MetaImage, with its voxels inside or in a data file beside it.
    kind : "NRRD" or "MetaImage"
        Which of the two it is, whatever its name says.
    repair : bool
        Mend what has a repair; otherwise it is refused.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        Voxels along the axes, then the numbers in each voxel if they are several; without axes of
        one voxel behind the third.

    Raises
    ------
    FileFormatError
        The header is damaged, promises more than the file can hold, names a data file that is not
        there, or says something that SimpleITK would read wrongly.
    MissingExtraError
        SimpleITK is not installed.
    """

    def __init__(self, path: Path, kind: ItkFormat, repair: bool = False) -> None:
        self.path = path
        self._intake = Intake(repair)
        self._sitk = simpleitk()
        self._header = _HEADERS[kind](path)
        self._reader = self._opened(kind)
        axes = tuple(int(n) for n in self._reader.GetSize())
        numbers = int(self._reader.GetNumberOfComponents())
        self._dtype = self._dtype_of(self._reader.GetPixelID())
        self._require_plain_numbers()
        self._bytes = math.prod(axes) * numbers * self._dtype.itemsize
        require_room(path, self._header, axes, self._bytes)
        if len(axes) < 3:
            raise unfit_shape(axes, None, path)
        self._kept: NDArray[Any] | None = None
        shape = axes if numbers == 1 else (*axes, numbers)
        self.shape = without_single_volumes(shape, self._intake)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found and put right; more may come as more is read."""
        return tuple(self._intake.notes)

    def image(
        self, channel: int | None = None, out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], Geometry, int]:
        """Return one modality, its grid, and how many voxels are NaN or infinite.

        Raises the errors of `geometry`, and FileFormatError if the file is truncated or damaged.

        Parameters
        ----------
        channel : int or None
            Which volume of a file of four axes.
        out : (i, j, k) array of float32, or None
            Where to put it, if its shape is `shape`.
        """
        geometry = self.geometry(channel)
        stored = self._stored(channel)
        if out is None or out.shape != stored.shape:
            out = self._empty(stored.shape)
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is counted
            copy_voxels(out, stored)
        return out, geometry, out.size - int(np.count_nonzero(np.isfinite(out)))

    def labels(self) -> tuple[NDArray[Any], Geometry]:
        """Return the label map as stored."""
        geometry = self.geometry()
        return self._stored(None), geometry

    def _require_plain_numbers(self) -> None:
        if self._header.colours or self._dtype.kind not in "iuf":
            what = "colours" if self._header.colours else str(self._dtype)
            raise FileFormatError(
                f"voxels are {what}",
                where=self.path,
                expected="plain numbers, neither colours nor complex ones",
                remedy="export intensities",
            )

    def _require_volume(self, channel: int | None) -> None:
        several = len(self.shape) == 4 and channel is not None and channel < self.shape[3]
        if not several and not (len(self.shape) == 3 and channel in (None, 0)):
            raise unfit_shape(self.shape, channel, self.path)

    def _stored(self, channel: int | None) -> NDArray[Any]:
        """Return one volume as stored, its first axis the fastest in memory."""
        if len(self.shape) == 3:
            return self._loaded()
        if self._kept is None:
            self._kept = self._loaded()
        return self._kept[..., channel]

    def _loaded(self) -> NDArray[Any]:
        """Return all voxels, which are there: they have been counted."""
        verify_payload(self.path, self._header, self._bytes)
        try:
            image = self._reader.Execute()
            array: NDArray[Any] = self._sitk.GetArrayFromImage(image)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                raise self._too_large() from error
            raise _unreadable(self.path) from error
        # Its axes run the other way round, but for that of several numbers in a voxel: the last.
        if image.GetNumberOfComponentsPerPixel() > 1:
            array = np.moveaxis(array, -1, 0)
        return array.T.reshape(self.shape, order="F")

    def _opened(self, kind: ItkFormat) -> Any:
        """Return SimpleITK's reader, which has read the header."""
        reader = self._sitk.ImageFileReader()
        if not _is_utf8(self.path):  # SimpleITK would end the process
            raise FileFormatError(
                "its name is not UTF-8",
                where=self.path,
                expected="one that SimpleITK can open",
                remedy="rename it",
            )
        try:
            reader.SetImageIO(_READERS[kind])
            reader.SetFileName(str(self.path))
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise _unreadable(self.path) from error
        return reader

    def _dtype_of(self, pixel: int) -> np.dtype[Any]:
        """Return the type of what SimpleITK calls by a number, asked of a voxel of that type."""
        dtype: np.dtype[Any] = self._sitk.GetArrayFromImage(
            self._sitk.Image([1, 1, 1], pixel)
        ).dtype
        return dtype

    def geometry(self, channel: int | None = None) -> Geometry:
        """Return the grid of an image, whose world is LPS+ in SimpleITK and RAS+ here.

        Parameters
        ----------
        channel : int or None
            Which volume of a file of four axes.

        Raises
        ------
        FileFormatError
            There are other axes than asked for.
        GridError
            The header's geometry is not usable, or says nothing of orientation.
        """
        self._require_volume(channel)
        axes = self._reader.GetDimension()
        spacing = np.array(self._reader.GetSpacing())[:3]
        if not (np.isfinite(spacing).all() and spacing.min() > 0):
            raise GridError(
                f"header says a spacing of {tuple(spacing.tolist())} mm",
                where=self.path,
                expected="positive numbers",
                remedy="mend the header",
            )
        affine = np.eye(4)
        direction = np.array(self._reader.GetDirection()).reshape(axes, axes)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            affine[:3, :3] = direction[:3, :3] * spacing
        affine[:3, 3] = self._reader.GetOrigin()[:3]
        try:
            geometry = Geometry(self.shape[:3], _LPS_TO_RAS @ affine)
        except GridError as error:
            raise error.at(self.path) from error
        if not self._header.oriented:
            unknown = GridError(
                "header says nothing of orientation",
                where=self.path,
                expected="the space that its directions are meant in",
                remedy="export it again with its orientation",
            )
            self._intake.mend(unknown, f"read as {geometry.axis_codes}")
        return geometry

    def _empty(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        try:
            return np.empty(shape, dtype=np.float32, order="F")
        except MemoryError as error:
            raise self._too_large() from error

    def _too_large(self) -> MemoryLimitError:
        return MemoryLimitError(
            f"its {self.shape} voxels do not fit into memory",
            where=self.path,
            remedy="crop the file, or use a machine with more",
        )


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unreadable(path: Path) -> FileFormatError:
    """Return the error of what SimpleITK refuses.

    Its own words take many lines and may quote the header, which may name the patient.
    """
    return FileFormatError(
        "SimpleITK cannot read it: its header is damaged or unusual",
        where=path,
        expected="one by the standard",
        remedy="save it again",
    )
