"""From values on the grid of the scan to labels, and to probabilities where they are kept."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vol3dseg.model.outputs import Outputs
from vol3dseg.space.labels import LabelSet

Array = NDArray[np.float32]


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
