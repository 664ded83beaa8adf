"""A small scan that travels in a model file, with the labels that must come of it.

On another machine, without the framework that trained the network, `vol3dseg info --replay` then
tells whether preparing, the runtime and restoring do there what they did where it was adopted.
"""

import base64
import binascii
import math
import zlib
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vol3dseg.errors import ModelError
from vol3dseg.schema import Frozen, Real, Sides
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.volume import Volume

METADATA_KEY = "vol3dseg.replay"
_MOST_NUMBERS = 2**20  # voxels of all images: a megabyte or two
_Kind = Literal["int16", "float32"]
_Row = tuple[Real, Real, Real, Real]


class ReplayCase(Frozen):
    """A scan and its labels, packed.

    Attributes
    ----------
    said_by : "framework" or "vol3dseg"
        Whose labels they are: of the framework that trained the network, or, where that was not at
        hand, what the deployed model itself gave where it was adopted.
    shape : (3,) tuple of int
    affine : (4, 4) tuple of float
        As in `Geometry`.
    kind : "int16" or "float32"
        Of the intensities, little-endian; int16 where that holds them exactly.
    images : str
        (c, i, j, k) numbers in the order of the model's modalities: zlib, base64.
    labels : str
        (i, j, k) class indices of a byte each: likewise.
    """

    version: Literal[1] = 1
    said_by: Literal["framework", "vol3dseg"]
    shape: Sides
    affine: tuple[_Row, _Row, _Row, _Row]
    kind: _Kind
    images: Annotated[str, Field(max_length=2**23)]
    labels: Annotated[str, Field(max_length=2**22)]

    @model_validator(mode="after")
    def _small(self) -> "ReplayCase":
        if math.prod(self.shape) > _MOST_NUMBERS:
            raise ValueError(f"has {math.prod(self.shape)} voxels of at most {_MOST_NUMBERS}")
        return self

    def volume(self, modalities: tuple[str, ...]) -> Volume:
        """Return the scan; ModelError: it is damaged, or not of so many modalities."""
        shape = (len(modalities), *self.shape)
        if math.prod(shape) > _MOST_NUMBERS:
            raise _damaged(f"has {math.prod(shape)} numbers of at most {_MOST_NUMBERS}")
        array = _unpacked(self.images, np.dtype(self.kind).newbyteorder("<"), shape)
        channels = np.moveaxis(array.astype(np.float32), 0, -1)
        return Volume(channels, Geometry(self.shape, self.affine), modalities)

    def segmentation(self, labels: LabelSet) -> Segmentation:
        """Return the labels that must come of it; ModelError: they are damaged."""
        array = _unpacked(self.labels, np.dtype(np.uint8), self.shape)
        if array.max(initial=0) >= len(labels.classes):
            raise _damaged(f"holds class {array.max()} of {len(labels.classes)}")
        return Segmentation(array, Geometry(self.shape, self.affine), labels)


def pack(
    volume: Volume, segmentation: Segmentation, said_by: Literal["framework", "vol3dseg"]
) -> ReplayCase:
    """Return a scan with its labels as they are kept in a model file; see `small_part`."""
    channels = np.moveaxis(volume.array, -1, 0)
    whole = np.abs(channels).max(initial=0) < 2**15 and np.array_equal(channels, channels.round())
    kind: _Kind = "int16" if whole else "float32"
    first, second, third, fourth = (tuple(row) for row in volume.geometry.affine.tolist())
    return ReplayCase(
        said_by=said_by,
        shape=volume.geometry.shape,
        affine=(first, second, third, fourth),
        kind=kind,
        images=_packed(channels.astype(np.dtype(kind).newbyteorder("<"))),
        labels=_packed(segmentation.array),
    )


def small_part(volume: Volume, segmentation: Segmentation) -> Box:
    """Return the part of a scan that is small enough to be kept: all, or a box amid its labels."""
    shape, channels = volume.geometry.shape, len(volume.modalities)
    side = int((_MOST_NUMBERS / channels) ** (1 / 3))
    if math.prod(shape) * channels <= _MOST_NUMBERS:
        return Box.whole(shape)
    found = Box.around(segmentation.array > 0) or Box.whole(shape)
    starts, stops = [], []
    for low, high, n in zip(found.start, found.stop, shape, strict=True):
        length = min(side, n)
        start = min(max(0, (low + high - length) // 2), n - length)
        starts.append(start)
        stops.append(start + length)
    return Box(_triple(starts), _triple(stops))


def cropped(volume: Volume, box: Box) -> Volume:
    """Return the part of a scan that lies in a box."""
    grid = volume.geometry.cropped(box)
    return Volume(np.ascontiguousarray(volume.array[box.slices]), grid, volume.modalities)


def _triple(values: list[int]) -> Shape:
    i, j, k = values
    return i, j, k


def _packed(array: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()


def _unpacked(text: str, kind: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return what was packed; never more of it than its shape needs."""
    size = math.prod(shape) * kind.itemsize
    try:
        reader = zlib.decompressobj()
        content = reader.decompress(base64.b64decode(text, validate=True), size + 1)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise _damaged(str(error)) from error
    if len(content) != size or not reader.eof:
        raise _damaged(f"does not hold {size} bytes")
    return np.frombuffer(content, kind).reshape(shape)


def _damaged(found: str) -> ModelError:
    return ModelError(
        f"the case to replay {found}",
        expected="what vol3dseg adopt has packed",
        remedy="adopt the model again",
    )
