"""Normalisation by mean and standard deviation, as for MR.

Both are taken in float64, as is the division, here and in a graph; the result is float32.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vol3dseg.recipe.normalisation import Image, NormalisationStep, Scale
from vol3dseg.recipe.percentiles import percentiles, write_percentile
from vol3dseg.schema import Amount
from vol3dseg.space.memory_layout import contiguous, in_portions

if TYPE_CHECKING:
    from vol3dseg.recipe.graph_values import Value

Percent = Annotated[Amount, Field(le=100)]
_GROUP = 2**16  # values whose moments are taken at once: as float64 they stay in the cache
_ROWS = 16  # at once, at least: the cache lines of files whose first axis is the fastest
# Of the mean: a smaller deviation is rounding. float32 takes larger steps, so it spares any image
# that is not constant, whatever its unit.
_LEAST = 1e-9


class ZScore(NormalisationStep):
    """Subtract the mean and divide by the standard deviation, both taken inside a mask.

    A constant image becomes 0 everywhere.

    Attributes
    ----------
    mask : "nonzero" or "all"
        Which voxels count. With "nonzero" the others stay 0: they are outside the body or brain.
    clip_percentiles : (2,) tuple of float or None
        Limit intensities to these percentiles inside the mask first [%].
    """

    method: Literal["zscore"] = "zscore"
    mask: Literal["nonzero", "all"] = "nonzero"
    clip_percentiles: tuple[Percent, Percent] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "ZScore":
        if self.clip_percentiles is not None:
            low, high = self.clip_percentiles
            if not low < high:
                raise ValueError(f"clip_percentiles {[low, high]} must rise")
        return self

    @property
    def ignores_zeros(self) -> bool:
        """Whether only what is not zero counts."""
        return self.mask == "nonzero"

    def fitted(self, image: Image) -> Scale:
        """Return what normalises this (i, j, k) image."""
        limits = None
        if self.clip_percentiles is not None:
            limits = percentiles(lambda: self._groups(image), self.clip_percentiles)
        mean, deviation = _moments(self._groups(image, limits))

        def scale(voxels: Image) -> Image:
            result = np.empty_like(voxels)
            for ours, theirs in in_portions(result, voxels):
                values = theirs if limits is None else np.clip(theirs, *limits)
                ours[:] = (values - mean) / deviation
                if self.ignores_zeros:
                    np.putmask(ours, theirs == 0, 0)
            return result

        return scale

    def _groups(self, image: Image, limits: NDArray[np.float64] | None = None) -> Iterator[Image]:
        """Give the values inside the mask, in groups that do not depend on what is outside."""
        waiting: Image = np.empty(0, dtype=np.float32)
        step = max(_ROWS, _GROUP // max(1, image[:1].size))
        for start in range(0, image.shape[0], step):
            for (values,) in in_portions(contiguous(image[start : start + step])):
                inside = values[values != 0] if self.ignores_zeros else values
                found = inside if limits is None else np.clip(inside, *limits)
                waiting = np.concatenate([waiting, found])
                whole = waiting.size - waiting.size % _GROUP
                if whole:
                    yield from np.split(waiting[:whole], whole // _GROUP)
                    waiting = waiting[whole:]
        if waiting.size:
            yield waiting

    def write(self, fitted: "Value", image: "Value") -> "Value":
        """Append the same to a graph."""
        mask = fitted.differs(0) if self.ignores_zeros else None

        def inside(values: "Value") -> "Value":
            return mask.where(values, 0) if mask else values

        limits = self._write_limits(fitted, mask)
        size = mask.to(np.int32).total() if mask else fitted.then("Size", dtype=np.int64)
        count = size.to(np.float64).at_least(1)
        values = _limited(fitted, limits)
        mean = inside(values).total() / count
        centred = inside(values - mean)
        variance = (centred * centred).total() / count
        least = mean * mean * _LEAST**2
        varies = least.then("Less", variance, dtype=np.bool_)
        deviation = varies.where(variance, np.inf).then("Sqrt")
        if fitted is not image:
            centred = _limited(image, limits) - mean
        return (centred / deviation).to(np.float32)

    def _write_limits(self, fitted: "Value", mask: "Value | None") -> list["Value"]:
        if self.clip_percentiles is None:
            return []
        values = fitted.flat()
        if mask:
            values = values.then("Compress", mask.flat())
            # A single zero stands for an image of zeros, of which no element could be taken.
            none = values.shape().then("Equal", 0, dtype=np.bool_).to(np.int64)
            zero = fitted.graph.constant([0], np.float32)
            start = fitted.graph.constant([0])
            values = values.joined(zero.part(start, none, (0,)), axis=0)
        return [write_percentile(values, percent) for percent in self.clip_percentiles]

    def example(self, normalised: Image) -> Image:
        """Return intensities of an MR image, with zeros where `normalised` has them."""
        raw = normalised * np.float32(100) + np.float32(1000)
        return np.where(normalised == 0, np.float32(0), raw) if self.ignores_zeros else raw


def _limited(image: "Value", limits: list["Value"]) -> "Value":
    """Return an image as float64, within the limits if there are any."""
    wide = image.to(np.float64)
    return wide.at_least(limits[0]).at_most(limits[1]) if limits else wide


def _moments(groups: Iterator[Image]) -> tuple[np.float64, np.float64]:
    """Return mean and standard deviation, of groups joined by Chan, Golub and LeVeque (1979).

    The deviation of a constant image is infinite, so that what is divided by it becomes 0.
    """
    count, mean, squares = 0, np.float64(0), np.float64(0)
    for values in groups:
        own = np.add.reduce(values, dtype=np.float64) / values.size
        apart = values - own
        away, total = own - mean, count + values.size
        squares += np.add.reduce(apart * apart) + away * away * count * values.size / total
        mean += away * values.size / total
        count = total
    variance = squares / max(count, 1)
    return mean, np.sqrt(variance if variance > mean * mean * _LEAST**2 else np.float64(np.inf))
