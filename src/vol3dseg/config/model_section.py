"""The section `model`: the network."""

from math import prod
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from vol3dseg.schema import Frozen, Positive, Share


def _odd(side: int) -> int:
    if side % 2 == 0:
        raise ValueError(f"{side} voxels have no middle; give an odd number")
    return side


Stride = Annotated[Positive, Field(le=4)]
_BLOCKS = (1, 3, 4, 6, 6, 6, 6)  # of the deepest network
KernelSide = Annotated[Positive, Field(le=7), AfterValidator(_odd)]


class ModelConfig(Frozen):
    """The network: a 3-D U-Net.

    Attributes
    ----------
    depth : int
        How many levels lie below the full grid.
    width : int
        Filters of the first level; each level down has twice as many.
    max_width : int
        No level has more filters than this.
    strides : tuple of (3,) tuple of int, or None
        What each step down divides the voxels along i, j, k by, from the full grid on; 1 leaves an
        axis as it is, for scans whose voxels are much longer along it. None halves all three.
    kernels : tuple of (3,) tuple of int, or None
        Sides of the convolutions of each level along i, j, k, from the full grid down to the
        bottom [voxels]; 1 looks at no neighbour along an axis, for slices that lie far apart.
        None takes 3 x 3 x 3 everywhere.
    norm : "batch" or "instance"
        Batch norm makes outputs depend on their receptive field alone, so the tiles of inference
        are free to be of any size; instance norm takes its statistics from the whole tile.
    encoder : "plain" or "residual"
        Two convolutions at each level, or residual blocks of two (`networks.blocks`).
    blocks : tuple of int, or None
        Residual blocks of each level, from the full grid down to the bottom. None takes 1, 3, 4
        and then 6, as nnU-Net's residual encoders have.
    dropout : float
        Share of channels dropped at the bottom while training.
    """

    depth: Annotated[Positive, Field(le=6)] = 4
    width: Annotated[Positive, Field(le=4096)] = 16
    max_width: Annotated[Positive, Field(le=4096)] = 320
    strides: tuple[tuple[Stride, Stride, Stride], ...] | None = None
    kernels: tuple[tuple[KernelSide, KernelSide, KernelSide], ...] | None = None
    norm: Literal["batch", "instance"] = "batch"
    encoder: Literal["plain", "residual"] = "plain"
    blocks: tuple[Annotated[Positive, Field(le=16)], ...] | None = None
    dropout: Annotated[Share, Field(lt=1)] = 0.0

    @model_validator(mode="after")
    def _one_stride_for_each_step(self) -> "ModelConfig":
        if self.strides is not None and len(self.strides) != self.depth:
            raise ValueError(
                f"strides has {len(self.strides)} entries and depth is {self.depth}; give one "
                "triple for each level below the full grid"
            )
        if (1, 1, 1) in self.level_strides:
            raise ValueError("strides of [1, 1, 1] make no level; leave them out and lower depth")
        return self

    @model_validator(mode="after")
    def _one_kernel_for_each_level(self) -> "ModelConfig":
        if self.kernels is not None and len(self.kernels) != self.depth + 1:
            raise ValueError(
                f"kernels has {len(self.kernels)} entries and depth is {self.depth}; give one "
                "triple for the full grid and for each level below it"
            )
        if (1, 1, 1) in self.level_kernels:
            raise ValueError("kernels of [1, 1, 1] see no neighbour; give a level 3 along an axis")
        return self

    @model_validator(mode="after")
    def _blocks_for_each_level(self) -> "ModelConfig":
        if self.blocks is not None and self.encoder == "plain":
            raise ValueError(
                "blocks are those of a residual encoder; say encoder: residual, or blocks: null"
            )
        if self.blocks is not None and len(self.blocks) != self.depth + 1:
            raise ValueError(
                f"blocks has {len(self.blocks)} entries and depth is {self.depth}; give a number "
                "for the full grid and for each level below it"
            )
        return self

    @property
    def local(self) -> bool:
        """Whether outputs depend on their receptive field alone."""
        return self.norm != "instance"

    @property
    def level_strides(self) -> tuple[tuple[int, int, int], ...]:
        """What each step down divides the voxels along i, j, k by, from the full grid on."""
        return self.strides or ((2, 2, 2),) * self.depth

    @property
    def level_kernels(self) -> tuple[tuple[int, int, int], ...]:
        """Sides of the convolutions of each level, from the full grid down to the bottom."""
        return self.kernels or ((3, 3, 3),) * (self.depth + 1)

    @property
    def level_blocks(self) -> tuple[int, ...]:
        """Residual blocks of each level of a residual encoder, from the full grid down."""
        return self.blocks or _BLOCKS[: self.depth + 1]

    @property
    def divisor(self) -> tuple[int, int, int]:
        """What the sides of an input along i, j, k must be multiples of [voxels]."""
        i, j, k = (prod(along) for along in zip(*self.level_strides, strict=True))
        return i, j, k

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of each level, from the full grid down to the bottom."""
        return tuple(min(self.width * 2**n, self.max_width) for n in range(self.depth + 1))
