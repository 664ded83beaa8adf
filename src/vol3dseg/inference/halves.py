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
_FEWER, _HALFWORD, _ONE = np.int32(13), np.int32(16), np.int32(1)
_HALF = np.float32(0.5)  # from here on, numbers of float32 are as far apart as float16's smallest
_SIZE, _SIGN = np.int32(0x7FFFFFFF), np.int32(-0x8000)  # all bits but the sign; the sign
_ROUNDING = np.int32(0xFFF - (112 << 23))  # half to even, with float16's exponent
_INFINITE = np.int32(0x7C00)
_VALUES = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


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


def unpack(codes: Codes) -> Array:
    """Return the numbers that are kept as bits of float16, in a new array."""
    return np.take(_VALUES, codes, mode="clip")


def pack(values: Array, codes: Codes) -> None:
    """Keep numbers as bits of float16, rounded as `round_to_half` does; of too large ones, as inf.

    Those below the least normal one are pushed up to where float32 has no more bits than float16
    has there; of the others, bits are rounded and the exponent is made smaller.
    """
    bits = values.view(np.int32)
    size = bits & _SIZE
    small = (size.view(np.float32) + _HALF).view(np.int32)
    small -= _HALF.view(np.int32)
    found = size >> _FEWER
    found &= _ONE
    found += size
    found += _ROUNDING
    found >>= _FEWER
    np.putmask(found, size < _LEAST_NORMAL.view(np.int32), small)
    np.minimum(found, _INFINITE, out=found)
    bits = bits >> _HALFWORD
    bits &= _SIGN
    found |= bits
    np.copyto(codes, found, casting="unsafe")
