"""Voxels of DICOM files: refused before anything is allocated, or decoded frame by frame."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.dicom.dicom_file import parsing
from vol3dseg.formats.dicom.stored_bits import check_bits, own_bits
from vol3dseg.formats.limits import MOST_INFLATED, require_memory
from vol3dseg.formats.streams import damaged

_MOST_PACKED = 4096  # voxel bytes that a byte of a compressed file is believed to hold


def check_pixel_data(header: Any, path: Path) -> None:
    """Refuse (FileFormatError) voxels that cannot be decoded, or that a file has no room for."""
    palette = "PALETTE" in str(header.get("PhotometricInterpretation", ""))
    if int(header.get("SamplesPerPixel", 1)) != 1 or palette:
        raise FileFormatError(
            "holds colours",
            where=path,
            expected="one grey value in each voxel",
            remedy="choose another series",
        )
    _check_decoder(header.file_meta.TransferSyntaxUID, path)
    check_bits(header, path)
    _check_room(header, path)


def _check_decoder(syntax: Any, path: Path) -> None:
    from pydicom.pixels import get_decoder

    try:
        available = not syntax.is_encapsulated or get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):  # unknown, or no transfer syntax at all
        available = False
    if not available:
        name = syntax.name if syntax.name != syntax else "in an unknown way"
        raise FileFormatError(
            f"is compressed ({name})",
            where=path,
            expected="a compression that an installed decoder reads, or none",
            remedy="install a decoder with: pip install 'pylibjpeg[all]', or store the series "
            "uncompressed",
        )


def _check_room(header: Any, path: Path) -> None:
    frames, rows, columns = _shape(header)
    if min(frames, rows, columns) < 1:
        found = f"header says {frames} frames of {rows} x {columns} voxels"
        raise damaged(found, path, "at least one of each")
    syntax, room = header.file_meta.TransferSyntaxUID, path.stat().st_size
    if syntax.is_deflated:
        room = MOST_INFLATED
    elif syntax.is_encapsulated:
        room *= _MOST_PACKED
    claimed = _stored_bytes(header)
    if claimed > room:
        found = f"header promises {claimed} bytes of voxels, the file can hold at most {room}"
        raise damaged(f"truncated: {found}", path)
    require_memory((rows, columns), path)  # of one frame, which a decoder sets aside


def _shape(header: Any) -> tuple[int, int, int]:
    return int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns)


def _stored_bytes(header: Any) -> int:
    frames, rows, columns = _shape(header)
    return (frames * rows * columns * int(header.BitsAllocated) + 7) // 8


def decode(dataset: Any, frames: Sequence[int], path: Path) -> Iterator[NDArray[Any]]:
    """Decode frames of a file, counted from 0, in the order asked for; threads may share it.

    Gives (rows, columns) arrays of the values as stored, without bits that do not belong to them.
    FileFormatError: the voxels are truncated or damaged.
    """
    decoded = _decoded(dataset, frames, path)
    while True:
        with parsing(path):  # not around the yield: warnings would be off for whoever goes on
            values = next(decoded, None)
        if values is None:
            return
        yield values


def _decoded(dataset: Any, frames: Sequence[int], path: Path) -> Iterator[NDArray[Any]]:
    from pydicom.pixels import iter_pixels

    check_pixel_data(dataset, path)
    native = not dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if native:
        _check_complete(dataset, path)
    if native and int(dataset.BitsAllocated) == 1:
        yield from (_bits(dataset, frame) for frame in frames)
        return
    shape = _shape(dataset)[1:]
    # pydicom would drop bits of some transfer syntaxes, and those above the lowest alone.
    found = iter_pixels(dataset, indices=list(frames), raw=True, correct_unused_bits=False)
    for frame, stored in zip(frames, found, strict=True):
        if stored.shape != shape:
            raise damaged(f"a frame of {stored.shape}", path, f"{shape}, as the header says")
        yield own_bits(stored, dataset, frame, path)


def _check_complete(dataset: Any, path: Path) -> None:
    kinds = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    content = next((dataset[kind].value for kind in kinds if kind in dataset), b"")
    lacking = _stored_bytes(dataset) - len(content or b"")
    if lacking > 0:
        raise damaged(f"truncated: {lacking} bytes of its voxels are missing", path)


def _bits(dataset: Any, frame: int) -> NDArray[np.uint8]:
    """Return a frame of single bits, which pydicom takes to begin at a whole byte: it may not."""
    _, rows, columns = _shape(dataset)
    start, stop = frame * rows * columns, (frame + 1) * rows * columns
    content = np.frombuffer(dataset.PixelData[start // 8 : (stop + 7) // 8], np.uint8)
    bits = np.unpackbits(content, bitorder="little")[start % 8 :]
    return bits[: rows * columns].reshape(rows, columns)
