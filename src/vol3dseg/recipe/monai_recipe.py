"""The recipe of a model that MONAI has trained: its transforms, one after the other.

It stands beside `Recipe` in manifests only: nothing is prepared for training by it.
"""

from math import prod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vol3dseg.files import sha256_json
from vol3dseg.recipe.definition import LARGEST_PATCH, PatchSide
from vol3dseg.recipe.monai_steps import MonaiStep, Resample, ScaleRange, Standardise
from vol3dseg.schema import Frozen, Name, Once
from vol3dseg.space.geometry import Spacing


class MonaiRecipe(Frozen):
    """What the transforms of a bundle of MONAI do to a scan before the network sees it.

    Attributes
    ----------
    version : int
        Of the meaning of these fields.
    modalities : tuple of str
        In the order of the network's channels.
    steps : tuple of MonaiStep
        In the order in which they are done. Of orientation, spacing and crop there is one each at
        most, and the crop comes after the spacing.
    patch_size : (3,) tuple of int
        The inferer's `roi_size` [voxels].
    """

    kind: Literal["monai"]
    version: Literal[1] = 1
    modalities: Annotated[tuple[Name, ...], Once] = Field(min_length=1, max_length=64)
    steps: tuple[MonaiStep, ...] = Field(max_length=64)
    patch_size: tuple[PatchSide, PatchSide, PatchSide]

    @model_validator(mode="after")
    def _consistent(self) -> "MonaiRecipe":
        done = [step.step for step in self.steps]
        problems = [
            f"{name} is done {done.count(name)} times"
            for name in ("orientation", "spacing", "crop")
            if done.count(name) > 1
        ]
        if "crop" in done and "spacing" in done[done.index("crop") :]:
            problems.append("spacing comes after the crop")
        for step in self.steps:
            if isinstance(step, Standardise):
                wanted = len(self.modalities) if step.channel_wise else 1
                if {len(step.subtrahend), len(step.divisor)} - {0, wanted}:
                    problems.append(f"subtrahend and divisor need {wanted} numbers each")
        if prod(self.patch_size) > LARGEST_PATCH:
            problems.append(
                f"patch_size {list(self.patch_size)} are {prod(self.patch_size)} voxels, expected "
                f"at most {LARGEST_PATCH}"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def orientation(self) -> str:
        """RAS where axes are turned, or "stored"."""
        return "RAS" if any(step.step == "orientation" for step in self.steps) else "stored"

    @property
    def spacing_mm(self) -> Spacing | None:
        """What scans are resampled to, None where each keeps its own [mm]."""
        steps = (step.spacing_mm for step in self.steps if isinstance(step, Resample))
        return next(steps, None)

    @property
    def crop(self) -> str:
        """Whether anything is cut off: "positive" or "none"."""
        return "positive" if any(step.step == "crop" for step in self.steps) else "none"

    @property
    def bias_correction(self) -> None:
        """None: no transform of the list corrects bias fields."""
        return None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the version and all that is not a default, in canonical JSON."""
        steps = [
            {"step": step.step, **step.model_dump(mode="json", exclude_defaults=True)}
            for step in self.steps
        ]
        content = self.model_dump(mode="json", exclude_defaults=True)
        return sha256_json({**content, "steps": steps, "version": self.version})

    @property
    def windows(self) -> dict[str, tuple[float, float]]:
        """The range of intensities that is kept of each modality, where there is one."""
        ranges = [(s.low, s.high) for s in self.steps if isinstance(s, ScaleRange) and s.clip]
        return dict.fromkeys(self.modalities, ranges[0]) if ranges else {}

    def require_extras(self) -> None:
        """Do nothing: no step needs what is not installed."""
