"""The section `training`: how the network learns."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vol3dseg.config.augment_section import AugmentConfig
from vol3dseg.config.growth_section import GrowPatchConfig
from vol3dseg.schema import Amount, Count, Frozen, Name, Once, Positive, Seed, Share

Weight = Annotated[Amount, Field(ge=1e-3, le=1e3)]

MOST_OPTIONAL = 6  # modalities; each choice of them is judged by itself
VOLUME_DICE = "val_volume_dice"  # its column in training.log
Measure = Literal["val_loss", "val_volume_dice"]


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
        Share of patches that are drawn to hold a foreground class.
    foreground_by : "classes" or "voxels"
        Whether all classes of a case are drawn equally often, or as often as they have voxels.
    foreground_weights : mapping from class to float
        How much more often a class is drawn than that; 1 for those that are not named.
    targets : "classes" or "regions"
        What the network has outputs for: classes that exclude each other, or each region of
        `labels.regions` by itself, from which classes follow (`space.region_order`).
    loss : str
    deep_supervision : bool
        Whether the loss is taken at coarser levels of the decoder as well. They are no part of the
        deployed network, nor of `val_loss` and the metrics.
    class_weights : mapping from class or region to float
        How much each target counts in the loss; 1 of those that are not named.
    optimizer : "adam", "adamw", "sgd" or "schedule_free_adamw"
        SGD with Nesterov's momentum. Schedule-free AdamW averages the weights by itself.
    learning_rate : float
    weight_decay : float
        Of all but Adam: what a step takes off each kernel, as a share of it times the rate.
    momentum : float
        Of SGD.
    schedule : "constant", "cosine" or "polynomial"
        How the rate falls to 0, from the end of the warm-up to that of the last epoch.
    schedule_power : float
        Of the polynomial, (1 - t) ** power.
    warmup_epochs : float
        Over which the rate rises in a line from 0.
    clip_norm : float or None
        Largest global norm of the gradient.
    ema : float or None
        Share of itself that the moving average of the weights keeps after each change of them. What
        is judged and deployed is the average; training goes on with the weights themselves.
    freeze : "encoder" or None
        The part of a network of `model` that does not learn; for one that starts from another.
    modality_dropout : mapping from modality to float
        Share of patches in which a modality is shown as missing: zeros. A case may lack the
        modalities that are named; one at least is always there.
    augment : AugmentConfig or None
    grow_patch : GrowPatchConfig or None
        None trains on patches of the whole `recipe.patch_size` from the first epoch on.
    reduce_lr_on_plateau, early_stopping : section or None
        None switches the callback off.
    model_checkpoint : bool
        Keep the weights of the best epoch, see `best_by`; without it the last one is exported.
    validate_every : int or None
        After every so many epochs, and the last, whole volumes are segmented as the deployed model
        would, and their mean Dice chooses the best epoch. None leaves that to `val_loss`.
    validation_volumes : int or None
        How many validation cases are segmented, spread over their foreground volumes; None: all.
    precision : "auto", "float32", "bfloat16" or "float16"
        What convolutions are computed in; weights, norms' statistics, losses and the deployed model
        are float32 always. "auto" takes bfloat16 where this machine is quicker in it, as measured
        before the first step. float16 is for GPUs; its loss is scaled.
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
    foreground_by: Literal["classes", "voxels"] = "classes"
    foreground_weights: dict[Name, Weight] = {}
    targets: Literal["classes", "regions"] = "classes"
    loss: Literal["cross_entropy", "dice", "dice_cross_entropy", "focal"] = "dice_cross_entropy"
    deep_supervision: bool = False
    class_weights: dict[Name, Weight] = {}
    optimizer: Literal["adam", "adamw", "sgd", "schedule_free_adamw"] = "adam"
    learning_rate: Annotated[Amount, Field(gt=0, le=100)] = 1e-3
    weight_decay: Annotated[Amount, Field(le=100)] = 1e-2
    momentum: Annotated[Share, Field(lt=1)] = 0.99
    schedule: Literal["constant", "cosine", "polynomial"] = "constant"
    schedule_power: Annotated[Amount, Field(gt=0, le=10)] = 0.9
    warmup_epochs: Annotated[Amount, Field(le=100_000)] = 0.0
    clip_norm: Amount | None = Field(default=None, gt=0)
    ema: Annotated[Share, Field(gt=0, lt=1)] | None = None
    freeze: Literal["encoder"] | None = None
    modality_dropout: Annotated[
        dict[Name, Annotated[Share, Field(gt=0, le=0.9)]], Field(max_length=MOST_OPTIONAL)
    ] = {}
    augment: AugmentConfig | None = AugmentConfig()
    grow_patch: GrowPatchConfig | None = None
    reduce_lr_on_plateau: ReduceLROnPlateauConfig | None = None
    early_stopping: EarlyStoppingConfig | None = None
    model_checkpoint: bool = True
    validate_every: Annotated[Positive, Field(le=100_000)] | None = None
    validation_volumes: Annotated[Positive, Field(le=100_000)] | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
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

    @property
    def best_by(self) -> Measure:
        """What chooses the best epoch: the lowest `val_loss`, or the highest Dice of volumes."""
        return "val_loss" if self.validate_every is None else "val_volume_dice"

    @property
    def judges(self) -> list[str]:
        """The keys that are set and cannot do without validation cases."""
        keys = ("reduce_lr_on_plateau", "early_stopping", "validate_every")
        return [key for key, value in self if key in keys and value is not None]

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingConfig":
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise ValueError(
                f"micro_batch {self.micro_batch} must divide batch_size {self.batch_size}; "
                "choose a divisor, or null for the most that fits in memory"
            )
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} leave nothing of {self.epochs} epochs; "
                "choose fewer of them, or more epochs"
            )
        sets = [f"warmup_epochs: {self.warmup_epochs:g}"] * bool(self.warmup_epochs)
        sets += [f"schedule: {self.schedule}"] * (self.schedule != "constant")
        if sets and self.reduce_lr_on_plateau is not None:
            raise ValueError(
                f"reduce_lr_on_plateau and {sets[-1]} would both set the learning "
                "rate; keep one of them (schedule: constant and warmup_epochs: 0, or "
                "reduce_lr_on_plateau: null)"
            )
        if self.validation_volumes is not None and self.validate_every is None:
            raise ValueError(
                f"validation_volumes is {self.validation_volumes}, and validate_every is null, so "
                "no volume is segmented; set validate_every, or validation_volumes: null"
            )
        if self.optimizer == "schedule_free_adamw":
            self._require_free()
        return self

    def _require_free(self) -> None:
        """Refuse what a schedule-free optimizer does by itself."""
        for key, found, mended in (
            ("schedule", self.schedule, "constant"),
            ("reduce_lr_on_plateau", self.reduce_lr_on_plateau, None),
            ("ema", self.ema, None),
        ):
            if found != mended:
                raise ValueError(
                    f"optimizer schedule_free_adamw averages the weights instead of lowering the "
                    f"rate, and {key} is set; choose {key}: {mended or 'null'}, or optimizer: adamw"
                )
