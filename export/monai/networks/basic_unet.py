"""MONAI's `BasicUNet`: five levels of two convolutions, pooled on the way down."""

from typing import Literal

from pydantic import Field

from vol3dseg.export.monai.layers import ONE, Activation, Channels, Layers, Norm, Value
from vol3dseg.export.monai.networks.network_definition import Definition
from vol3dseg.space.box import Shape

_TWO, _THREE = (2, 2, 2), (3, 3, 3)
_LEVELS = 5
_Features = tuple[Channels, Channels, Channels, Channels, Channels, Channels]


class BasicUNet(Definition):
    """Arguments of `monai.networks.nets.BasicUNet`."""

    features: _Features = (32, 32, 64, 128, 256, 32)
    act: Activation = Field(
        default=["LeakyReLU", {"negative_slope": 0.1, "inplace": True}], validate_default=True
    )
    norm: Norm = Field(default=["instance", {"affine": True}], validate_default=True)
    bias: bool = True
    upsample: Literal["deconv"] = "deconv"

    @property
    def levels(self) -> tuple[tuple[int, int, Shape, Shape], ...]:
        """See `Definition`."""
        return tuple((2, 2, _TWO if number else ONE, _THREE) for number in range(_LEVELS))

    def write(self, layers: Layers, image: Value) -> Value:
        """Write all levels on the way down, then those on the way up."""
        value = self._pair(layers, "conv_0", image, self.features[0])
        skips = [value]
        for number in range(1, _LEVELS):
            name, window = f"down_{number}", {"kernel_shape": _TWO, "strides": _TWO}
            pooled = layers.add(
                "MaxPool", f"{name}.max_pooling", [value.name], value.channels, **window
            )
            value = self._pair(layers, f"{name}.convs", pooled, self.features[number])
            skips.append(value)
        for number in range(_LEVELS - 1, 0, -1):
            name, skip = f"upcat_{number}", skips[number - 1]
            features = value.channels // 2 if number > 1 else value.channels
            up = layers.transposed(f"{name}.upsample.deconv", value, features, _TWO, _TWO)
            joined = layers.joined(f"{name}.joined", skip, up)
            given = skip.channels if number > 1 else self.features[-1]
            value = self._pair(layers, f"{name}.convs", joined, given)
        return layers.convolution("final_conv", value, self.out_channels, ONE)

    def _pair(self, layers: Layers, name: str, value: Value, features: int) -> Value:
        for number in range(2):
            at = f"{name}.conv_{number}"
            value = layers.convolution(f"{at}.conv", value, features, _THREE, bias=self.bias)
            value = layers.norm(f"{at}.adn.N", value, self.norm)
            value = layers.activation(f"{at}.adn.A", value, self.act)
        return value
