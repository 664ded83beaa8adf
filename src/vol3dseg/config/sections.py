"""The sections of a config as frozen models: what can be chosen, with its defaults and limits."""

from collections import Counter
from math import prod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vol3dseg.datasets.splits import SplitConfig
from vol3dseg.recipe import Recipe
from vol3dseg.schema import Amount, Count, Frozen, Once, Positive, Seed, Share, differences
from vol3dseg.space.labels import LabelSet

Stride = Annotated[Positive, Field(le=4)]
Factor = Annotated[Amount, Field(ge=0.1, le=10)]


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
    norm : "batch" or "instance"
        Batch norm makes outputs depend on their receptive field alone, so the tiles of inference
        are free to be of any size; instance norm takes its statistics from the whole tile.
    dropout : float
        Share of channels dropped at the bottom while training.
    """

    depth: Annotated[Positive, Field(le=6)] = 4
    width: Annotated[Positive, Field(le=4096)] = 16
    max_width: Annotated[Positive, Field(le=4096)] = 320
    strides: tuple[tuple[Stride, Stride, Stride], ...] | None = None
    norm: Literal["batch", "instance"] = "instance"
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

    @property
    def level_strides(self) -> tuple[tuple[int, int, int], ...]:
        """What each step down divides the voxels along i, j, k by, from the full grid on."""
        return self.strides or ((2, 2, 2),) * self.depth

    @property
    def divisor(self) -> tuple[int, int, int]:
        """What the sides of an input along i, j, k must be multiples of [voxels]."""
        i, j, k = (prod(along) for along in zip(*self.level_strides, strict=True))
        return i, j, k

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of each level, from the full grid down to the bottom."""
        return tuple(min(self.width * 2**n, self.max_width) for n in range(self.depth + 1))


class AugmentConfig(Frozen):
    """What is done to training patches; each part with its own probability.

    Attributes
    ----------
    flip_axes : tuple of "i", "j", "k"
        Axes that anatomy allows to mirror; i is left to right.
    affine : float
        Probability of a rotation and scaling.
    rotate_degrees : float
        Largest rotation about each axis [degree].
    scale : (2,) tuple of float
        Range of the factor of size.
    intensity : float
        Probability of a change of brightness and contrast, per modality.
    noise : float
        Probability of Gaussian noise.
    gamma : float
        Probability of a gamma curve, per modality.
    """

    flip_axes: Annotated[tuple[Literal["i", "j", "k"], ...], Once] = ()
    affine: Share = 0.2
    rotate_degrees: Annotated[Amount, Field(le=180)] = 15.0
    scale: tuple[Factor, Factor] = (0.85, 1.2)
    intensity: Share = 0.3
    noise: Share = 0.15
    gamma: Share = 0.2

    @model_validator(mode="after")
    def _rising(self) -> "AugmentConfig":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale {list(self.scale)} must rise; give the smaller factor first")
        return self


class ReduceLROnPlateauConfig(Frozen):
    """Lower the learning rate when `val_loss` no longer falls."""

    factor: Annotated[Share, Field(gt=0, lt=1)] = 0.2
    patience: Annotated[Positive, Field(le=100_000)] = 2
    min_lr: Share = 1e-6


class EarlyStoppingConfig(Frozen):
    """Stop when `val_loss` no longer falls."""

    patience: Annotated[Positive, Field(le=100_000)] = 10


