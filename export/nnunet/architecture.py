"""The network that nnU-Net's plans describe: how many levels, and what each of them does.

Lengths are along the axes of nnU-Net's network; `Architecture.along` turns them into ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, Strict, ValidationError

from vol3dseg.errors import ModelError
from vol3dseg.model.manifest import Network
from vol3dseg.model.operators import quoted
from vol3dseg.model.reach import Level, reach
from vol3dseg.schema import Frozen, problems
from vol3dseg.space.box import Shape

Kind = Literal["PlainConvUNet", "ResidualEncoderUNet"]
_PACKAGE = "dynamic_network_architectures."
_KINDS: tuple[Kind, ...] = get_args(Kind)
_EXPECTED = "PlainConvUNet or ResidualEncoderUNet of 3d_fullres or 3d_lowres"
_REMEDY = "run this model with nnU-Net itself, or train one of these"
_LARGEST_DIVISOR = 4096  # of a side, as a manifest allows
_Count = Annotated[int, Strict(), Field(ge=1, le=64)]
_Channels = Annotated[int, Strict(), Field(ge=1, le=2**14)]
_Triple = tuple[_Count, _Count, _Count]
_PER_LEVEL = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage")
_BLOCKS = "n_blocks_per_stage"


class _NormOptions(Frozen):
    eps: Annotated[float, Strict(), Field(gt=0, le=1)] = 1e-5
    affine: bool = False
    momentum: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.1  # of statistics not kept
    track_running_stats: Literal[False] = False


class _ActivationOptions(Frozen):
    inplace: bool = False
    negative_slope: Annotated[float, Strict(), Field(ge=-10, le=10)] = 0.01


class _Arguments(Frozen):
    """`arch_kwargs` of plans, with a list where they give one number for all levels."""

    n_stages: Annotated[int, Strict(), Field(ge=2, le=16)]
    features_per_stage: tuple[_Channels, ...]
    conv_op: Literal["torch.nn.modules.conv.Conv3d", "torch.nn.Conv3d"]
    kernel_sizes: tuple[_Triple, ...]
    strides: tuple[_Triple, ...]
    n_conv_per_stage: tuple[_Count, ...]  # of a residual encoder: blocks
    n_conv_per_stage_decoder: tuple[_Count, ...]
    conv_bias: bool = False
    norm_op: Literal["torch.nn.modules.instancenorm.InstanceNorm3d", "torch.nn.InstanceNorm3d"]
    norm_op_kwargs: _NormOptions | None = None
    dropout_op: None = None
    dropout_op_kwargs: None = None
    nonlin: Literal[
        "torch.nn.LeakyReLU",
        "torch.nn.modules.activation.LeakyReLU",
        "torch.nn.ReLU",
        "torch.nn.modules.activation.ReLU",
    ]
    nonlin_kwargs: _ActivationOptions | None = None
    nonlin_first: Literal[False] = False
    deep_supervision: bool = False
    stem_channels: _Channels | None = None
    block: None = None
    bottleneck_channels: None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One level of the encoder, and of the decoder beside it."""

    features: int
    kernel: Shape
    stride: Shape  # from the level above
    blocks: int  # convolutions, or residual blocks of two
    decoder: int  # convolutions; 0 at the bottom


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network of nnU-Net."""

    kind: Kind
    stages: tuple[Stage, ...]  # the finest first
    stem: int  # features before the first level of a residual encoder; 0 of a plain one
    bias: bool
    epsilon: float  # of instance norm
    affine: bool
    slope: float  # of the activation below zero; 0 of ReLU

    @property
    def residual(self) -> bool:
        """Whether its encoder has residual blocks."""
        return self.kind == "ResidualEncoderUNet"

    def facts(self, axes: Sequence[int]) -> Network:
        """Return what a manifest says of it, where its axis n is axis `axes[n]` of ours."""
        stages = [
            {
                "features": stage.features,
                "kernel": along(stage.kernel, axes),
                "stride": along(stage.stride, axes),
                "residual_blocks" if self.residual else "convolutions": stage.blocks,
                "decoder_convolutions": stage.decoder,
            }
            for stage in self.stages
        ]
        i, j, k = (reach(self._levels(axis)) for axis in range(3))
        return Network(
            architecture={
                "network": self.kind,
                "norm": "instance",
                "activation": "leaky_relu" if self.slope else "relu",
                "stages": stages,
            },
            divisor=along(self._divisor, axes),
            receptive_field=along((i, j, k), axes),
            local=False,
        )

    @property
    def _divisor(self) -> Shape:
        i, j, k = (prod(stage.stride[axis] for stage in self.stages) for axis in range(3))
        return i, j, k

    def _levels(self, axis: int) -> list[Level]:
        """Return what each level adds to what an output sees along one axis; see `reach`."""
        levels: list[Level] = []
        for stage in self.stages:
            half, stride = stage.kernel[axis] // 2, stage.stride[axis]
            convolutions = 2 * stage.blocks if self.residual else stage.blocks
            if levels:
                convolutions -= 1  # which steps down
            elif self.residual:
                convolutions += 1
            pooled = stride - 1 if self.residual else 0
            after = max(half, pooled)
            levels.append(Level(convolutions * half, stage.decoder * half, stride, half, after))
        return levels


def along(values: Sequence[int], axes: Sequence[int]) -> Shape:
    """Return what stands along the network's axes along i, j, k; its axis n is our `axes[n]`."""
    i, j, k = (values[axes.index(axis)] for axis in range(3))
    return i, j, k


