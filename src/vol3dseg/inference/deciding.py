"""From values on the grid of the scan to labels, and to probabilities where they are kept."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vol3dseg.model.head import Head
from vol3dseg.model.outputs import Outputs
from vol3dseg.space.labels import LabelSet

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decision:
    """What makes labels of the channels of rows: outputs, or features that a head makes them of."""

    outputs: Outputs
    labels: LabelSet
    head: Head | None = None

    @property
    def channels(self) -> int:
        """Of rows."""
        return self.head.features if self.head else len(self.outputs.channels)

    @property
    def background(self) -> Array:
        """The probabilities where there is nothing."""
        return self.outputs.model_copy(update={"values": "probabilities"}).background

    def decide(
        self, channels: Iterator[Array], shape: tuple[int, ...], kept: Array | None = None
    ) -> NDArray[np.uint8]:
        """Return the class indices of channels of this shape; probabilities go into `kept`.

        Channels are asked for one after the other; `kept` is (output, *shape).
        """
        if self.head is not None:
            return self._by_head(self.head, channels, shape, kept)
        if kept is not None:
            channels = _copied(channels, kept)
        found = self.outputs.decide(channels, self.labels)
        if kept is not None:
            self.outputs.make_probabilities(kept)
        return found

    def _by_head(
        self, head: Head, features: Iterator[Array], shape: tuple[int, ...], kept: Array | None
    ) -> NDArray[np.uint8]:
        found = np.empty(math.prod(shape), dtype=np.uint8)
        for part, values in head.apply(features, found.size):
            found[part] = self.outputs.decide_each(values, self.labels)
            if kept is not None:
                self.outputs.make_probabilities(values.T)
                i, j, k = np.unravel_index(np.arange(part.start, part.stop), shape)
                kept[:, i, j, k] = values.T
        return found.reshape(shape)


def _copied(channels: Iterator[Array], kept: Array) -> Iterator[Array]:
    for values, place in zip(channels, kept, strict=True):
        place[...] = values
        yield values
