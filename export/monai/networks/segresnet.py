"""MONAI's `SegResNet`: pre-activated residual blocks, interpolated linearly on the way up."""

from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator

from vol3dseg.export.monai.layers import ONE, Activation, Channels, Layers, Norm, Value
from vol3dseg.export.monai.networks.network_definition import Definition
from vol3dseg.space.box import Shape

_TWO, _THREE = (2, 2, 2), (3, 3, 3)
_Blocks = Annotated[int, Strict(), Field(ge=0, le=64)]


class SegResNet(Definition):
    """Arguments of `monai.networks.nets.SegResNet`."""

    init_filters: Channels = 8
    act: Activation = Field(default=["RELU", {"inplace": True}], validate_default=True)
    norm: Norm = Field(default=["GROUP", {"num_groups": 8}], validate_default=True)
    norm_name: Literal[""] = ""
    num_groups: Channels = 8  # of norm_name
    use_conv_final: Literal[True] = True
    blocks_down: tuple[_Blocks, ...] = Field(default=(1, 2, 2, 4), min_length=1, max_length=12)
    blocks_up: tuple[_Blocks, ...] = Field(default=(1, 1, 1), max_length=12)
    upsample_mode: Literal["nontrainable", "deconv"] = "nontrainable"

    @model_validator(mode="after")
    def _consistent(self) -> "SegResNet":
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError("blocks_up must be one shorter than blocks_down")
        if self.act.name == "prelu":
            raise ValueError("act is PRELU, whose weights all blocks share")
        return self

    @property
    def levels(self) -> tuple[tuple[int, int, Shape, Shape], ...]:
        """See `Definition`."""
        up = [*reversed(self.blocks_up), 0]
        return tuple(
            (2 * down + 1, 2 * behind + 1, _TWO if number else ONE, _THREE)
            for number, (down, behind) in enumerate(zip(self.blocks_down, up, strict=True))
        )

    def write(self, layers: Layers, image: Value) -> Value:
        """Write all levels on the way down, then those on the way up."""
        value = layers.convolution("convInit.conv", image, self.init_filters, _THREE, bias=False)
        skips = []
        for number, count in enumerate(self.blocks_down):
            name = f"down_layers.{number}"
            if number:
                features = 2 * value.channels
                at = f"{name}.0.conv"
                value = layers.convolution(at, value, features, _THREE, _TWO, bias=False)
            value = self._blocks(layers, name, value, range(1, count + 1))
            skips.append(value)
        for number, count in enumerate(self.blocks_up):
            value = self._up(layers, f"up_samples.{number}", value)
            value = layers.added(f"up_samples.{number}.sum", value, skips[-2 - number])
            value = self._blocks(layers, f"up_layers.{number}", value, range(count))
        value = layers.norm("conv_final.0", value, self.norm)
        value = layers.activation("conv_final.1", value, self.act)
        return layers.convolution("conv_final.2.conv", value, self.out_channels, ONE)

    def _blocks(self, layers: Layers, name: str, value: Value, places: range) -> Value:
        for place in places:
            at, inner = f"{name}.{place}", value
            for part in (1, 2):
                inner = layers.norm(f"{at}.norm{part}", inner, self.norm)
                inner = layers.activation(f"{at}.act{part}", inner, self.act)
                conv = f"{at}.conv{part}.conv"
                inner = layers.convolution(conv, inner, value.channels, _THREE, bias=False)
            value = layers.added(f"{at}.sum", inner, value)
        return value

    def _up(self, layers: Layers, name: str, value: Value) -> Value:
        half = value.channels // 2
        value = layers.convolution(f"{name}.0.conv", value, half, ONE, bias=False)
        if self.upsample_mode == "deconv":
            return layers.transposed(f"{name}.1.deconv", value, half, _TWO, _TWO)
        return layers.doubled(f"{name}.1", value)
