"""Arguments of nnU-Net's networks, as `arch_kwargs` of plans give them: those that are carried."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from vol3dseg.schema import Frozen

EPSILON = 1e-5  # torch's
_Count = Annotated[int, Strict(), Field(ge=1, le=64)]
_Channels = Annotated[int, Strict(), Field(ge=1, le=2**14)]
_Triple = tuple[_Count, _Count, _Count]


class NormOptions(Frozen):
    """Of a norm."""

    eps: Annotated[float, Strict(), Field(gt=0, le=1)] = EPSILON
    affine: bool | None = None  # as torch has it: of batch norms, and of no instance norms
    momentum: Annotated[float, Strict(), Field(ge=0, le=1)] | None = None  # of training alone
    track_running_stats: bool | None = None  # as `affine`


class DropoutOptions(Frozen):
    """Of dropout."""

    p: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.5
    inplace: bool = False


class ActivationOptions(Frozen):
    """Of an activation."""

    inplace: bool = False
    negative_slope: Annotated[float, Strict(), Field(ge=-10, le=10)] = 0.01


class Arguments(Frozen):
    """`arch_kwargs` of plans, with a list where they give one number for all levels."""

    n_stages: Annotated[int, Strict(), Field(ge=2, le=16)]
    features_per_stage: tuple[_Channels, ...]
    conv_op: Literal["torch.nn.modules.conv.Conv3d", "torch.nn.Conv3d"]
    kernel_sizes: tuple[_Triple, ...]
    strides: tuple[_Triple, ...]
    n_conv_per_stage: tuple[_Count, ...]  # of a residual encoder: blocks
    n_conv_per_stage_decoder: tuple[_Count, ...]
    conv_bias: bool = False
    norm_op: Literal[
        "torch.nn.modules.instancenorm.InstanceNorm3d",
        "torch.nn.InstanceNorm3d",
        "torch.nn.modules.batchnorm.BatchNorm3d",
        "torch.nn.BatchNorm3d",
    ]
    norm_op_kwargs: NormOptions | None = None
    dropout_op: (
        Literal[
            "torch.nn.Dropout3d",
            "torch.nn.modules.dropout.Dropout3d",
            "torch.nn.Dropout",
            "torch.nn.modules.dropout.Dropout",
        ]
        | None
    ) = None  # of training alone
    dropout_op_kwargs: DropoutOptions | None = None
    nonlin: Literal[
        "torch.nn.LeakyReLU",
        "torch.nn.modules.activation.LeakyReLU",
        "torch.nn.ReLU",
        "torch.nn.modules.activation.ReLU",
    ]
    nonlin_kwargs: ActivationOptions | None = None
    nonlin_first: Literal[False] = False
    deep_supervision: bool = False
    stem_channels: _Channels | None = None
    block: (
        Literal[
            "dynamic_network_architectures.building_blocks.residual.BasicBlockD",
            "dynamic_network_architectures.building_blocks.residual.BottleneckD",
        ]
        | None
    ) = None
    bottleneck_channels: tuple[_Channels, ...] | None = None