class TrainingConfig(Frozen):
    """How the network is trained.

    Attributes
    ----------
    modalities : tuple of str or None
        Which of the prepared modalities the model sees; None for all.
    epochs, batch_size, steps_per_epoch : int
        Without `steps_per_epoch` an epoch draws as many patches as there are training cases, or
        patch-sized pieces of them.
    micro_batch : int or None
        Patches that go through the network at once; gradients are added up until the batch is
        whole. It must divide `batch_size`. None takes the most that is estimated to fit in memory.
    validation_patches : int
        Of each validation case, half with foreground; `val_loss` is computed on this fixed list.
    foreground : float
        Share of patches that are drawn to hold a foreground class, all classes equally often.
    loss : str
    optimizer : "adam" or "adamw"
    learning_rate : float
    weight_decay : float
        Of AdamW.
    schedule : "constant" or "cosine"
        Cosine decay runs from the learning rate to 0 over all epochs.
    clip_norm : float or None
        Largest global norm of the gradient.
    augment : AugmentConfig or None
    reduce_lr_on_plateau, early_stopping : section or None
        None switches the callback off.
    model_checkpoint : bool
        Keep the weights of the best `val_loss`; without it the last epoch is exported.
    seed : int
    deterministic : bool
        Repeat exactly on the same machine with the same number of threads; slower.
    workers : int
        Threads that read and augment patches.
    cache_mb : int
        Memory for patches' volumes kept open between epochs [MB]; 0 reads from disk every time.
    """

    modalities: Annotated[tuple[str, ...], Once] | None = None
    epochs: Annotated[Positive, Field(le=100_000)] = 50
    batch_size: Annotated[Positive, Field(le=4096)] = 2
    micro_batch: Positive | None = None
    steps_per_epoch: Positive | None = Field(default=None, le=1_000_000)
    validation_patches: Annotated[Positive, Field(ge=2, le=1000)] = 2
    foreground: Share = 0.67
    loss: Literal["cross_entropy", "dice", "dice_cross_entropy", "focal"] = "dice_cross_entropy"
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: Annotated[Amount, Field(gt=0, le=100)] = 1e-3
    weight_decay: Annotated[Amount, Field(le=100)] = 1e-2
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: Amount | None = Field(default=None, gt=0)
    augment: AugmentConfig | None = AugmentConfig()
    reduce_lr_on_plateau: ReduceLROnPlateauConfig | None = None
    early_stopping: EarlyStoppingConfig | None = None
    model_checkpoint: bool = True
    seed: Seed = 0
    deterministic: bool = False
    workers: Annotated[Positive, Field(le=1024)] = 2
    cache_mb: Annotated[Count, Field(le=2**30)] = 2048

    @property
    def at_once(self) -> int:
        """Patches that go through the network at once: the micro-batch, or the whole batch."""
        return self.micro_batch or self.batch_size

    @property
    def micro_batches(self) -> int:
        """How many micro-batches make a batch."""
        return self.batch_size // self.at_once

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingConfig":
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise ValueError(
                f"micro_batch {self.micro_batch} must divide batch_size {self.batch_size}; "
                "choose a divisor, or null for the most that fits in memory"
            )
        if self.schedule != "constant" and self.reduce_lr_on_plateau is not None:
            raise ValueError(
                f"reduce_lr_on_plateau and schedule: {self.schedule} would both set the learning "
                "rate; keep one of them (schedule: constant, or reduce_lr_on_plateau: null)"
            )
        return self


class Config(Frozen):
    """Everything that can be chosen. See `configs/` for the presets."""

    labels: LabelSet
    recipe: Recipe
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        divisor = self.model.divisor
        if any(n % d for n, d in zip(self.recipe.patch_size, divisor, strict=True)):
            raise ValueError(
                f"recipe.patch_size {list(self.recipe.patch_size)} must be multiples of "
                f"{list(divisor)}, what the strides of the {self.model.depth} levels multiply to"
            )
        in_log = Counter("_".join(name.lower().split()) for name in self.labels.names)
        if twice := [name for name, times in in_log.items() if times > 1]:
            raise ValueError(
                f"classes would share the column dice_{twice[0]} of training.log; give them names "
                "that differ in more than capitals and spaces"
            )
        unknown = set(self.training.modalities or ()) - set(self.recipe.modalities)
        if unknown:
            raise ValueError(
                f"training.modalities {sorted(unknown)} are not in recipe.modalities "
                f"{list(self.recipe.modalities)}"
            )
        return self

    def with_micro_batch(self, size: int | None) -> "Config":
        """Return the config with another micro-batch; `size` must divide the batch size."""
        training = self.training.model_copy(update={"micro_batch": size})
        return self.model_copy(update={"training": training})

    def resumes(self, before: "Config") -> "Config":
        """Return this config with the micro-batch that `before` took, where this leaves it open."""
        return self.with_micro_batch(self.training.micro_batch or before.training.micro_batch)

    def differences(self, other: "Config") -> str:
        """Return in words what differs between two configs; empty where nothing does."""
        return differences(self.model_dump(mode="json"), other.model_dump(mode="json"))

    @property
    def model_recipe(self) -> Recipe:
        """The recipe of the model that is trained: only its modalities."""
        return self.recipe.select(self.training.modalities or self.recipe.modalities)
