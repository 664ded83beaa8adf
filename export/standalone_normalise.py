"""Normalisation as nodes of ONNX, in the order and precision of numpy.

What `vol3dseg.recipe.normalise` computes: statistics and the division in float64, the result
in float32. Names of values are str; the operators are those of opset 17.
"""

import numpy as np
from onnx import TensorProto

from vol3dseg.export.graph_builder import GraphBuilder
from vol3dseg.recipe.normalise import Normalisation, Window, ZScore


def normalise(build: GraphBuilder, step: Normalisation, whole: str, cropped: str) -> str:
    """Normalise the cropped image of one modality.

    Parameters
    ----------
    build : GraphBuilder
    step : Normalisation
    whole : str
        (i, j, k) float32, as it came in.
    cropped : str
        The part of it inside the crop box.

    Returns
    -------
    str
        Of the shape of `cropped`, float32.
    """
    if isinstance(step, Window):
        return _window(build, step, cropped)
    # Outside the box are zeros only, which no mask of "nonzero" counts: the smaller array will do.
    return _zscore(build, step, cropped if step.mask == "nonzero" else whole, cropped)


def _window(build: GraphBuilder, step: Window, image: str) -> str:
    low, width = np.float32(step.low), np.float32(step.high - step.low)
    above = build.add("Sub", image, build.constant(low, np.float32))
    scaled = build.add("Div", above, build.constant(width, np.float32))
    ends = build.constant(0, np.float32), build.constant(1, np.float32)
    return build.add("Clip", scaled, *ends)


def _zscore(build: GraphBuilder, step: ZScore, counted: str, image: str) -> str:
    """Normalise `image` by mean and deviation of `counted`, inside the mask."""
    mask = nonzero(build, counted) if step.mask == "nonzero" else ""
    limits = _limits(build, step, counted, mask)
    count = _at_least(build, _count(build, counted, mask), 1)
    inside = _inside(build, _limited(build, counted, limits), mask)
    mean = build.add("Div", build.add("ReduceSum", inside, keepdims=0), count)
    centred = _inside(build, build.add("Sub", inside, mean), mask)
    square = build.add("ReduceSum", build.add("Mul", centred, centred), keepdims=0)
    deviation = build.add("Sqrt", build.add("Div", square, count))
    if counted != image:
        centred = build.add("Sub", _limited(build, image, limits), mean)
    scaled = build.add("Div", centred, _at_least(build, deviation, 1e-8))
    return build.add("Cast", scaled, to=TensorProto.FLOAT)


def _count(build: GraphBuilder, image: str, mask: str) -> str:
    """Return the voxels that count, as a float64."""
    if mask:
        ones = build.add("Cast", mask, to=TensorProto.INT32)
        size = build.add("ReduceSum", ones, keepdims=0)
    else:
        size = build.add("Size", image)
    return build.add("Cast", size, to=TensorProto.DOUBLE)


def _inside(build: GraphBuilder, values: str, mask: str) -> str:
    """Return float64 values with 0 outside the mask."""
    return build.add("Where", mask, values, build.constant(0, np.float64)) if mask else values


def _limits(build: GraphBuilder, step: ZScore, counted: str, mask: str) -> list[str]:
    """Return the two percentiles to clip to, as float64; none if the step does not clip."""
    if step.clip_percentiles is None:
        return []
    values = build.add("Reshape", counted, build.integers(-1))
    if mask:
        values = build.add("Compress", values, build.add("Reshape", mask, build.integers(-1)))
        # A single zero stands for an image of zeros, of which no element could be taken.
        none = build.add("Equal", build.add("Shape", values), build.integers(0))
        missing = build.add("Cast", none, to=TensorProto.INT64)
        zero = build.constant([0], np.float32)
        zeros = build.add("Slice", zero, build.integers(0), missing)
        values = build.add("Concat", values, zeros, axis=0)
    return [percentile(build, values, share) for share in step.clip_percentiles]


def percentile(build: GraphBuilder, values: str, percent: float) -> str:
    """Return what `numpy.percentile` does by default: linear between neighbours in order.

    The neighbours are found among the smallest or the largest values, whichever are fewer.

    Parameters
    ----------
    build : GraphBuilder
    values : str
        (n,) float32, n at least 1.
    percent : float
    """
    last = build.add("Sub", build.add("Shape", values), build.integers(1))
    share = build.constant(percent / 100, np.float64)
    place = build.add("Mul", build.add("Cast", last, to=TensorProto.DOUBLE), share)
    floor = build.add("Floor", place)
    below = build.add("Cast", floor, to=TensorProto.INT64)
    above = build.add("Min", build.add("Add", below, build.integers(1)), last)
    low, high = _ranked(build, values, below, above, last, percent > 50)
    # numpy subtracts in float32, and from the nearer of the two.
    apart = build.add("Cast", build.add("Sub", high, low), to=TensorProto.DOUBLE)
    low, high = (build.add("Cast", v, to=TensorProto.DOUBLE) for v in (low, high))
    weight = build.add("Sub", place, floor)
    rest = build.add("Sub", build.constant(1, np.float64), weight)
    from_low = build.add("Add", low, build.add("Mul", apart, weight))
    from_high = build.add("Sub", high, build.add("Mul", apart, rest))
    near_low = build.add("Less", weight, build.constant(0.5, np.float64))
    return build.add("Where", near_low, from_low, from_high)


def _ranked(
    build: GraphBuilder, values: str, below: str, above: str, last: str, from_top: bool
) -> tuple[str, str]:
    """Return the values at the places `below` and `above` of the ascending order."""
    if from_top:
        below, above = build.add("Sub", last, below), build.add("Sub", last, above)
    wanted = build.add("Add", build.add("Max", below, above), build.integers(1))
    ordered = build.add("TopK", values, wanted, unused=1, largest=int(from_top))
    return build.add("Gather", ordered, below), build.add("Gather", ordered, above)


def _limited(build: GraphBuilder, image: str, limits: list[str]) -> str:
    """Return an image as float64, cut to the limits if there are any."""
    wide = build.add("Cast", image, to=TensorProto.DOUBLE)
    if not limits:
        return wide
    return build.add("Min", build.add("Max", wide, limits[0]), limits[1])


def nonzero(build: GraphBuilder, image: str) -> str:
    """Mark the voxels of an image that are not 0."""
    return build.add("Not", build.add("Equal", image, build.constant(0, np.float32)))


def _at_least(build: GraphBuilder, value: str, least: float) -> str:
    return build.add("Max", value, build.constant(least, np.float64))
