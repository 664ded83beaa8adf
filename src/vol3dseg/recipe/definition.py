"""The recipe: what the network sees of a scan. THE definition, used everywhere.

It travels with what was made by it: prepared folder, run, ONNX file. Nothing but
`vol3dseg.preprocessing.prepare` reads its steps.
"""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vol3dseg.errors import ConfigError, RecipeMismatch
from vol3dseg.extras import simpleitk
from vol3dseg.files import sha256_json
from vol3dseg.recipe.bias_field import N4
from vol3dseg.recipe.window import Window
from vol3dseg.recipe.zscore import ZScore
from vol3dseg.schema import Frozen, Millimetres, Name, Once, Side, differences
from vol3dseg.space.kernels import CUBIC, LINEAR, Kernel

PatchSide = Annotated[Side, Field(le=4096)]
LARGEST_PATCH = 2**28  # voxels of a patch: no network trains on more
Normalisation = Annotated[ZScore | Window, Field(discriminator="method")]


class Recipe(Frozen):
    """What is done to a scan before the network sees it.

    Attributes
    ----------
    kind : "vol3dseg"
        What tells it from the recipes of models that were trained elsewhere.
    version : int
        Of the meaning of these fields. An old model keeps its version and its answers.
    modalities : tuple of str
        In the order of the network's channels.
    orientation : "RAS"
        Axes are brought to the order and direction closest to this.
    bias_correction : N4 or None
        What takes the bias field out of each whole image, before anything else is done to it.
    crop : "nonzero" or "none"
        Whether to cut off what is zero in all modalities.
    spacing_mm : (3,) tuple of float or None
        Voxel spacing to resample to, along R, A, S [mm]; None keeps each scan's own.
    interpolation : "linear" or "cubic"
        How images are resampled; labels and probabilities are resampled linearly in either case.
    normalisation : mapping from modality to Normalisation
    patch_size : (3,) tuple of int
        What the network is trained on and, unless told otherwise, the tile of inference [voxels].
    """

    kind: Literal["vol3dseg"] = "vol3dseg"
    version: Literal[1] = 1
    modalities: Annotated[tuple[Name, ...], Once] = Field(min_length=1, max_length=64)
    orientation: Literal["RAS"] = "RAS"
    bias_correction: N4 | None = None
    crop: Literal["nonzero", "none"] = "nonzero"
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = None
    interpolation: Literal["linear", "cubic"] = "linear"
    normalisation: dict[str, Normalisation]
    patch_size: tuple[PatchSide, PatchSide, PatchSide]

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, data: Any) -> Any:
        """Let `normalisation: {method: ...}` stand for all modalities."""
        if not isinstance(data, Mapping):
            return data
        names, one = data.get("modalities"), data.get("normalisation")
        if isinstance(names, list | tuple) and isinstance(one, Mapping) and "method" in one:
            each = {name: one for name in names if isinstance(name, str)}
            return {**data, "normalisation": each}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if set(self.normalisation) != set(self.modalities):
            raise ValueError(
                f"normalisation is given for {sorted(self.normalisation)}, "
                f"modalities are {sorted(self.modalities)}"
            )
        if prod(self.patch_size) > LARGEST_PATCH:
            raise ValueError(
                f"patch_size {list(self.patch_size)} are {prod(self.patch_size)} voxels, expected "
                f"at most {LARGEST_PATCH}"
            )
        return self

    def select(self, modalities: Iterable[str]) -> "Recipe":
        """Return the recipe of a model that sees these modalities only.

        Raises
        ------
        ConfigError
            A modality is not in the recipe.
        """
        wanted = tuple(modalities)
        unknown = [name for name in wanted if name not in self.modalities]
        if unknown or not wanted:
            raise ConfigError(
                f"modalities {unknown or 'of length 0'} cannot be chosen",
                expected=f"some of {list(self.modalities)}, which the recipe has",
            )
        chosen = {name: self.normalisation[name] for name in wanted}
        return self.model_copy(update={"modalities": wanted, "normalisation": chosen})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the version and all that is not a default, in canonical JSON.

        So a new field, whose default leaves all as it was, leaves older fingerprints alone.
        """
        content = self.model_dump(mode="json", exclude_defaults=True)
        return sha256_json({**content, "version": self.version})

    @property
    def windows(self) -> dict[str, tuple[float, float]]:
        """The ends of the window of each modality that is normalised by one."""
        steps = self.normalisation.items()
        return {name: (step.low, step.high) for name, step in steps if isinstance(step, Window)}

    def require_extras(self) -> None:
        """Raise MissingExtraError where a step needs what is not installed."""
        if self.bias_correction is not None:
            simpleitk()

    @property
    def kernel(self) -> Kernel:
        """What images are interpolated with."""
        return CUBIC if self.interpolation == "cubic" else LINEAR

    def require_equal(self, other: "Recipe", ours: str, theirs: str) -> None:
        """Raise RecipeMismatch if `other` differs, naming every field and what each belongs to."""
        if self != other:
            fields = differences(self.model_dump(mode="json"), other.model_dump(mode="json"))
            raise RecipeMismatch(
                f"the recipes of {ours} and {theirs} differ in {fields}",
                remedy="use one recipe for both, or prepare into another folder",
            )
