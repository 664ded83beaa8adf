"""How nnU-Net normalises one image, cropped to what is not zero in any.

Names and arithmetic are those of nnU-Net 2 (`default_normalization_schemes`): voxels are float32
throughout. Moments are summed up in float64, of which numpy's own sums in float32 are 3e-7 away.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vol3dseg.errors import IntensityError
from vol3dseg.schema import Amount, Frozen, Real
from vol3dseg.space.memory_layout import slowest_first

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
# Normalises some voxels of one image in place; the mask says which are inside.
Scale = Callable[[Image, Mask | None], None]
_LEAST = np.float32(1e-8)  # that is divided by
_BYTE = 255.0


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

    def fitted(self, image: Image, mask: Mask | None) -> Scale:
        """Return what normalises any image."""

        def scale(voxels: Image, inside: Mask | None) -> None:
            np.clip(voxels, np.float32(self.low), np.float32(self.high), out=voxels)
            voxels -= np.float32(self.mean)
            voxels /= max(np.float32(self.deviation), _LEAST)

        return scale


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

    def fitted(self, image: Image, mask: Mask | None) -> Scale:
        """Return what normalises this (i, j, k) image; `mask` is the mask, or None for the box."""
        count = image.size if mask is None else int(np.count_nonzero(mask))
        sums = (np.add.reduce(v, dtype=np.float64) for v in _planes(image, mask))
        mean = np.float32(sum(sums) / max(count, 1))
        wide = (np.square(v - mean, dtype=np.float64) for v in _planes(image, mask))
        squares = sum(np.add.reduce(values) for values in wide)
        deviation = max(np.float32(np.sqrt(squares / max(count, 1))), _LEAST)

        def scale(voxels: Image, inside: Mask | None) -> None:
            voxels -= mean
            voxels /= deviation
            if inside is not None:
                np.putmask(voxels, ~inside, 0)  # as all images are there

        return scale


class AsItIs(Frozen):
    """`NoNormalization`."""

    method: Literal["none"]

    def fitted(self, image: Image, mask: Mask | None) -> Scale:
        """Return what leaves any image as it is."""
        return lambda voxels, inside: None


class RescaledToOne(Frozen):
    """`RescaleTo01Normalization`: the image's own range becomes 0 to 1."""

    method: Literal["rescale"]

    def fitted(self, image: Image, mask: Mask | None) -> Scale:
        """Return what normalises this (i, j, k) image."""
        least = image.min()
        width = max(image.max() - least, _LEAST)

        def scale(voxels: Image, inside: Mask | None) -> None:
            voxels -= least
            voxels /= width

        return scale


class RGB(Frozen):
    """`RGBTo01Normalization`: 0 to 255 become 0 to 1."""

    method: Literal["rgb"]

    def fitted(self, image: Image, mask: Mask | None) -> Scale:
        """Return what normalises any image of bytes; IntensityError: this one holds others."""
        least, most = float(image.min()), float(image.max())
        if least < 0 or most > _BYTE:
            raise IntensityError(
                f"voxels are {least:g} to {most:g}",
                expected=f"0 to {_BYTE:g}, the colours that the model was trained on",
                remedy="give the images that it was made for",
            )

        def scale(voxels: Image, inside: Mask | None) -> None:
            voxels /= np.float32(_BYTE)

        return scale


NnunetNormalisation = Annotated[
    CTWindow | ZScoreOfScan | AsItIs | RescaledToOne | RGB, Field(discriminator="method")
]


def _planes(image: Image, mask: Mask | None) -> Iterator[Image]:
    """Give the voxels of an (i, j, k) image, those in a mask if there is one, plane by plane."""
    slow = slowest_first(image)[0]
    planes = np.moveaxis(image, slow, 0)
    if mask is None:
        yield from (plane.ravel(order="K") for plane in planes)
    else:
        for plane, inside in zip(planes, np.moveaxis(mask, slow, 0), strict=True):
            yield plane[inside]
