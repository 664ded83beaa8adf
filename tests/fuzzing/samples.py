"""Small whole files of the formats that are read by `formats.open_volume`."""

import gzip
import zlib

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from tests.fuzzing.sample import NAME, Sample

SHAPE = (5, 4, 3)
_AFFINE = np.array([[-1.5, 0, 0, 20], [0, 2, 0, -30], [0, 0, 2.5, 10], [0, 0, 0, 1]])


def voxels(dtype: str = "<i2", shape: tuple[int, ...] = SHAPE) -> NDArray[np.generic]:
    """Return an image of small whole numbers, which a label map can be made of as well."""
    return (np.arange(np.prod(shape)) % 3).reshape(shape).astype(dtype)


def nifti_samples() -> tuple[Sample, ...]:
    """NIfTI-1 and -2, single and pair, plain and gzip, of several types of voxels."""
    plain = _nifti(nib.Nifti1Header, voxels())
    scaled = _nifti(nib.Nifti1Header, voxels("u1"), slope=0.5)
    floats = _nifti(nib.Nifti1Header, voxels("<f4"))
    big = _nifti(nib.Nifti1Header, voxels(">i2"))
    second = _nifti(nib.Nifti2Header, voxels("<f8"))
    volumes = _nifti(nib.Nifti1Header, voxels("<u2", (*SHAPE, 2)))
    header, content = _nifti(nib.Nifti1Header, voxels(), paired=True), voxels().tobytes("F")
    header2 = _nifti(nib.Nifti2Header, voxels(), paired=True)
    return (
        *_single("nifti-1", plain),
        *_single("nifti-1 scaled", scaled),
        *_single("nifti-1 float", floats),
        *_single("nifti-1 big-endian", big),
        *_single("nifti-1 of two volumes", volumes),
        *_single("nifti-2", second),
        Sample("nifti-1 pair", {"a.hdr": header, "a.img": content}, "a.hdr"),
        Sample("nifti-2 pair", {"a.hdr": header2, "a.img": content}, "a.img"),
        Sample(
            "nifti-1 pair, gzip", {"a.hdr.gz": _gz(header), "a.img.gz": _gz(content)}, "a.img.gz"
        ),
    )


def _single(name: str, content: bytes) -> tuple[Sample, Sample]:
    return (
        Sample(name, {"a.nii": content}, "a.nii"),
        Sample(f"{name}, gzip", {"a.nii.gz": _gz(content)}, "a.nii.gz"),
    )


def _gz(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _nifti(
    kind: type[nib.Nifti1Header],
    array: NDArray[np.generic],
    slope: float = 1,
    paired: bool = False,
) -> bytes:
    """Return a file in one piece, or the header of a pair; a name stands in every text."""
    header = kind(endianness=">" if array.dtype.str.startswith(">") else "<")
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_sform(_AFFINE, code=1)
    header.set_qform(_AFFINE, code=1)
    header.set_slope_inter(slope, 0)
    for field in ("descrip", "aux_file", "intent_name"):
        header[field] = NAME.encode()
    if paired:
        header["magic"] = header.pair_magic
        return bytes(header.binaryblock)
    start = len(header.binaryblock) + 4
    header["vox_offset"] = start
    return bytes(header.binaryblock) + bytes(4) + array.tobytes("F")


def nrrd_samples() -> tuple[Sample, ...]:
    """NRRD, raw and gzip, attached and detached."""
    content = voxels().tobytes("F")
    detached = _nrrd("raw", f"data file: {'a.raw'}\n")
    return (
        Sample("nrrd", {"a.nrrd": _nrrd("raw") + content}, "a.nrrd"),
        Sample("nrrd, gzip", {"a.nrrd": _nrrd("gzip") + _gz(content)}, "a.nrrd"),
        Sample("nrrd, detached", {"a.nhdr": detached, "a.raw": content}, "a.nhdr"),
    )


def _nrrd(encoding: str, more: str = "") -> bytes:
    lines = (
        "NRRD0005",
        f"# {NAME}",
        "type: int16",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, SHAPE))}",
        "space directions: (1.5,0,0) (0,2,0) (0,0,2.5)",
        "kinds: domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        "space origin: (-20,30,10)",
        f"content: {NAME}",
        f"{more}PatientName:={NAME}",
    )
    return "\n".join(lines).encode() + b"\n\n"


def metaimage_samples() -> tuple[Sample, ...]:
    """MetaImage, raw and zlib, attached and detached."""
    content = voxels().tobytes("F")
    packed = zlib.compress(content)
    said = f"CompressedDataSize = {len(packed)}\n"
    return (
        Sample("mha", {"a.mha": _metaimage("LOCAL", False) + content}, "a.mha"),
        Sample("mha, zlib", {"a.mha": _metaimage("LOCAL", True, said) + packed}, "a.mha"),
        Sample("mhd", {"a.mhd": _metaimage("a.raw", False), "a.raw": content}, "a.mhd"),
    )


def _metaimage(data: str, packed: bool, more: str = "") -> bytes:
    return (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = {packed}\n{more}Comment = {NAME}\nName = {NAME}\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -20 30 10\nCenterOfRotation = 0 0 0\n"
        f"AnatomicalOrientation = RAI\nElementSpacing = 1.5 2 2.5\n"
        f"DimSize = {' '.join(map(str, SHAPE))}\nElementType = MET_SHORT\n"
        f"ElementDataFile = {data}\n"
    ).encode()
