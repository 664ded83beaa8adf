"""What every network of MONAI that is carried can say of itself."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, Literal

from numpy.typing import NDArray

from vol3dseg.export.monai.layers import Channels, Layers, Value
from vol3dseg.model.manifest import Network
from vol3dseg.model.reach import Level, reach
from vol3dseg.schema import Frozen
from vol3dseg.space.box import Shape


class Definition(Frozen):
    """Base of networks: the arguments of MONAI's class, by their names."""

    spatial_dims: Literal[3] = 3
    in_channels: Channels = 1
    out_channels: Channels = 2

    @abstractmethod
    def write(self, layers: Layers, image: Value) -> Value:
        """Write the network; returns its logits."""

    @property
    @abstractmethod
    def levels(self) -> tuple[tuple[int, int, Shape, Shape], ...]:
        """Convolutions on the way down and up, stride and kernel of each level, finest first."""

    def idle(self, state: Mapping[str, NDArray[Any]]) -> Iterable[str]:
        """Return the names of weights that only training needs, or that are kept twice."""
        return ()

    def facts(self) -> Network:
        """Return what a manifest says of it."""
        i, j, k = (prod(stride[axis] for *_, stride, _ in self.levels) for axis in range(3))
        a, b, c = (reach(self._along(axis)) for axis in range(3))
        return Network(
            architecture={"network": type(self).__name__, "levels": len(self.levels)},
            divisor=(i, j, k),
            receptive_field=(a, b, c),
            local=False,  # tiles must be MONAI's, whatever the norm
        )

    def _along(self, axis: int) -> list[Level]:
        """Return what each level adds, at most, to what an output sees along an axis."""
        return [
            Level(down * (kernel[axis] // 2), (up + 1) * (kernel[axis] // 2 + 1), stride[axis],
                  kernel[axis] // 2, kernel[axis] // 2)
            for down, up, stride, kernel in self.levels
        ]  # fmt: skip
