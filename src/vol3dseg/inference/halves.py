"""Numbers of float16 without numpy's conversion, which takes many times as long.

It is slowest of all for the small numbers of which blended tiles are full.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Codes = NDArray[np.uint16]  # bits of float16

_EXPONENT = np.int32(0x7F800000)  # bits of float32
_LEAST_NORMAL = np.float32(2.0**-14)  # of float16; below, numbers are as far apart as there
_SHIFT = np.float32(1.5 * 2.0**13)  # float32 has 13 bits more


def round_to_half(values: Array) -> Array:
    """Round to the nearest number of float16, of two the even one, in place.

    Numbers are pushed up to where float32 has no more bits than that.
    """
    power = (values.view(np.int32) & _EXPONENT).view(np.float32)
    np.maximum(power, _LEAST_NORMAL, out=power)
    power *= _SHIFT
    values += power
    values -= power
    return values
