"""The network that nnU-Net's plans describe: how many levels, and what each of them does.

Lengths are along the axes of nnU-Net's network; `Architecture.along` turns them into ours.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, get_args

from pydantic import ValidationError

from vol3dseg.errors import ModelError
from vol3dseg.export.nnunet.network_arguments import (
    EPSILON,
    ActivationOptions,
    Arguments,
    NormOptions,
)
from vol3dseg.model.manifest import Network
from vol3dseg.model.operators import quoted
from vol3dseg.model.reach import Level, reach
from vol3dseg.schema import problems
from vol3dseg.space.box import Shape

Kind = Literal["PlainConvUNet", "ResidualEncoderUNet"]
_PACKAGE = "dynamic_network_architectures."
_KINDS: tuple[Kind, ...] = get_args(Kind)
_EXPECTED = "PlainConvUNet or ResidualEncoderUNet of 3d_fullres or 3d_lowres"
_REMEDY = "run this model with nnU-Net itself, or train one of these"
_LARGEST_DIVISOR = 4096  # of a side, as a manifest allows
_PER_LEVEL = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage")
_BLOCKS = "n_blocks_per_stage"


@dataclass(frozen=True, slots=True)
class Stage:
    """One level of the encoder, and of the decoder beside it."""

    features: int
    kernel: Shape
    stride: Shape  # from the level above
    blocks: int  # convolutions, or residual blocks
    decoder: int  # convolutions; 0 at the bottom
    bottleneck: int = 0  # features within a block of three convolutions; 0 of a block of two


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network of nnU-Net."""

    kind: Kind
    stages: tuple[Stage, ...]  # the finest first
    stem: int  # features before the first level of a residual encoder; 0 of a plain one
    bias: bool
    dropout: bool
    statistics: bool  # whether norms keep those of training, as batch norms do
    epsilon: float  # of norms
    affine: bool
    slope: float  # of the activation below zero; 0 of ReLU

    @property
    def residual(self) -> bool:
        """Whether its encoder has residual blocks."""
        return self.kind == "ResidualEncoderUNet"

    def as_trained(self, weights: Collection[str]) -> "Architecture":
        """Return it with the norms that weights of these names are of.

        nnUNetTrainerBN puts batch norms in the place of those that plans name.
        """
        if self.statistics or not any(name.endswith(".running_mean") for name in weights):
            return self
        return replace(self, statistics=True, epsilon=EPSILON, affine=True)

    def facts(self, axes: Sequence[int]) -> Network:
        """Return what a manifest says of it, where its axis n is axis `axes[n]` of ours."""
        stages = [
            {
                "features": stage.features,
                "kernel": along(stage.kernel, axes),
                "stride": along(stage.stride, axes),
                "residual_blocks" if self.residual else "convolutions": stage.blocks,
                **({"bottleneck": stage.bottleneck} if stage.bottleneck else {}),
                "decoder_convolutions": stage.decoder,
            }
            for stage in self.stages
        ]
        i, j, k = (reach(self._levels(axis)) for axis in range(3))
        return Network(
            architecture={
                "network": self.kind,
                "norm": "batch" if self.statistics else "instance",
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
            wide = 2 if self.residual and not stage.bottleneck else 1  # of each block
            convolutions = wide * stage.blocks
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
        found = Arguments.model_validate(arguments)
    except ValidationError as error:
        raise _unknown(f"a {kind} that is not carried ({problems(error, Arguments)})", where) from (
            error
        )
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
    for name in (*_PER_LEVEL, "n_conv_per_stage_decoder", "bottleneck_channels"):
        value = listed.get(name)
        if isinstance(value, int):
            value = [value] * (count - (name == "n_conv_per_stage_decoder"))
        if name in ("kernel_sizes", "strides") and isinstance(value, list | tuple):
            value = [[side] * 3 if isinstance(side, int) else side for side in value]
        if name in listed:
            listed[name] = value
    return listed


def _checked(kind: Kind, said: Arguments, where: object) -> Architecture:
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
    levels = zip(
        said.features_per_stage,
        said.kernel_sizes,
        said.strides,
        said.n_conv_per_stage,
        [*reversed(said.n_conv_per_stage_decoder), 0],
        _bottlenecks(said, where),
        strict=True,
    )
    norm, batch = said.norm_op_kwargs or NormOptions(), "BatchNorm" in said.norm_op
    leaky, options = said.nonlin.endswith("LeakyReLU"), said.nonlin_kwargs or ActivationOptions()
    stem = said.stem_channels or said.features_per_stage[0]
    made = Architecture(
        kind=kind,
        stages=tuple(Stage(*level) for level in levels),
        stem=stem if kind == "ResidualEncoderUNet" else 0,
        bias=said.conv_bias,
        dropout=said.dropout_op is not None,
        statistics=batch if norm.track_running_stats is None else norm.track_running_stats,
        epsilon=norm.eps,
        affine=batch if norm.affine is None else norm.affine,
        slope=options.negative_slope if leaky else 0.0,
    )
    if max(made._divisor) > _LARGEST_DIVISOR:
        raise _unknown(f"strides that make {list(made._divisor)} voxels one", where)
    return made


def _bottlenecks(said: Arguments, where: object) -> tuple[int, ...]:
    """Return the features within the blocks of each level, 0 of those that have none."""
    if said.block is None or said.block.endswith("BasicBlockD"):
        return (0,) * said.n_stages
    found = said.bottleneck_channels or ()
    if len(found) != said.n_stages:
        raise _unknown(f"{said.n_stages} levels, and bottleneck_channels of {len(found)}", where)
    return found


def _unknown(found: str, where: object) -> ModelError:
    return ModelError(f"has {found}", where=where, expected=_EXPECTED, remedy=_REMEDY)
