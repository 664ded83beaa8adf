"""What MONAI's transforms do to the intensities of a scan, one class for each.

Arithmetic is that of MONAI 1.6, in float32; moments are summed up in float64.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vol3dseg.schema import Count, Frozen, Millimetres, Positive, Real
from vol3dseg.space.torch_sampling import Precision

Images = NDArray[np.float32]  # (channel, i, j, k)
_Side = Annotated[Count, Field(le=2**15)]


class TurnToRAS(Frozen):
    """`Orientationd` to RAS."""

    step: Literal["orientation"] = "orientation"

    def __str__(self) -> str:
        return "axes closest to RAS"


class Resample(Frozen):
    """`Spacingd`, bilinear: from the centre of the first voxel on, nothing is widened.

    Attributes
    ----------
    spacing_mm : (3,) tuple of float
        Along the axes as they are by then [mm].
    precision : "float64" or "float32"
        What it is computed with.
    """

    step: Literal["spacing"] = "spacing"
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres]
    precision: Precision = "float64"

    def __str__(self) -> str:
        sides = " x ".join(f"{side:g}" for side in self.spacing_mm)
        return f"spacing {sides} mm"


class CropToPositive(Frozen):
    """`CropForegroundd`: the box of what is above 0 in any channel, in that step of preparing.

    Attributes
    ----------
    margin : (3,) tuple of int
        Voxels around it.
    divisible : (3,) tuple of int
        What its sides are multiples of; it grows on both sides for that.
    inside : bool
        Whether margins end with the scan. If not, zeros lie beyond.
    """

    step: Literal["crop"] = "crop"
    margin: tuple[_Side, _Side, _Side] = (0, 0, 0)
    divisible: tuple[Positive, Positive, Positive] = (1, 1, 1)
    inside: bool = False

    def __str__(self) -> str:
        return "crop to what is above 0"


class ScaleRange(Frozen):
    """`ScaleIntensityRanged`: one range becomes another.

    Attributes
    ----------
    low, high : float
        The range as it is.
    to_low, to_high : float or None
        What it becomes; 0 to 1, without limits, where there is none.
    clip : bool
        Whether what lies beyond is limited to it.
    """

    step: Literal["scale_range"] = "scale_range"
    low: Real
    high: Real
    to_low: Real | None = None
    to_high: Real | None = None
    clip: bool = False

    @model_validator(mode="after")
    def _a_range(self) -> "ScaleRange":
        if self.low == self.high:
            raise ValueError(f"a range from {self.low:g} to {self.high:g} has no width")
        if (self.to_low is None) != (self.to_high is None):
            raise ValueError("a range has two ends, or none")
        if self.clip and self.to_low is None:
            raise ValueError("nothing says what to limit to")
        return self

    def __str__(self) -> str:
        ends = (0.0, 1.0) if self.to_low is None else (self.to_low, self.to_high)
        return f"{self.low:g} to {self.high:g} become {ends[0]:g} to {ends[1]:g}" + (
            ", limited" if self.clip else ""
        )

    def apply(self, images: Images) -> None:
        """Scale in place."""
        images -= np.float32(self.low)
        images /= np.float32(self.high - self.low)
        if self.to_low is not None and self.to_high is not None:
            images *= np.float32(self.to_high - self.to_low)
            images += np.float32(self.to_low)
            if self.clip:
                np.clip(images, np.float32(self.to_low), np.float32(self.to_high), out=images)


class ScaleOwnRange(Frozen):
    """`ScaleIntensityd`: a scan's own range becomes another.

    Attributes
    ----------
    to_low, to_high : float
    channel_wise : bool
        Whether each channel's own range counts, or that of all together.
    """

    step: Literal["scale"] = "scale"
    to_low: Real = 0.0
    to_high: Real = 1.0
    channel_wise: bool = False

    def __str__(self) -> str:
        each = ", each channel by itself" if self.channel_wise else ""
        return f"its range becomes {self.to_low:g} to {self.to_high:g}{each}"

    def apply(self, images: Images) -> None:
        """Scale in place."""
        for part in images if self.channel_wise else [images]:
            least, most = part.min(), part.max()
            if least == most:
                part *= np.float32(self.to_low)
                continue
            part -= least
            part /= most - least
            part *= np.float32(self.to_high - self.to_low)
            part += np.float32(self.to_low)


class Standardise(Frozen):
    """`NormalizeIntensityd`: subtract a mean and divide by a deviation.

    Attributes
    ----------
    subtrahend, divisor : tuple of float
        In place of those of the scan: one for all channels, or one for each with `channel_wise`;
        empty for its own.
    nonzero : bool
        Whether zeros neither count nor change.
    channel_wise : bool
        Whether each channel is treated by itself.
    """

    step: Literal["standardise"] = "standardise"
    subtrahend: tuple[Real, ...] = Field(default=(), max_length=64)
    divisor: tuple[Real, ...] = Field(default=(), max_length=64)
    nonzero: bool = False
    channel_wise: bool = False

    def __str__(self) -> str:
        of = "what is not zero" if self.nonzero else "all voxels"
        by = "given numbers" if self.subtrahend or self.divisor else "mean and deviation"
        return f"{by} of {of}" + (", each channel by itself" if self.channel_wise else "")

    def apply(self, images: Images) -> None:
        """Standardise in place."""
        for number, part in enumerate(images if self.channel_wise else [images]):
            self._apply(part, number)

    def _apply(self, part: Images, number: int) -> None:
        inside = part != 0 if self.nonzero else None
        values = part if inside is None else part[inside]
        if not values.size:
            return
        mean = self.subtrahend[number] if self.subtrahend else values.mean(dtype=np.float64)
        deviation = self.divisor[number] if self.divisor else _deviation(values)
        values -= np.float32(mean)
        values /= np.float32(deviation or 1.0)
        if inside is not None:
            part[inside] = values


def _deviation(values: Images) -> float:
    """Return the standard deviation in float64, without all values in that type at once."""
    mean, total = values.mean(dtype=np.float64), 0.0
    portions = np.nditer(
        values, flags=["external_loop", "buffered"], op_flags=["readonly"], op_dtypes=["float64"]
    )
    with portions:
        for portion in portions:
            total += float(np.square(portion - mean).sum())
    return float(np.sqrt(total / values.size))


MonaiStep = Annotated[
    TurnToRAS | Resample | CropToPositive | ScaleRange | ScaleOwnRange | Standardise,
    Field(discriminator="step"),
]
