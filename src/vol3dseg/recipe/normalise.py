"""Intensities of one modality, brought to a common scale."""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vol3dseg.recipe.percentiles import percentiles
from vol3dseg.schema import Frozen
from vol3dseg.space.box import Box
from vol3dseg.space.memory_layout import contiguous, copy_voxels, in_portions

# Normalises voxels of one image, one by one; they may have any shape.
Scale = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_GROUP = 2**16  # values whose moments are taken at once: as float64 they stay in the cache
_ROWS = 16  # at once, at least: the cache lines of files whose first axis is the fastest


class ZScore(Frozen):
    """Subtract the mean and divide by the standard deviation, both taken inside a mask.

    Attributes
    ----------
    mask : "nonzero" or "all"
        Which voxels count. With "nonzero" the others stay 0: they are outside the body or brain.
    clip_percentiles : (2,) tuple of float or None
        Limit intensities to these percentiles inside the mask first [%].
    """

    method: Literal["zscore"] = "zscore"
    mask: Literal["nonzero", "all"] = "nonzero"
    clip_percentiles: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "ZScore":
        if self.clip_percentiles is not None:
            low, high = self.clip_percentiles
            if not 0 <= low < high <= 100:
                raise ValueError("clip_percentiles must rise within 0 to 100")
        return self

    def fitted(self, array: NDArray[np.float32]) -> Scale:
        """Return what normalises this (i, j, k) image; a constant one becomes 0 everywhere."""
        limits = None
        if self.clip_percentiles is not None:
            limits = percentiles(lambda: self._groups(array), self.clip_percentiles)
        mean, deviation = _moments(self._groups(array, limits))

        def scale(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
            result = np.empty_like(voxels)
            for ours, theirs in in_portions(result, voxels):
                values = theirs if limits is None else np.clip(theirs, *limits)
                ours[:] = (values - mean) / deviation
                if self.mask == "nonzero":
                    np.putmask(ours, theirs == 0, 0)
            return result

        return scale

    @property
    def ignores_zeros(self) -> bool:
        """Whether an image may be cropped to what is not zero first, without any other result."""
        return self.mask == "nonzero"

    def _groups(
        self, array: NDArray[np.float32], limits: NDArray[np.float64] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Give the values inside the mask, in groups that do not depend on what is outside."""
        waiting: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        step = max(_ROWS, _GROUP // max(1, array[:1].size))
        for start in range(0, array.shape[0], step):
            for (values,) in in_portions(contiguous(array[start : start + step])):
                inside = values[values != 0] if self.mask == "nonzero" else values
                found = inside if limits is None else np.clip(inside, *limits)
                waiting = np.concatenate([waiting, found])
                whole = waiting.size - waiting.size % _GROUP
                if whole:
                    yield from np.split(waiting[:whole], whole // _GROUP)
                    waiting = waiting[whole:]
        if waiting.size:
            yield waiting


def _moments(groups: Iterator[NDArray[np.float32]]) -> tuple[np.float64, np.float64]:
    """Return mean and standard deviation, of groups joined by Chan, Golub and LeVeque (1979).

    The deviation is at least 1e-8, so that constant images can be divided by it.
    """
    count, mean, squares = 0, np.float64(0), np.float64(0)
    for values in groups:
        own = np.add.reduce(values, dtype=np.float64) / values.size
        apart = values - own
        away, total = own - mean, count + values.size
        squares += np.add.reduce(apart * apart) + away * away * count * values.size / total
        mean += away * values.size / total
        count = total
    return mean, np.float64(max(np.sqrt(squares / max(count, 1)), 1e-8))


class Window(Frozen):
    """Map a fixed window of intensities to 0 to 1 and cut what lies beyond, as for CT.

    Attributes
    ----------
    low, high : float
        The window's ends [units of the image, HU for CT].
    """

    method: Literal["window"]
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "Window":
        if not self.low < self.high:
            raise ValueError("low must be smaller than high")
        return self

    @property
    def ignores_zeros(self) -> bool:
        """Whether an image may be cropped to what is not zero first, without any other result."""
        return True

    def fitted(self, array: NDArray[np.float32]) -> Scale:
        """Return what normalises an image: any, since the window is fixed."""
        low, width = np.float32(self.low), np.float32(self.high - self.low)

        def scale(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
            result = np.empty_like(voxels)
            for ours, theirs in in_portions(result, voxels):
                np.clip((theirs - low) / width, 0, 1, out=ours)
            return result

        return scale


Normalisation = Annotated[ZScore | Window, Field(discriminator="method")]


def normalise_part(
    box: Box, step: Normalisation, image: NDArray[np.float32], target: NDArray[np.float32]
) -> None:
    """Put the part of an image inside `box` into `target`, normalised as the whole image is."""
    copy_voxels(target, image[box.slices])
    scale = step.fitted(target if step.ignores_zeros else image)
    for (voxels,) in in_portions(target):
        voxels[:] = scale(voxels)
