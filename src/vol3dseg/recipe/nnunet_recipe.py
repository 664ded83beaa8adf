"""The recipe of a model that nnU-Net has trained: what its plans do to a scan, step by step.

It stands beside `Recipe` in manifests only: nothing is prepared for training by it.
"""

from math import prod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vol3dseg.files import sha256_json
from vol3dseg.recipe.definition import LARGEST_PATCH, PatchSide
from vol3dseg.recipe.nnunet_normalisation import CTWindow, NnunetNormalisation
from vol3dseg.recipe.nnunet_resampling import Resampling
from vol3dseg.schema import Frozen, Millimetres, Name, Once


class NnunetRecipe(Frozen):
    """What nnU-Net 2's `DefaultPreprocessor` does to a scan before the network sees it.

    All that has axes is along i, j, k of the stored file, or of the file turned to RAS.

    Attributes
    ----------
    version : int
        Of the meaning of these fields.
    modalities : tuple of str
        In the order of the network's channels.
    orientation : "stored" or "RAS"
        Whether axes stay as the file stores them (`SimpleITKIO`, `NibabelIO`) or are turned to the
        order and direction closest to RAS (the readers `...WithReorient`).
    spacing_mm : (3,) tuple of float
        Voxel spacing that scans are resampled to [mm].
    normalisation : mapping from modality to NnunetNormalisation
    images, outputs : Resampling
        How images are resampled to `spacing_mm`, and the network's outputs back.
    patch_size : (3,) tuple of int
        What the network was trained on [voxels].
    """

    kind: Literal["nnunet"]
    version: Literal[1] = 1
    modalities: Annotated[tuple[Name, ...], Once] = Field(min_length=1, max_length=64)
    orientation: Literal["stored", "RAS"]
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres]
    normalisation: dict[str, NnunetNormalisation]
    images: Resampling
    outputs: Resampling
    patch_size: tuple[PatchSide, PatchSide, PatchSide]

    @model_validator(mode="after")
    def _consistent(self) -> "NnunetRecipe":
        problems = []
        if set(self.normalisation) != set(self.modalities):
            problems.append(
                f"normalisation is given for {sorted(self.normalisation)}, modalities are "
                f"{sorted(self.modalities)}"
            )
        if prod(self.patch_size) > LARGEST_PATCH:
            problems.append(
                f"patch_size {list(self.patch_size)} are {prod(self.patch_size)} voxels, expected "
                f"at most {LARGEST_PATCH}"
            )
        if self.outputs.method == "none" and self.images.method != "none":
            problems.append("images are resampled, so outputs must be")
        if self.outputs.method == "spline" and 3 in (self.outputs.order, self.outputs.order_z):
            problems.append("outputs of order 3 cannot be resampled row by row, expected 0 or 1")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def crop(self) -> str:
        """What is cut off: what is zero in all modalities."""
        return "nonzero"

    @property
    def bias_correction(self) -> None:
        """None: nnU-Net corrects no bias fields."""
        return None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the version and all that is not a default, in canonical JSON."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return sha256_json({**content, "version": self.version})

    @property
    def windows(self) -> dict[str, tuple[float, float]]:
        """The ends of the window of each modality that is normalised by one."""
        steps = self.normalisation.items()
        return {name: (step.low, step.high) for name, step in steps if isinstance(step, CTWindow)}

    def require_extras(self) -> None:
        """Do nothing: no step needs what is not installed."""
