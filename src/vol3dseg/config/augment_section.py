"""The section `training.augment`: what is done to patches."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vol3dseg.schema import Amount, Frozen, Once, Share

Factor = Annotated[Amount, Field(ge=0.1, le=10)]


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
