"""How unsure a prediction is of each voxel, in nats: entropy, and mutual information of networks.

Entropy (Shannon 1948) of a softmax is -sum p ln p over its classes, from 0 to the logarithm of
their number; of independent regions it is the sum of their binary entropies, up to ln 2 each.
Mutual information of a prediction and the network that makes it (Houlsby et al. 2011; Smith and Gal
2018) is the entropy of the mean of several networks' probabilities minus the mean of their
entropies: what they disagree about, from 0 to the logarithm of their number.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vol3dseg.model.manifest import Manifest
from vol3dseg.model.outputs import Outputs

Array = NDArray[np.float32]

ENTROPY, MUTUAL_INFORMATION = "entropy", "mutual_information"
_LEAST = np.float32(np.finfo(np.float32).tiny)  # for logarithms: 0 ln 0 is 0
_SUMS = 8  # arrays as large as a channel, while entropies are added up


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What is measured of a prediction, and of how many networks."""

    asked: bool = False
    members: int = 0  # whose outputs come behind those of their mean; 0 where they are not told

    @property
    def names(self) -> tuple[str, ...]:
        """What is measured."""
        return ((ENTROPY, MUTUAL_INFORMATION) if self.members else (ENTROPY,)) * self.asked

    def graph_channels(self, manifest: Manifest) -> int:
        """Return how many channels the graph gives: some give those of all networks anyway."""
        given = manifest.tiling.graph_channels(manifest.outputs.channels)
        return given if manifest.tiling.members_apart > 1 else given * (1 + self.members)

    def untold(self, networks: int) -> tuple[str, ...]:
        """Say that networks are not compared, of a model of several."""
        if not self.asked or self.members or networks == 1:
            return ()
        return (f"the graph does not tell its {networks} networks apart: no mutual information",)

    def arrays(self, channels: int) -> int:
        """Return how many arrays as large as a channel it takes to measure, at most."""
        return (_SUMS + 2 * channels * bool(self.members)) * self.asked


SURE = Uncertainty()  # of which nothing is asked


class EntropySum:
    """The entropy of each voxel [nat], of channels that come one by one and are not kept.

    Softmax probabilities that do not quite sum to one, as in bfloat16, are divided by their sum.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._total, self._weighted, self._found = (np.zeros((), np.float32) for _ in range(3))
        self._most: Array | None = None  # logit so far

    def add(self, values: Array) -> None:
        """Take the next channel; the array may be reused afterwards."""
        if self._outputs.kind == "sigmoid":
            share = np.array(values)
            self._outputs.make_probabilities(share)
            for each in (share, 1 - share):
                self._found = self._found - _times_log(each)
        elif self._outputs.values == "probabilities":
            self._total = self._total + np.maximum(values, 0)
            self._weighted = self._weighted + _times_log(values)
        elif self._most is None:
            self._most, self._total = np.array(values), np.ones_like(values)
        else:  # sums are of logits less the largest one so far, which may grow
            most = np.maximum(self._most, values)
            less = self._most - most
            shrunk = np.exp(less)
            self._weighted = shrunk * (self._weighted + less * self._total)
            less = values - most
            share = np.exp(less)
            self._total = shrunk * self._total + share
            self._weighted += share * less
            self._most = most

    @property
    def found(self) -> Array:
        """The entropy of all that came."""
        if self._outputs.kind == "sigmoid":
            return np.asarray(self._found)
        total = np.maximum(self._total, _LEAST)
        return np.maximum(np.log(total) - self._weighted / total, np.float32(0))


def _times_log(values: Array) -> Array:
    """Return p ln p, which is nothing of what resampling brought below 0 or above 1."""
    share = np.clip(values, 0, 1)
    return np.asarray(share * np.log(np.maximum(share, _LEAST)))


def _entropy(outputs: Outputs, channels: Iterable[Array]) -> Array:
    sums = EntropySum(outputs)
    for values in channels:
        sums.add(values)
    return sums.found


def mutual_information(outputs: Outputs, channels: Iterator[Array], members: int) -> Array:
    """Return the mutual information of each voxel [nat], of so many networks' channels.

    They come as those of one network after those of the other.
    """
    made = outputs.model_copy(update={"values": "probabilities"})
    mean, apart = np.zeros((), np.float32), np.zeros((), np.float32)
    for _ in range(members):
        own = np.stack(list(islice(channels, len(outputs.channels))))
        outputs.make_probabilities(own)
        apart = apart + _entropy(made, own)
        mean = mean + own
    share = np.float32(1 / members)
    return np.maximum(_entropy(made, mean * share) - apart * share, np.float32(0))
