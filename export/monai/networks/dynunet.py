"""MONAI's `DynUNet`: blocks of two convolutions, residual or not, after nnU-Net's first version."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from numpy.typing import NDArray
from pydantic import Field, Strict, model_validator

from vol3dseg.export.monai.layers import ONE, Activation, Channels, Layers, Norm, Triple, Value
from vol3dseg.export.monai.networks.network_definition import Definition
from vol3dseg.space.box import Shape

_HEADS = re.compile(r"deep_supervision_heads\.|skip_layers\.(next_layer\.)*super_head\.")
_TWICE = "skip_layers."  # the same layers once more, as they lie within each other
_MOST = 320  # features, where nothing is said


class DynUNet(Definition):
    """Arguments of `monai.networks.nets.DynUNet`."""

    kernel_size: tuple[Triple, ...] = Field(min_length=3, max_length=16)
    strides: tuple[Triple, ...] = Field(min_length=3, max_length=16)
    upsample_kernel_size: tuple[Triple, ...] = Field(min_length=2, max_length=16)
    filters: tuple[Channels, ...] | None = None
    norm_name: Norm = Field(default=["INSTANCE", {"affine": True}], validate_default=True)
    act_name: Activation = Field(
        default=["leakyrelu", {"inplace": True, "negative_slope": 0.01}], validate_default=True
    )
    deep_supervision: bool = False  # while training
    deep_supr_num: Annotated[int, Strict(), Field(ge=1, le=16)] = 1
    res_block: bool = False
    trans_bias: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "DynUNet":
        count = len(self.strides)
        if not len(self.kernel_size) == count == len(self.upsample_kernel_size) + 1:
            raise ValueError(
                "kernel_size and strides need one entry a level, upsample_kernel_size one less"
            )
        if self.filters is not None and len(self.filters) < count:
            raise ValueError(f"filters are fewer than the {count} levels")
        if self.upsample_kernel_size != self.strides[1:] or self.strides[0] != ONE:
            raise ValueError(
                "strides must begin with 1, and upsample_kernel_size be the others: else the "
                "output has another size than the image"
            )
        return self

    @property
    def levels(self) -> tuple[tuple[int, int, Shape, Shape], ...]:
        """See `Definition`."""
        both = zip(self.strides, self.kernel_size, strict=True)
        return tuple((2, 2, stride, kernel) for stride, kernel in both)

    @property
    def _features(self) -> tuple[int, ...]:
        usual = (min(2 ** (5 + n), _MOST) for n in range(len(self.strides)))
        return tuple(usual if self.filters is None else self.filters)[: len(self.strides)]

    def write(self, layers: Layers, image: Value) -> Value:
        """Write all levels on the way down, then those on the way up."""
        features, last = self._features, len(self.strides) - 1
        value, skips = image, []
        for number, (kernel, stride) in enumerate(zip(self.kernel_size, self.strides, strict=True)):
            between = "bottleneck" if number == last else f"downsamples.{number - 1}"
            name = between if number else "input_block"
            value = self._block(
                layers, name, value, features[number], kernel, stride, self.res_block
            )
            skips.append(value)
        for number in range(last):
            level = last - 1 - number
            name, stride = f"upsamples.{number}", self.strides[level + 1]
            up = layers.transposed(
                f"{name}.transp_conv.conv", value, features[level], stride, stride,
                bias=self.trans_bias,
            )  # fmt: skip
            joined = layers.joined(f"{name}.joined", up, skips[level])
            kernel = self.kernel_size[level + 1]
            block = f"{name}.conv_block"
            value = self._block(layers, block, joined, features[level], kernel, ONE, False)
        return layers.convolution("output_block.conv.conv", value, self.out_channels, ONE)

    def idle(self, state: Mapping[str, NDArray[Any]]) -> Iterable[str]:
        """Return the heads of deep supervision, and what is kept twice."""
        return [name for name in state if _HEADS.match(name) or name.startswith(_TWICE)]

    def _block(
        self, layers: Layers, name: str, value: Value, features: int, kernel: Shape, stride: Shape,
        residual: bool,
    ) -> Value:  # fmt: skip
        inner = self._convolved(layers, f"{name}.conv1", value, features, kernel, stride)
        inner = layers.norm(f"{name}.norm1", inner, self.norm_name)
        inner = layers.activation(f"{name}.lrelu", inner, self.act_name)
        inner = self._convolved(layers, f"{name}.conv2", inner, features, kernel, ONE)
        inner = layers.norm(f"{name}.norm2", inner, self.norm_name)
        if residual:
            skip = value
            if value.channels != features or stride != ONE:
                skip = self._convolved(layers, f"{name}.conv3", value, features, ONE, stride)
                skip = layers.norm(f"{name}.norm3", skip, self.norm_name)
            inner = layers.added(f"{name}.sum", inner, skip)
        return layers.activation(f"{name}.lrelu2", inner, self.act_name)

    def _convolved(
        self, layers: Layers, name: str, value: Value, features: int, kernel: Shape, stride: Shape
    ) -> Value:
        sides = zip(kernel, stride, strict=True)
        pads = [(side - step + 1) // 2 if side >= step else 0 for side, step in sides]
        at = f"{name}.conv"
        return layers.convolution(at, value, features, kernel, stride, bias=False, pads=pads)
