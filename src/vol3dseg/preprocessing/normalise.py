"""Intensities of one modality, brought to a common scale."""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

_PORTION = 2**22  # values at once: float64 copies of a whole CT would take gigabytes


def _rows(array: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Give an array in parts of about a portion along i, each with its place."""
    step = max(1, _PORTION // max(1, array[:1].size))
    for start in range(0, array.shape[0], step):
        rows = slice(start, start + step)
        # Files have i fastest, so parts of their arrays are scattered; they are used several times.
        yield rows, np.ascontiguousarray(array[rows])


class ZScore(BaseModel):
    """Subtract the mean and divide by the standard deviation, both taken inside a mask.

    Attributes
    ----------
    mask : "nonzero" or "all"
        Which voxels count. With "nonzero" the others stay 0: they are outside the body or brain.
    clip_percentiles : (2,) tuple of float or None
        Limit intensities to these percentiles inside the mask first [%].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    def __call__(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the normalised (i, j, k) array; a constant image becomes 0 everywhere."""
        limits = None
        if self.clip_percentiles is not None:
            values = np.concatenate([*self._values(array), np.empty(0, np.float32)])
            limits = np.percentile(values, self.clip_percentiles) if values.size else None
        count, total, squares = 0, 0.0, 0.0
        for values in self._values(array, limits):
            count += values.size
            total += np.add.reduce(values, dtype=np.float64)
        if count == 0:
            return np.zeros_like(array)
        mean = total / count
        for values in self._values(array, limits):
            apart = values - mean
            squares += np.add.reduce(apart * apart)
        deviation = max(np.sqrt(squares / count), 1e-8)
        result = np.zeros(array.shape, dtype=np.float32)
        for rows, part in _rows(array):
            inside = self._inside(part)
            values = part[inside] if limits is None else np.clip(part[inside], *limits)
            result[rows][inside] = (values - mean) / deviation
        return result

    @property
    def ignores_zeros(self) -> bool:
        """Whether an image may be cropped to what is not zero first, without any other result."""
        return self.mask == "nonzero"

    def _inside(self, array: NDArray[np.float32]) -> NDArray[np.bool_]:
        return array != 0 if self.mask == "nonzero" else np.ones(array.shape, dtype=bool)

    def _values(
        self, array: NDArray[np.float32], limits: NDArray[np.float64] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Give the values inside the mask, in portions that do not depend on what is outside."""
        waiting: list[NDArray[np.float32]] = []
        for _, part in _rows(array):
            found = part[self._inside(part)]
            waiting.append(found if limits is None else np.clip(found, *limits))
            if sum(values.size for values in waiting) >= _PORTION:
                values = np.concatenate(waiting)
                whole = values.size - values.size % _PORTION
                yield from np.split(values[:whole], whole // _PORTION)
                waiting = [values[whole:]]
        if any(values.size for values in waiting):
            yield np.concatenate(waiting)


class Window(BaseModel):
    """Map a fixed window of intensities to 0 to 1 and cut what lies beyond, as for CT.

    Attributes
    ----------
    low, high : float
        The window's ends [units of the image, HU for CT].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    def __call__(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the normalised (i, j, k) array."""
        scaled = (array - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.clip(scaled, 0, 1, out=scaled)


Normalisation = Annotated[ZScore | Window, Field(discriminator="method")]
