"""What the channels of a network are, and how they become labels."""

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vol3dseg.recipe.graph_values import Value
from vol3dseg.schema import Frozen, Share
from vol3dseg.space.labels import LabelSet
from vol3dseg.space.region_order import painted_classes

Channel = NDArray[np.float32]
# What a graph gives, which is blended, averaged over mirrored views and brought to the grid of the
# scan: the name of its output. Logits become probabilities after all that.
Values = Literal["probabilities", "logits"]
# What is brought to the grid of the scan: these values, or probabilities made of them before.
Brought = Literal["values", "probabilities"]
_SURE = 128.0  # a logit whose probability is 1 in float32, and that of the others 0


class Softmax(Frozen):
    """One probability for each class; they sum to one, and the largest decides.

    Attributes
    ----------
    classes : tuple of str
        What each channel stands for: the classes of the labels, background first.
    values : "probabilities" or "logits"
        What the network gives.
    brought : "values" or "probabilities"
        What is brought to the grid of the scan, and decides there: what the network gives, or
        probabilities made of it.
    """

    kind: Literal["softmax"] = "softmax"
    values: Values = "probabilities"
    brought: Brought = "values"
    classes: tuple[str, ...]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self.classes

    @property
    def background(self) -> NDArray[np.float32]:
        """What the channels hold where there is nothing."""
        first = 1.0 if self.values == "probabilities" else _SURE
        return np.array([first, *[0] * (len(self.classes) - 1)], dtype=np.float32)

    def decide(self, channels: Iterable[Channel], labels: LabelSet) -> NDArray[np.uint8]:
        """Return the class index of each voxel: of the largest value, the first of equals.

        Channels are arrays of one shape; each is asked for after the other, and none is kept.
        """
        several = iter(channels)
        best = next(several)
        found: NDArray[np.uint8] = np.zeros(best.shape, dtype=np.uint8)
        for index, values in enumerate(several, start=1):
            larger = values > best
            if larger.any():
                np.putmask(found, larger, np.uint8(index))
                best = np.maximum(best, values)
        return found

    def make_probabilities(self, values: Channel) -> None:
        """Turn (channel, ...) values into probabilities, in place."""
        if self.values == "logits":
            values -= values.max(axis=0)
            np.exp(values, out=values)
            values /= values.sum(axis=0)

    def margin(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far each voxel of (channel, ...) values is from another decision."""
        second, first = np.sort(channels, axis=0)[-2:]
        return np.asarray(first - second)

    def write_decide(self, values: Value, labels: LabelSet) -> Value:
        """Append `decide` to a graph: (n, channel, i, j, k) to (n, i, j, k) indices, int64."""
        return values.then("ArgMax", dtype=np.int64, axis=1, keepdims=0)

    def problems(self, labels: LabelSet) -> list[str]:
        """Say in which ways this does not fit the labels."""
        if self.classes == labels.names:
            return []
        return [f"classes are {list(self.classes)}, those of the labels are {list(labels.names)}"]


class Region(Frozen):
    """A union of classes that has a channel of its own.

    Attributes
    ----------
    name : str
    members : tuple of str
        The classes that it is made of.
    paints : str
        The class that its voxels become, unless a later region paints them again.
    """

    name: str
    members: tuple[str, ...] = Field(min_length=1)
    paints: str


class Sigmoid(Frozen):
    """One probability for each region, independent of the others.

    Attributes
    ----------
    threshold : float
        A voxel belongs to a region where its probability is above this.
    regions : tuple of Region
        What each channel stands for. They are painted over the background in this order.
    values : "probabilities" or "logits"
        What the network gives.
    brought : "values" or "probabilities"
        What is brought to the grid of the scan, and decides there: what the network gives, or
        probabilities made of it.
    """

    kind: Literal["sigmoid"] = "sigmoid"
    values: Values = "probabilities"
    brought: Brought = "values"
    threshold: Annotated[Share, Field(gt=0, lt=1)]
    regions: tuple[Region, ...] = Field(min_length=1)

    @classmethod
    def of(cls, labels: LabelSet, threshold: float = 0.5) -> "Sigmoid":
        """Return a channel for each region of the labels; see `painted_classes`.

        LabelError: the regions do not tell all classes apart.
        """
        regions = tuple(
            Region(name=name, members=labels.regions[name], paints=paints)
            for name, paints in painted_classes(labels).items()
        )
        return cls(threshold=threshold, regions=regions)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return tuple(region.name for region in self.regions)

    @property
    def background(self) -> NDArray[np.float32]:
        """What the channels hold where there is nothing."""
        none = 0.0 if self.values == "probabilities" else -_SURE
        return np.full(len(self.regions), none, dtype=np.float32)

    @property
    def cut(self) -> float:
        """What the values of a region are above where its probability is above the threshold."""
        share = self.threshold
        return share if self.values == "probabilities" else math.log(share / (1 - share))

    def decide(self, channels: Iterable[Channel], labels: LabelSet) -> NDArray[np.uint8]:
        """Return the class index of each voxel: what the last region that holds it paints."""
        found: NDArray[np.uint8] = np.zeros((), dtype=np.uint8)
        for region, values in zip(self.regions, channels, strict=True):
            painted = np.uint8(labels.index(region.paints))
            found = np.where(values > self.cut, painted, found)
        return found

    def make_probabilities(self, values: Channel) -> None:
        """Turn (channel, ...) values into probabilities, in place."""
        if self.values == "logits":
            with np.errstate(over="ignore"):  # what is far from 0 becomes 0
                np.exp(-values, out=values)
            values += 1
            np.reciprocal(values, out=values)

    def margin(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far each voxel of (channel, ...) values is from another decision."""
        return np.asarray(np.abs(channels - np.float32(self.cut)).min(axis=0))

    def write_decide(self, values: Value, labels: LabelSet) -> Value:
        """Append `decide` to a graph: (n, channel, i, j, k) to (n, i, j, k) indices, int64."""
        graph = values.graph
        found = graph.constant(0)
        for number, region in enumerate(self.regions):
            inside = values.then("Gather", graph.constant(number), axis=1).then(
                "Greater", self.cut, dtype=np.bool_
            )
            found = inside.where(graph.constant(labels.index(region.paints)), found)
        return found

    def problems(self, labels: LabelSet) -> list[str]:
        """Say in which ways this does not fit the labels."""
        problems = []
        if len(set(self.channels)) < len(self.channels):
            problems.append(f"regions are named twice: {list(self.channels)}")
        for region in self.regions:
            unknown = sorted({*region.members, region.paints} - set(labels.foreground))
            if unknown:
                problems.append(
                    f"region {region.name!r} names {unknown}, the classes beside the background "
                    f"are {list(labels.foreground)}"
                )
        unreached = sorted(set(labels.foreground) - {region.paints for region in self.regions})
        if unreached:
            problems.append(f"no region paints {unreached}")
        return problems


def at_home(outputs: Softmax | Sigmoid) -> Softmax | Sigmoid:
    """Return what the channels are on the grid of the scan."""
    return outputs.model_copy(update={"values": "probabilities"}) if _turned(outputs) else outputs


def bring(outputs: Softmax | Sigmoid, rows: Channel, networks: int = 1) -> Channel:
    """Return (channel, ...) values as they are brought to the grid of the scan, in their place.

    Channels of several networks come one network's after another's.
    """
    if _turned(outputs):
        for own in np.split(rows, networks):
            outputs.make_probabilities(own)
    return rows


def _turned(outputs: Softmax | Sigmoid) -> bool:
    return outputs.brought == "probabilities" and outputs.values == "logits"


Outputs = Annotated[Softmax | Sigmoid, Field(discriminator="kind")]
