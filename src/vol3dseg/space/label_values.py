"""Values of label maps, before a config gives them a meaning."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import LabelError
from vol3dseg.space.portions import in_portions


def distinct(values: NDArray[Any]) -> list[int]:
    """Return the different values of an array of whole numbers, rising."""
    found: set[int] = set()
    for (part,) in in_portions(values):
        if part.min() == part.max():  # most of a label map is background
            found.add(int(part[0]))
        else:
            found.update(int(value) for value in np.unique(part))
    return sorted(found)


def whole_numbers(values: NDArray[Any], source: str) -> NDArray[Any]:
    """Return the values of a label map, those that are floats rounded.

    Parameters
    ----------
    values : array
        Any numeric type; floats must be whole numbers up to 1e-3.
    source : str
        What the values come from, for the error message.

    Returns
    -------
    array, shape and type of `values`
        No wider type: a label map of a byte a voxel shall not become one of eight.

    Raises
    ------
    LabelError
        A value is NaN, infinite or not whole.
    """
    if np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_:
        return values
    if not np.isfinite(values).all():
        raise LabelError(
            "the label map holds NaN or infinity",
            where=source,
            expected="whole numbers",
            remedy="export the labels again",
        )
    rounded: NDArray[Any] = np.rint(values)
    off = np.abs(values - rounded) > 1e-3
    if off.any():
        raise LabelError(
            f"the label map holds {float(values[off][0]):.4g}, which is no whole number "
            f"({int(off.sum())} such voxels)",
            where=source,
            expected="whole numbers",
            remedy=(
                "export the labels again, with nearest-neighbour interpolation; or give a label "
                "map, if this is an image"
            ),
        )
    return rounded
