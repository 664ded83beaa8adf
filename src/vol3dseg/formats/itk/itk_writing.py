"""NRRD and MetaImage files, written with a header in which there is nothing but the grid.

They are written here and not by SimpleITK, so that a machine that segments needs none for them;
bytes are packed as those of NIfTI are, by threads, and are the same for the same input.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError
from vol3dseg.files import atomic_path
from vol3dseg.formats.gzipped import gzip_stream, zlib_stream
from vol3dseg.formats.nifti.nifti_file import stored_portions
from vol3dseg.machine import usable_cores
from vol3dseg.space.geometry import Geometry

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LITTLE = sys.byteorder == "little"  # voxels are stored as this machine has them
_META_TYPES = {
    "u1": "MET_UCHAR", "i1": "MET_CHAR", "u2": "MET_USHORT", "i2": "MET_SHORT", "u4": "MET_UINT",
    "i4": "MET_INT", "f4": "MET_FLOAT", "f8": "MET_DOUBLE",
}  # fmt: skip
_NRRD_TYPES = {
    "u1": "uint8", "i1": "int8", "u2": "uint16", "i2": "int16", "u4": "uint32", "i4": "int32",
    "f4": "float", "f8": "double",
}  # fmt: skip
_DIGITS = 20  # of the packed size, which is known when the voxels are written


def write_nrrd(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write an NRRD file with its voxels inside, packed.

    Parameters
    ----------
    path : Path
        Written atomically, and byte for byte the same for the same input.
    array : (i, j, k) or (i, j, k, n) array
        Of integers of up to 32 bits, or floats; stored with its own type.
    geometry : Geometry

    Raises
    ------
    FileFormatError
        NRRD files do not hold numbers of this type here.
    OutputError
        The file cannot be written.
    """
    affine = _RAS_TO_LPS @ geometry.affine
    several = array.ndim > 3
    fields = {
        "type": _type_name(path, array, _NRRD_TYPES),
        "dimension": str(array.ndim),
        "space": "left-posterior-superior",
        "sizes": _spaced(array.shape),
        "space directions": " ".join([*map(_vector, affine[:3, :3].T), *["none"] * several]),
        "kinds": " ".join(["domain"] * 3 + ["list"] * several),
        "endian": "little" if _LITTLE else "big",
        "encoding": "gzip",
        "space origin": _vector(affine[:3, 3]),
    }
    header = "NRRD0004\n" + "".join(f"{name}: {value}\n" for name, value in fields.items()) + "\n"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header.encode())
        file.writelines(gzip_stream(stored_portions(array), usable_cores()))


def write_metaimage(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write a MetaImage file with its voxels inside, packed; see `write_nrrd`."""
    axes = array.ndim
    affine = np.eye(axes + 1)
    affine[:3, :3] = (_RAS_TO_LPS @ geometry.affine)[:3, :3]
    origin = np.zeros(axes)
    origin[:3] = (_RAS_TO_LPS @ geometry.affine)[:3, 3]
    spacing = np.linalg.norm(affine[:axes, :axes], axis=0)
    fields = {
        "ObjectType": "Image",
        "NDims": str(axes),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(not _LITTLE),
        "CompressedData": "True",
        "CompressedDataSize": "0" * _DIGITS,
        "TransformMatrix": _spaced((affine[:axes, :axes] / spacing).T.ravel().tolist()),
        "Offset": _spaced(origin.tolist()),
        "ElementSpacing": _spaced(spacing.tolist()),
        "DimSize": _spaced(array.shape),
        "ElementType": _type_name(path, array, _META_TYPES),
        "ElementDataFile": "LOCAL",
    }
    header = "".join(f"{name} = {value}\n" for name, value in fields.items()).encode()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        file.writelines(zlib_stream(stored_portions(array), usable_cores()))
        size = file.tell() - len(header)
        file.seek(header.index(b"0" * _DIGITS))
        file.write(b"%0*d" % (_DIGITS, size))


def _type_name(path: Path, array: NDArray[Any], names: dict[str, str]) -> str:
    name = names.get(f"{array.dtype.kind}{array.dtype.itemsize}")
    if name is None:
        raise FileFormatError(
            f"cannot hold voxels of {array.dtype}",
            where=path,
            expected="integers of up to 32 bits, or floats",
            remedy="convert them first",
        )
    return name


def _vector(values: NDArray[np.float64]) -> str:
    return f"({','.join(map(repr, values.tolist()))})"


def _spaced(values: Sequence[float]) -> str:
    return " ".join(map(repr, values))
