"""Intensities of one modality, brought to a common scale."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator


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
        inside = array != 0 if self.mask == "nonzero" else np.ones(array.shape, dtype=bool)
        values = array[inside]
        if values.size == 0:
            return np.zeros_like(array)
        if self.clip_percentiles is not None:
            values = np.clip(values, *np.percentile(values, self.clip_percentiles))
        mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        result = np.zeros_like(array)
        result[inside] = (values - mean) / max(deviation, 1e-8)
        return result


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

    def __call__(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the normalised (i, j, k) array."""
        scaled = (array - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.clip(scaled, 0, 1, out=scaled)


Normalisation = Annotated[ZScore | Window, Field(discriminator="method")]
