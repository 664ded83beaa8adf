"""Which voxels of an image are not background, and whether its values are Hounsfield units."""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Inside = NDArray[np.bool_]
Window = tuple[float, float]

HOUNSFIELD = "HU"
SOFT_TISSUE: Window = (-160.0, 240.0)  # [HU]; what a CT is looked at in where nobody says otherwise
_AIR = -900.0  # [HU]; up to here: air, and what files hold where nothing was measured
_FLOORS = (-1000, -1024, -2000, -2048, -3024)  # what that is in most files [HU]
_FLOOR_SHARE = 0.001  # of all voxels that have the floor; of z-scores times 1000, one has
_NAMED = re.compile(r"(?<![a-z])(ct|cta|cect|ncct|cbct|ldct)(?![a-z])", re.IGNORECASE)
_WIDE = 100.0  # [HU]; what is named CT and has a narrower range was normalised
_COMMON = 0.1  # share of all voxels that have the smallest value: it is no tissue then
_SPIKE = 4  # times as many zeros as there are of the values next to it: they were set to that


class Scale(NamedTuple):
    """Between which values an image is looked at."""

    low: float
    high: float
    unit: str  # `HOUNSFIELD`; "" for that of the file; "sd" where the image itself sets the scale

    @property
    def fixed(self) -> bool:
        """Whether the scale is the same for all images."""
        return self.unit != SPREAD.unit

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} {self.unit}".strip()


SPREAD = Scale(-4.0, 8.0, "sd")  # of images without a unit
_CT = Scale(-1000.0, 1000.0, HOUNSFIELD)


def scale_of(array: Array, name: str, window: Window | None = None) -> Scale:
    """Return the scale of a modality's histogram: the window that it is normalised by, if any."""
    unit = HOUNSFIELD if in_hounsfield(array, name) else ""
    if window is not None:
        return Scale(*window, unit)
    return _CT if unit else SPREAD


def grey_scale(array: Array, inside: Inside, name: str, window: Window | None = None) -> Scale:
    """Return which values are shown as black and as white: the window, if one is given.

    That is the one for soft tissue in CT; else the percentiles 0.5 and 99.5 inside.
    """
    unit = HOUNSFIELD if in_hounsfield(array, name) else ""
    if window is not None or unit:
        return Scale(*(window or SOFT_TISSUE), unit)
    values = array[inside]
    low, high = np.percentile(values, (0.5, 99.5)).tolist() if values.size else (0.0, 1.0)
    return Scale(low, high, SPREAD.unit)


def in_hounsfield(array: Array, name: str) -> bool:
    """Tell whether an image is in Hounsfield units, by the name of its modality or its floor.

    A name alone does not do: what is called CT may have been normalised.
    """
    lowest = float(array.min())
    if lowest >= 0:
        return False
    if _NAMED.search(name):
        return bool(float(array.max()) - lowest > _WIDE)
    return lowest in _FLOORS and bool(np.mean(array == lowest) >= _FLOOR_SHARE)


def inside_of(array: Array, name: str) -> Inside:
    """Return the voxels of the modality `name` that are not background.

    Background of CT is air. Elsewhere it is 0, or the smallest value where that is commoner. Where
    0 is one value among others, as between negative and positive ones, it is none.
    """
    lowest = array.min()
    floor, zeros = np.count_nonzero(array == lowest), np.count_nonzero(array == 0)
    inside: Inside = np.ones(array.shape, dtype=bool)
    if in_hounsfield(array, name):
        inside = np.asarray(array > _AIR)
        if np.count_nonzero(inside) <= (1 - _COMMON) * array.size:
            return inside
    if floor >= _COMMON * array.size and floor > zeros:
        return np.asarray(inside & (array != lowest))
    if lowest >= 0 or _stands_out(array, int(zeros)):
        return np.asarray(inside & (array != 0))
    return inside


def _stands_out(array: Array, zeros: int) -> bool:
    """Tell whether there are far more zeros than there are of the values next to 0."""
    below = array.max(where=array < 0, initial=-np.inf)
    above = array.min(where=array > 0, initial=np.inf)
    beside = np.count_nonzero(array == below) + np.count_nonzero(array == above)
    return bool(zeros > _SPIKE * beside)
