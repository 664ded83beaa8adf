"""The values of a label map, before anybody says what they mean."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import LabelError
from vol3dseg.space.memory_layout import in_portions

_NOT_WHOLE = 1e-3  # that a float may be away from a whole number


def distinct(values: NDArray[Any]) -> list[int]:
    """Return the different values of an array of whole numbers, rising."""
    found: set[int] = set()
    for (part,) in in_portions(values):
        # Most of a label map is background, which needs no sorting.
        found.update(map(int, part[:1] if part.min() == part.max() else np.unique(part)))
    return sorted(found)


def whole_numbers(values: NDArray[Any], source: str) -> NDArray[Any]:
    """Return the values of a label map, rounded where they are floats up to 1e-3 from whole ones.

    The type stays: a label map of a byte a voxel shall not become one of eight. LabelError: a value
    is NaN, infinite or not whole.
    """
    if np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_:
        return values
    remedy, rounded = "export the labels again", np.rint(values)
    if not np.isfinite(values).all():
        found = "NaN or infinity"
    elif (off := np.abs(values - rounded) > _NOT_WHOLE).any():
        first = float(values[off][0])
        found = f"{first:.4g}, which is not a whole number ({off.sum()} such voxels)"
        remedy += ", with nearest-neighbour interpolation; or give a label map, if this is an image"
    else:
        return np.asarray(rounded)
    found = f"the label map holds {found}"
    raise LabelError(found, where=source, expected="whole numbers", remedy=remedy)
