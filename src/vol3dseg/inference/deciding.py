"""From values on the grid of the scan to labels, and to probabilities where they are kept."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vol3dseg.model.outputs import Outputs
from vol3dseg.space.labels import LabelSet

Array = NDArray[np.float32]

_FEW = 8  # channels that are compared as they are
_CLEARLY = 2.0**-8  # four of float16's steps at least


@dataclass(frozen=True, slots=True)
class Decision:
    """What makes labels of the channels of rows."""

    outputs: Outputs
    labels: LabelSet

    @property
    def channels(self) -> int:
        """Of rows."""
        return len(self.outputs.channels)

    @property
    def background(self) -> Array:
        """The probabilities where there is nothing."""
        return self.outputs.model_copy(update={"values": "probabilities"}).background

    @property
    def compares(self) -> bool:
        """Whether it pays to ask for `contenders`: the largest of many channels decides."""
        return self.outputs.kind == "softmax" and self.channels > _FEW

    def contenders(self, values: Array) -> NDArray[np.intp]:
        """Return the channels of which any may be the largest somewhere between some voxels.

        A mean of them is nowhere larger than the largest, nor smaller than the smallest; `values`
        are (channel, ...). Channels that rounding to float16 may make equal are among them.
        """
        flat = values.reshape(len(values), -1)
        least = flat.min(axis=1).max()
        return np.flatnonzero(flat.max(axis=1) >= least - _CLEARLY * abs(least) - _CLEARLY**2)

    def decide(
        self, channels: Iterator[Array], shape: tuple[int, ...], kept: Array | None = None
    ) -> NDArray[np.uint8]:
        """Return the class indices of channels of this shape; probabilities go into `kept`.

        Channels are asked for one after the other; `kept` is (output, *shape).
        """
        if kept is not None:
            channels = _copied(channels, kept)
        found = self.outputs.decide(channels, self.labels)
        if kept is not None:
            self.outputs.make_probabilities(kept)
        return found


def _copied(channels: Iterator[Array], kept: Array) -> Iterator[Array]:
    for values, place in zip(channels, kept, strict=True):
        place[...] = values
        yield values
