"""From values on the grid of the scan to labels, and to probabilities where they are kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vol3dseg.inference.uncertainty import SURE, EntropySum, Uncertainty, mutual_information
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
    uncertainty: Uncertainty = SURE

    @property
    def channels(self) -> int:
        """Of rows: of what decides, and behind it of each network that is told apart."""
        return len(self.outputs.channels) * (1 + self.uncertainty.members)

    def nothing(self, probabilities: bool) -> Array:
        """Return what is kept where there is nothing: probabilities, and no uncertainty of them."""
        background = self.outputs.model_copy(update={"values": "probabilities"}).background
        sure = np.zeros(len(self.uncertainty.names), dtype=np.float32)
        return np.concatenate([background[: len(background) * probabilities], sure])

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
        """Return the class indices of channels of this shape; what is kept goes into `kept`.

        Channels are asked for one after the other; `kept` is (each of `nothing`, *shape).
        """
        own: Iterator[Array] = islice(channels, len(self.outputs.channels))
        if kept is None:
            return self.outputs.decide(own, self.labels)
        probabilities, measured = np.split(kept, [len(kept) - len(self.uncertainty.names)])
        if len(probabilities):
            own = _copied(own, probabilities)
        sums = EntropySum(self.outputs)
        if len(measured):
            own = _added(own, sums)
        found = self.outputs.decide(own, self.labels)
        if len(probabilities):
            self.outputs.make_probabilities(probabilities)
        if len(measured):
            measured[0] = sums.found
        if self.uncertainty.members:
            measured[1] = mutual_information(self.outputs, channels, self.uncertainty.members)
        return found


def _copied(channels: Iterator[Array], kept: Array) -> Iterator[Array]:
    for values, place in zip(channels, kept, strict=True):
        place[...] = values
        yield values


def _added(channels: Iterator[Array], sums: EntropySum) -> Iterator[Array]:
    for values in channels:
        sums.add(values)
        yield values
