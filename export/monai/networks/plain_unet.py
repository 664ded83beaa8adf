"""MONAI's `UNet`: blocks or residual units, strided on the way down, transposed on the way up."""

from math import prod
from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator

from vol3dseg.export.monai.layers import ONE, Activation, Channels, Layers, Norm, Triple, Value
from vol3dseg.export.monai.networks.network_definition import Definition
from vol3dseg.space.box import Shape


class UNet(Definition):
    """Arguments of `monai.networks.nets.UNet`."""

    channels: tuple[Channels, ...] = Field(min_length=2, max_length=16)
    strides: tuple[Triple, ...] = Field(max_length=16)
    kernel_size: Triple = (3, 3, 3)
    up_kernel_size: Triple = (3, 3, 3)
    num_res_units: Annotated[int, Strict(), Field(ge=0, le=16)] = 0
    act: Activation = Field(default="PRELU", validate_default=True)
    norm: Norm = Field(default="INSTANCE", validate_default=True)
    bias: bool = True
    adn_ordering: Literal["NDA", "NAD", "DNA", "DAN", "AND", "ADN", "NA", "AN"] = "NDA"

    @model_validator(mode="after")
    def _consistent(self) -> "UNet":
        if len(self.strides) < len(self.channels) - 1:
            raise ValueError(f"{len(self.channels)} channels need a stride between each two")
        if any(side % 2 == 0 for side in (*self.kernel_size, *self.up_kernel_size)):
            raise ValueError("kernels have even sides, which MONAI refuses too")
        return self

    @property
    def levels(self) -> tuple[tuple[int, int, Shape, Shape], ...]:
        """See `Definition`: the stride of a level leads to it from the finer one."""
        kernel = tuple(map(max, self.kernel_size, self.up_kernel_size))
        wide = (kernel[0], kernel[1], kernel[2])
        count = max(1, self.num_res_units)
        strides = [ONE, *self.strides[: len(self.channels) - 1]]
        return tuple((count, 2, stride, wide) for stride in strides)

    def write(self, layers: Layers, image: Value) -> Value:
        """Write all levels, from the finest."""
        return self._level(layers, "model", image, 0, self.out_channels)

    def _level(self, layers: Layers, name: str, value: Value, number: int, given: int) -> Value:
        stride, features = self.strides[number], self.channels[number]
        down = self._down(layers, f"{name}.0", value, features, stride)
        within = f"{name}.1.submodule"
        if number + 2 < len(self.channels):
            inner = self._level(layers, within, down, number + 1, features)
        else:
            inner = self._down(layers, within, down, self.channels[-1], ONE)
        joined = layers.joined(f"{name}.joined", down, inner)
        top, name = number == 0, f"{name}.2"
        if not self.num_res_units:
            return self._up(layers, name, joined, given, stride, plain=top)
        up = self._up(layers, f"{name}.0", joined, given, stride, plain=False)
        return self._unit(layers, f"{name}.1", up, given, ONE, 1, plain=top)

    def _down(self, layers: Layers, name: str, value: Value, features: int, stride: Shape) -> Value:
        if self.num_res_units:
            return self._unit(layers, name, value, features, stride, self.num_res_units)
        return self._block(layers, name, value, features, stride)

    def _unit(
        self, layers: Layers, name: str, value: Value, features: int, stride: Shape, count: int,
        plain: bool = False,
    ) -> Value:  # fmt: skip
        """Write a `ResidualUnit`."""
        inner, skip = value, value
        for number in range(count):
            part, step = f"{name}.conv.unit{number}", ONE if number else stride
            bare = plain and number == count - 1
            inner = self._block(layers, part, inner, features, step, plain=bare)
        if prod(stride) != 1 or value.channels != features:
            kernel = self.kernel_size if prod(stride) != 1 else ONE
            beside = f"{name}.residual"
            skip = layers.convolution(beside, value, features, kernel, stride, bias=self.bias)
        return layers.added(f"{name}.sum", inner, skip)

    def _block(
        self, layers: Layers, name: str, value: Value, features: int, stride: Shape,
        plain: bool = False,
    ) -> Value:  # fmt: skip
        at = f"{name}.conv"
        made = layers.convolution(at, value, features, self.kernel_size, stride, bias=self.bias)
        return made if plain else self._finished(layers, name, made)

    def _up(
        self, layers: Layers, name: str, value: Value, features: int, stride: Shape, plain: bool
    ) -> Value:
        kernel = self.up_kernel_size
        made = layers.transposed(
            f"{name}.conv", value, features, kernel, stride, bias=self.bias,
            pads=[side // 2 for side in kernel], more=[side - 1 for side in stride],
        )  # fmt: skip
        return made if plain else self._finished(layers, name, made)

    def _finished(self, layers: Layers, name: str, value: Value) -> Value:
        """Write what follows a convolution, in its order."""
        for letter in self.adn_ordering:
            if letter == "N":
                value = layers.norm(f"{name}.adn.N", value, self.norm)
            elif letter == "A":
                value = layers.activation(f"{name}.adn.A", value, self.act)
        return value
