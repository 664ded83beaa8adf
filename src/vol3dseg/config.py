"""The config: one YAML file with everything that can be chosen, parsed into frozen models."""

import difflib
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vol3dseg.datasets.splits import SplitConfig
from vol3dseg.errors import ConfigError
from vol3dseg.preprocessing.recipe import Recipe
from vol3dseg.volumes.labels import LabelSet


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Section):
    """The network: a 3-D U-Net.

    Attributes
    ----------
    depth : int
        How often the grid is halved; patch sizes must be multiples of 2**depth.
    width : int
        Filters of the first level; each level down has twice as many.
    max_width : int
        No level has more filters than this.
    norm : "batch" or "instance"
        Batch norm makes outputs depend on their receptive field alone, so the tiles of inference
        are free to be of any size; instance norm takes its statistics from the whole tile.
    dropout : float
        Share of channels dropped at the bottom while training.
    """

    depth: int = Field(default=4, ge=1, le=6)
    width: int = Field(default=16, ge=1)
    max_width: int = Field(default=320, ge=1)
    norm: Literal["batch", "instance"] = "instance"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @property
    def divisor(self) -> int:
        """What every side of an input must be a multiple of [voxels]."""
        return int(2**self.depth)


class AugmentConfig(_Section):
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

    flip_axes: tuple[Literal["i", "j", "k"], ...] = ()
    affine: float = Field(default=0.2, ge=0, le=1)
    rotate_degrees: float = Field(default=15.0, ge=0, le=180)
    scale: tuple[float, float] = (0.85, 1.2)
    intensity: float = Field(default=0.3, ge=0, le=1)
    noise: float = Field(default=0.15, ge=0, le=1)
    gamma: float = Field(default=0.2, ge=0, le=1)


class ReduceLROnPlateauConfig(_Section):
    """Lower the learning rate when `val_loss` no longer falls."""

    factor: float = Field(default=0.2, gt=0, lt=1)
    patience: int = Field(default=2, ge=1)
    min_lr: float = Field(default=1e-6, ge=0)


class EarlyStoppingConfig(_Section):
    """Stop when `val_loss` no longer falls."""

    patience: int = Field(default=10, ge=1)


class TrainingConfig(_Section):
    """How the network is trained.

    Attributes
    ----------
    modalities : tuple of str or None
        Which of the prepared modalities the model sees; None for all.
    epochs, batch_size, steps_per_epoch : int
        Without `steps_per_epoch` an epoch draws as many patches as there are training cases, or
        patch-sized pieces of them.
    validation_patches : int
        Length of the fixed list that `val_loss` is computed on.
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

    modalities: tuple[str, ...] | None = None
    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=2, ge=1)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    validation_patches: int = Field(default=64, ge=1)
    foreground: float = Field(default=0.67, ge=0, le=1)
    loss: Literal["cross_entropy", "dice", "dice_cross_entropy", "focal"] = "dice_cross_entropy"
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float | None = Field(default=None, gt=0)
    augment: AugmentConfig | None = AugmentConfig()
    reduce_lr_on_plateau: ReduceLROnPlateauConfig | None = None
    early_stopping: EarlyStoppingConfig | None = None
    model_checkpoint: bool = True
    seed: int = Field(default=0, ge=0)
    deterministic: bool = False
    workers: int = Field(default=2, ge=1)
    cache_mb: int = Field(default=2048, ge=0)

    @model_validator(mode="after")
    def _one_hand_on_the_rate(self) -> "TrainingConfig":
        if self.schedule != "constant" and self.reduce_lr_on_plateau is not None:
            raise ValueError(
                f"reduce_lr_on_plateau and schedule: {self.schedule} would both set the learning "
                "rate; keep one of them (schedule: constant, or reduce_lr_on_plateau: null)"
            )
        return self


class Config(_Section):
    """Everything that can be chosen. See `configs/` for the presets."""

    labels: LabelSet
    recipe: Recipe
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        divisor = self.model.divisor
        if any(n % divisor for n in self.recipe.patch_size):
            raise ValueError(
                f"recipe.patch_size {list(self.recipe.patch_size)} must be multiples of "
                f"2**model.depth = {divisor}"
            )
        unknown = set(self.training.modalities or ()) - set(self.recipe.modalities)
        if unknown:
            raise ValueError(
                f"training.modalities {sorted(unknown)} are not in recipe.modalities "
                f"{list(self.recipe.modalities)}"
            )
        return self

    @property
    def model_recipe(self) -> Recipe:
        """The recipe of the model that is trained: only its modalities."""
        return self.recipe.select(self.training.modalities or self.recipe.modalities)


def preset_names() -> list[str]:
    """Return the names of the shipped presets; one in a folder is named `folder/name`."""
    return sorted(_presets(resources.files("vol3dseg.configs"), ""))


def _presets(folder: Traversable, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _presets(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml")


def load_config(name_or_file: str | Path) -> Config:
    """Read a preset by name, or a YAML file.

    Parameters
    ----------
    name_or_file : str or Path
        A path is what is a file, or ends in .yaml or .yml; a folder does not hide a preset.

    Raises
    ------
    ConfigError
        There is no such preset or file, it is no YAML, or a key or value in it is not valid.
    """
    path = Path(name_or_file)
    if path.is_file():
        return parse_config(_yaml(_text(path), str(path)), str(path))
    if path.suffix in {".yaml", ".yml"}:
        raise ConfigError(f"{path}: no such config file; expected a YAML file or a preset's name")
    names = preset_names()
    if str(name_or_file) not in names:
        guess = _suggestion(str(name_or_file), names)
        raise ConfigError(f"no preset {str(name_or_file)!r}{guess}; presets: {', '.join(names)}")
    text = resources.files("vol3dseg.configs").joinpath(f"{name_or_file}.yaml").read_text("utf-8")
    return parse_config(_yaml(text, f"preset {name_or_file}"), f"preset {name_or_file}")


def parse_config(data: object, source: str) -> Config:
    """Turn parsed YAML or JSON into a `Config`.

    Parameters
    ----------
    data : object
        Expected: a mapping with the sections of `Config`.
    source : str
        Where it comes from, for the message.

    Raises
    ------
    ConfigError
        Every problem at once, each with its place; an unknown key with a suggestion.
    """
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_problem(e) for e in error.errors(include_url=False))
        raise ConfigError(f"{source}: {problems}") from error


def dump_config(config: Config) -> str:
    """Return `config` as YAML that `load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8; expected YAML") from error


def _yaml(text: str, source: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{source}: not valid YAML ({detail}); mend it there") from error


def _problem(error: Any) -> str:
    place = ".".join(map(str, error["loc"])) or "config"
    if error["type"] == "extra_forbidden":
        known = _fields_at(error["loc"][:-1])
        return f"unknown key {place!r}{_suggestion(str(error['loc'][-1]), known)}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" + (
        f" (found {error['input']!r})" if error["type"] not in {"missing", "value_error"} else ""
    )


def _fields_at(path: tuple[int | str, ...]) -> list[str]:
    """Return the keys known at `path`: field names of the model that stands there."""
    model: Any = Config
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            continue
        found = _models_in(field.annotation)
        model = found[0] if found else None
    return list(getattr(model, "model_fields", {}))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models_in(a)]


def _suggestion(wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    return (
        f", did you mean {close[0]!r}?" if close else (f"; known: {', '.join(known)}" * bool(known))
    )
