"""NIfTI files, through nibabel, with the checks that nibabel leaves to its caller."""

import gzip
import logging
import struct
import zlib
from itertools import product
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, GridError, IntensityError
from vol3dseg.files import write_bytes
from vol3dseg.volumes.geometry import Geometry

_ISAL_ERROR = cast("type[Exception]", IsalError)  # its stub takes the class for an instance
_LEVEL = 2  # of ISA-L's 0 to 3; files of label maps are the smallest then
_SUFFIXES = (".nii.gz", ".nii")
_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_MAX_RATIO = 1032  # of RFC 1951: more than this no deflate stream can expand
_HEADERS = {348: (nib.Nifti1Header, nib.Nifti1Image), 540: (nib.Nifti2Header, nib.Nifti2Image)}
_log = logging.getLogger(__name__)


def stem(path: Path) -> str | None:
    """Return the name of a NIfTI file without its suffix; None if it has another suffix."""
    suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
    return None if suffix is None else path.name[: -len(suffix)]


class NiftiFile:
    """An open file: unpacked once, its volumes are turned into arrays one by one.

    Parameters
    ----------
    path : Path
        NIfTI-1 or NIfTI-2 in one file, plain or gzip.

    Raises
    ------
    FileFormatError
        The file is missing, empty, truncated, damaged or no NIfTI.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = _content(path)
        self._image = _open(self._content, path)

    def image(self, channel: int | None = None) -> tuple[NDArray[np.float32], Geometry]:
        """Return one modality; see `read_image`."""
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite: refused below
            values = self._select(channel)
            array = np.asarray(values.astype(np.float32))
        if not (np.issubdtype(values.dtype, np.integer) or np.isfinite(array).all()):
            bad = int(np.size(array) - np.isfinite(array).sum())
            raise IntensityError(
                f"{self.path}: {bad} voxels are NaN or infinite; expected finite intensities; "
                "replace them in the file, with 0 outside the body for instance"
            )
        return array, _geometry(self._image, array.shape, self.path)

    def labels(self) -> tuple[NDArray[Any], Geometry]:
        """Return the label map; see `read_labels`."""
        array = self._select(None)
        return array, _geometry(self._image, array.shape, self.path)

    def _select(self, channel: int | None) -> NDArray[Any]:
        """Return one volume, scaled as the header says; a view of the file if that is nothing."""
        dtype = self._image.get_data_dtype()
        if dtype.fields is not None or np.issubdtype(dtype, np.complexfloating):
            raise FileFormatError(
                f"{self.path}: voxels are {dtype}; expected plain numbers, not colours"
            )
        shape = self._image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        alone = len(shape) == 3 and channel in (None, 0)
        if not alone and not (len(shape) == 4 and channel is not None and channel < shape[3]):
            wanted = "three axes" if channel is None else f"a 4-D file with a volume {channel}"
            raise FileFormatError(
                f"{self.path}: has shape {shape}; expected {wanted}; split the file"
            )
        # One volume by itself: scaled to floats, the whole of a 4-D file would be several times
        # larger.
        volume = () if alone else (channel,)
        last = (0,) * (len(self._image.shape) - len(shape))
        place = (..., *volume, *last)
        proxy = self._image.dataobj
        try:
            stored: NDArray[Any] = np.ndarray(
                proxy.shape, proxy.dtype, self._content, proxy.offset, order="F"
            )
            if (proxy.slope, proxy.inter) == (1, 0):
                return np.asarray(stored[place])
            return np.asanyarray(apply_read_scaling(stored[place], proxy.slope, proxy.inter))
        except (TypeError, ValueError) as error:
            raise FileFormatError(
                f"{self.path}: truncated or damaged ({error}); copy it again"
            ) from error


def read_image(path: Path, channel: int | None = None) -> tuple[NDArray[np.float32], Geometry]:
    """Read one modality.

    Parameters
    ----------
    path : Path
        NIfTI-1 or NIfTI-2 in one file, plain or gzip.
    channel : int or None
        Which volume of a 4-D file; None for a 3-D file.

    Returns
    -------
    array : (i, j, k) array of float32
    geometry : Geometry

    Raises
    ------
    FileFormatError
        The file is missing, empty, truncated, damaged, no NIfTI, or has other axes than expected.
    GridError
        The header's geometry is not usable.
    IntensityError
        A voxel is NaN or infinite.
    """
    return NiftiFile(path).image(channel)


def read_labels(path: Path) -> tuple[NDArray[Any], Geometry]:
    """Read a label map as stored; `LabelSet.encode` gives its values a meaning.

    Raises the errors of `read_image`, but for those on voxel values.
    """
    return NiftiFile(path).labels()


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
    image = nib.Nifti1Image(array, geometry.affine)
    image.set_data_dtype(array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(geometry.affine, code=1)
    image.set_qform(geometry.affine, code=1)
    content = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        content = igzip.compress(content, compresslevel=_LEVEL, mtime=0)
    write_bytes(path, content)


def _open(content: bytes, path: Path) -> Any:
    image_class = _HEADERS[_header_size(content, path)][1]
    try:
        with LoggingOutputSuppressor(), np.errstate(invalid="ignore", over="ignore"):
            return image_class.from_bytes(content)
    except (ImageFileError, HeaderDataError) as error:
        raise FileFormatError(f"{path}: damaged NIfTI header ({error}); export it again") from error


def _content(path: Path) -> bytes:
    """Return the whole file, unpacked; draining the stream is what checks its CRC."""
    if not path.is_file():
        found = "is no regular file" if path.exists() else "does not exist"
        raise FileFormatError(f"{path}: {found}; expected a NIfTI file (.nii or .nii.gz)")
    packed = path.read_bytes()
    if not packed:
        raise FileFormatError(f"{path}: the file is empty; copy or export it again")
    if not packed.startswith(_GZIP_MAGIC):
        _check_size(packed[:540], len(packed), path)
        return packed
    try:
        inflater = zlib.decompressobj(wbits=31)
        start = inflater.decompress(packed, 540)
        if inflater.eof or len(start) == 540:  # otherwise truncated, which the next line finds
            _check_size(start, len(packed) * _DEFLATE_MAX_RATIO, path)
        return bytes(igzip.decompress(packed))
    except (EOFError, zlib.error, _ISAL_ERROR, gzip.BadGzipFile) as error:
        raise FileFormatError(
            f"{path}: truncated or damaged gzip stream ({error}); copy or export it again"
        ) from error


def _header_size(content: bytes, path: Path) -> int:
    for order in "<>":
        size = struct.unpack(f"{order}i", content[:4])[0] if len(content) >= 4 else 0
        magic = content[344:348] if size == 348 else content[4:8]
        if size in _HEADERS and magic in (b"n+1\0", b"n+2\0"):
            return int(size)
    raise FileFormatError(f"{path}: not a NIfTI file in one piece; expected .nii or .nii.gz")


def _check_size(start: bytes, available: int, path: Path) -> None:
    """Refuse a header that claims more voxels than the file can hold, before allocating them."""
    size = _header_size(start, path)
    if len(start) < size:
        raise FileFormatError(f"{path}: ends within its header; copy or export it again")
    try:
        with LoggingOutputSuppressor():  # what nibabel mends by itself is told below, or harmless
            header = _HEADERS[size][0](start[:size], check=True)
    except HeaderDataError as error:
        raise FileFormatError(f"{path}: damaged NIfTI header ({error}); export it again") from error
    shape, offset = header.get_data_shape(), float(header["vox_offset"])
    if not shape or min(shape) < 1:
        raise FileFormatError(f"{path}: header says {shape} voxels; expected at least one per axis")
    if not size <= offset < float("inf"):
        raise FileFormatError(
            f"{path}: header says that voxels begin at byte {offset:g}, expected {size} or later, "
            "behind the header; export it again"
        )
    claimed = int(np.prod(shape, dtype=object)) * header.get_data_dtype().itemsize + int(offset)
    if claimed > available:
        raise FileFormatError(
            f"{path}: truncated: header promises {claimed} bytes, the file can hold at most "
            f"{available}; copy or export it again"
        )


def _geometry(image: Any, shape: tuple[int, ...], path: Path) -> Geometry:
    header = image.header
    try:
        geometry = Geometry(shape, image.affine)
        sform, qform = (header.get_sform(coded=True), header.get_qform(coded=True))
    except (GridError, ValueError, np.linalg.LinAlgError) as error:
        raise GridError(f"{path}: {error}") from error
    if sform[1] == 0 and qform[1] == 0:
        _log.warning("%s: the header says nothing of orientation; read as %s", path, geometry)
    if sform[1] > 0 and qform[1] > 0:
        _check_forms(sform[0], qform[0], geometry, path)
    return geometry


def _check_forms(
    sform: NDArray[np.float64], qform: NDArray[np.float64], geometry: Geometry, path: Path
) -> None:
    corners = np.array([[*c, 1] for c in product(*((0, n - 1) for n in geometry.shape))]).T
    apart_mm = np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max()
    if apart_mm > 0.5 * min(geometry.spacing_mm):
        raise GridError(
            f"{path}: sform and qform place the volume up to {apart_mm:.3g} mm apart; expected "
            "one place; set the wrong one's code to 0"
        )
