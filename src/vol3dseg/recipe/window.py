"""Normalisation by a fixed window of intensities, as for CT."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import model_validator

from vol3dseg.recipe.normalisation import Image, NormalisationStep, Scale
from vol3dseg.schema import Real
from vol3dseg.space.memory_layout import in_portions

if TYPE_CHECKING:
    from vol3dseg.recipe.graph_values import Value


_NARROWEST, _WIDEST = 1e-30, 1e38  # that float32 can divide by


class Window(NormalisationStep):
    """Map a fixed window of intensities to 0 to 1 and limit what lies beyond.

    Attributes
    ----------
    low, high : float
        The window's ends [units of the image, HU for CT].
    """

    method: Literal["window"]
    low: Real
    high: Real

    @model_validator(mode="after")
    def _ordered(self) -> "Window":
        width = self.high - self.low
        if not _NARROWEST <= width <= _WIDEST:
            raise ValueError(
                f"low {self.low:g} must be smaller than high {self.high:g}, by {_NARROWEST:g} to "
                f"{_WIDEST:g}"
            )
        return self

    @property
    def ignores_zeros(self) -> bool:
        """True: nothing is learnt from the image."""
        return True

    @property
    def _ends(self) -> tuple[np.float32, np.float32]:
        """Return the lower end and the width."""
        return np.float32(self.low), np.float32(self.high - self.low)

    def fitted(self, image: Image) -> Scale:
        """Return what normalises any image, since the window is fixed."""
        low, width = self._ends

        def scale(voxels: Image) -> Image:
            result = np.empty_like(voxels)
            for ours, theirs in in_portions(result, voxels):
                np.clip((theirs - low) / width, 0, 1, out=ours)
            return result

        return scale

    def write(self, fitted: "Value", image: "Value") -> "Value":
        """Append the same to a graph."""
        low, width = self._ends
        return ((image - low) / width).then("Clip", 0, 1)

    def example(self, normalised: Image) -> Image:
        """Return the intensities that come out as `normalised`."""
        low, width = self._ends
        return normalised * width + low