def architecture_of(configuration: Mapping[str, Any], where: object) -> Architecture:
    """Return the network of one configuration of plans, of today's form or an older one.

    Parameters
    ----------
    configuration : mapping
        After `inherits_from`.
    where : object
        The file, for messages.

    Raises
    ------
    ModelError
        It is none that can be carried: a 2-D one, a cascade, another class, other layers.
    """
    patch = configuration.get("patch_size")
    if isinstance(patch, list | tuple) and len(patch) == 2:
        raise _unknown("a 2-D configuration", where)
    if configuration.get("previous_stage"):
        raise _unknown(f"a cascade on {quoted(str(configuration['previous_stage']))}", where)
    kind, arguments = _described(configuration, where)
    count = arguments.get("n_stages")
    if isinstance(count, int) and 2 <= count <= 16:
        arguments = _listed(arguments, count)
    try:
        found = _Arguments.model_validate(arguments)
    except ValidationError as error:
        raise _unknown(
            f"a {kind} that is not carried ({problems(error, _Arguments)})", where
        ) from (error)
    return _checked(kind, found, where)


def _described(configuration: Mapping[str, Any], where: object) -> tuple[Kind, dict[str, Any]]:
    """Return class and arguments of a network, those of older plans as newer ones say them."""
    said = configuration.get("architecture")
    if said is None and "UNet_class_name" in configuration:
        name, arguments = _PACKAGE + str(configuration["UNet_class_name"]), _older(configuration)
    elif isinstance(said, Mapping) and isinstance(said.get("arch_kwargs"), Mapping):
        name, arguments = str(said.get("network_class_name")), dict(said["arch_kwargs"])
    else:
        raise _unknown("a configuration that says no architecture", where)
    kind = next((each for each in _KINDS if name.endswith(f".{each}")), None)
    if kind is None or not name.startswith(_PACKAGE):
        raise _unknown(f"the network {quoted(name.removeprefix(_PACKAGE))}", where)
    if kind == "ResidualEncoderUNet" and _BLOCKS in arguments:
        arguments["n_conv_per_stage"] = arguments.pop(_BLOCKS)
    return kind, arguments


def _older(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of plans before nnU-Net 2.4, which left out what was the same in all."""
    blocks = configuration.get("n_conv_per_stage_encoder")
    first, most = (configuration.get(f"{n}_num_features") for n in ("UNet_base", "unet_max"))
    levels = range(len(blocks) if isinstance(blocks, list | tuple) else 0)
    known = isinstance(first, int) and isinstance(most, int)
    return {
        "n_stages": len(levels),
        "features_per_stage": [min(first * 2**n, most) for n in levels[:16]] if known else None,
        "conv_op": "torch.nn.Conv3d",
        "kernel_sizes": configuration.get("conv_kernel_sizes"),
        "strides": configuration.get("pool_op_kernel_sizes"),
        "n_conv_per_stage": blocks,
        "n_conv_per_stage_decoder": configuration.get("n_conv_per_stage_decoder"),
        "conv_bias": True,
        "norm_op": "torch.nn.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
    }


def _listed(arguments: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return arguments with a value for each level and axis, where they give one for all."""
    listed = dict(arguments)
    for name in (*_PER_LEVEL, "n_conv_per_stage_decoder"):
        value = listed.get(name)
        if isinstance(value, int):
            value = [value] * (count - (name == "n_conv_per_stage_decoder"))
        if name in ("kernel_sizes", "strides") and isinstance(value, list | tuple):
            value = [[side] * 3 if isinstance(side, int) else side for side in value]
        if name in listed:
            listed[name] = value
    return listed


def _checked(kind: Kind, said: _Arguments, where: object) -> Architecture:
    """Return the network of valid arguments that fit each other."""
    lengths = {name: len(getattr(said, name)) for name in _PER_LEVEL}
    lengths["n_conv_per_stage_decoder"] = len(said.n_conv_per_stage_decoder) + 1
    if set(lengths.values()) != {said.n_stages}:
        raise _unknown(f"{said.n_stages} levels, and values for {lengths} of them", where)
    even = [kernel for kernel in said.kernel_sizes if not all(side % 2 for side in kernel)]
    if even or set(said.strides[0]) != {1}:
        raise _unknown(
            f"kernels of {list(said.kernel_sizes)} and strides of {list(said.strides)}, by which a "
            "volume changes its size",
            where,
        )
    decoder = [*reversed(said.n_conv_per_stage_decoder), 0]
    levels = zip(
        said.features_per_stage,
        said.kernel_sizes,
        said.strides,
        said.n_conv_per_stage,
        decoder,
        strict=True,
    )
    norm = said.norm_op_kwargs or _NormOptions()
    leaky, options = said.nonlin.endswith("LeakyReLU"), said.nonlin_kwargs or _ActivationOptions()
    stem = said.stem_channels or said.features_per_stage[0]
    made = Architecture(
        kind=kind,
        stages=tuple(Stage(*level) for level in levels),
        stem=stem if kind == "ResidualEncoderUNet" else 0,
        bias=said.conv_bias,
        epsilon=norm.eps,
        affine=norm.affine,
        slope=options.negative_slope if leaky else 0.0,
    )
    if max(made._divisor) > _LARGEST_DIVISOR:
        raise _unknown(f"strides that make {list(made._divisor)} voxels one", where)
    return made


def _unknown(found: str, where: object) -> ModelError:
    return ModelError(f"has {found}", where=where, expected=_EXPECTED, remedy=_REMEDY)
