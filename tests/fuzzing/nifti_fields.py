"""Harm done to one field of a NIfTI header."""

import struct
from random import Random
from typing import Any

import numpy as np
from nibabel.nifti1 import header_dtype as nifti1_fields
from nibabel.nifti2 import header_dtype as nifti2_fields

from tests.fuzzing.mutations import FLOATS
from tests.fuzzing.sample import Content

_FIELDS = {348: nifti1_fields, 540: nifti2_fields}
_TELLING = (
    *("dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "magic"),
    *("qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_y", "srow_z"),
)
_SMALL = (0, 1, -1, 2, 3, 4, 7, 8, 16, 64, 128, 512, 1024, 1536, 2304)  # types of voxels among them


def set_field(content: Content, rng: Random) -> None:
    """Set a field, or one number of it, to a value at its limit."""
    size = struct.unpack("<i", content[:4])[0] if len(content) >= 4 else 0
    if size not in _FIELDS or len(content) < size:
        return
    fields = _FIELDS[size]
    name = rng.choice(_TELLING if rng.random() < 0.7 else fields.names)
    base, offset = fields.fields[name]
    item = base.subdtype[0] if base.subdtype else base
    place = offset + item.itemsize * rng.randrange(base.itemsize // item.itemsize)
    content[place : place + item.itemsize] = _stored(item, rng)


def _stored(item: np.dtype[Any], rng: Random) -> bytes:
    if item.kind == "S":
        return rng.randbytes(item.itemsize)
    if item.kind == "f":
        return np.array(rng.choice(FLOATS), item).tobytes()
    limits = np.iinfo(item)
    value = rng.choice((limits.min, limits.max, *_SMALL))
    return np.array(min(max(value, limits.min), limits.max), item).tobytes()
