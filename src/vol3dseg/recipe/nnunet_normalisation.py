"""How nnU-Net normalises one image, cropped to what is not zero in any.

Names and arithmetic are those of nnU-Net 2 (`default_normalization_schemes`): float32 throughout.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vol3dseg.schema import Amount, Frozen, Real


class CTWindow(Frozen):
    """`CTNormalization`: clip, then scale by the mean and deviation of the training data.

    Attributes
    ----------
    low, high : float
        Where intensities are clipped: percentiles 0.5 and 99.5 of the training data's foreground.
    mean, deviation : float
        Of the training data's foreground.
    """

    method: Literal["ct"]
    low: Real
    high: Real
    mean: Real
    deviation: Amount

    @model_validator(mode="after")
    def _ordered(self) -> "CTWindow":
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} must not be larger than high {self.high:g}")
        return self


class ZScoreOfScan(Frozen):
    """`ZScoreNormalization`: by the mean and deviation of the image itself.

    Attributes
    ----------
    inside : "box" or "mask"
        Which voxels they are of, and which are changed: all of the box that is not zero in any
        image, or those of the mask itself (`use_mask_for_norm`).
    """

    method: Literal["zscore"]
    inside: Literal["box", "mask"]


class AsItIs(Frozen):
    """`NoNormalization`."""

    method: Literal["none"]


class RescaledToOne(Frozen):
    """`RescaleTo01Normalization`: the image's own range becomes 0 to 1."""

    method: Literal["rescale"]


class RGB(Frozen):
    """`RGBTo01Normalization`: 0 to 255 become 0 to 1."""

    method: Literal["rgb"]


NnunetNormalisation = Annotated[
    CTWindow | ZScoreOfScan | AsItIs | RescaledToOne | RGB, Field(discriminator="method")
]
