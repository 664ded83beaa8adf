"""The section `training.augment`: what is done to patches."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vol3dseg.schema import Amount, Frozen, Millimetres, Once, Share

Factor = Annotated[Amount, Field(ge=0.1, le=10)]
Deviations = Annotated[Amount, Field(le=10)]
Voxels = Annotated[Amount, Field(le=20)]
Left = Annotated[Share, Field(ge=0.1)]
# Cubic B-splines fold nothing as long as no control point moves by more than this share of their
# distance: Y. Choi, S. Lee, "Injectivity conditions of 2D and 3D uniform cubic B-spline functions",
# Graphical Models 62(6), 2000.
_FOLDS = 0.4


class AugmentConfig(Frozen):
    """What is done to training patches; nnU-Net's figures unless a config gives others.

    Rotation, scaling and bending are drawn for a patch, all that changes intensities for each
    modality by itself. A factor whose range spans 1 is as often below as above it.

    Attributes
    ----------
    flip_axes : tuple of "i", "j", "k"
        Axes that anatomy allows to mirror; i is left to right.
    flip : float
        Probability of mirroring, for each of them.
    rotation : float
        Probability of a rotation.
    rotate_degrees : float
        Largest rotation about each axis [degree], in mm and not in voxels.
    scaling : float
        Probability of a change of size.
    scale : (2,) tuple of float
        Range of the factor of size.
    in_plane_above : float
        Where voxels are more than so many times as long along one axis as along the others, they
        are rotated about this axis alone, and neither scaled, bent nor coarsened along it.
    elastic : float
        Probability of bending by cubic B-splines.
    elastic_mm : float
        Largest displacement of a control point along each axis [mm].
    elastic_spacing_mm : float
        Distance between control points [mm].
    blur : float
        Probability of Gaussian blur.
    blur_sigma : (2,) tuple of float
        Range of its standard deviation [voxels of the axis with the shortest].
    low_resolution : float
        Probability of a lower resolution, simulated by sampling coarsely and back.
    resolution : (2,) tuple of float
        Range of the share of voxels that is left along each axis.
    low_resolution_down : "nearest" or "linear"
        How the coarse samples are taken.
    low_resolution_up : "linear" or "cubic"
        How the voxels are made of them.
    noise : float
        Probability of Gaussian noise.
    noise_sigma : (2,) tuple of float
        Range of its standard deviation [standard deviations of the body].
    brightness : float
        Probability of multiplying by a factor.
    brightness_factor : (2,) tuple of float
    shift : float
        Probability of adding a constant.
    shift_range : (2,) tuple of float
        Range of its size, up or down [standard deviations of the body].
    contrast : float
        Probability of a change of contrast about the mean; the range of values is kept.
    contrast_factor : (2,) tuple of float
    gamma, inverted_gamma : float
        Probability of a gamma curve, and of one that bends the bright end; mean and standard
        deviation are kept.
    gamma_power : (2,) tuple of float
        Range of the exponent.
    """

    flip_axes: Annotated[tuple[Literal["i", "j", "k"], ...], Once] = ()
    flip: Annotated[Share, Field(gt=0)] = 0.5
    rotation: Share = 0.2
    rotate_degrees: Annotated[Amount, Field(le=180)] = 30.0
    scaling: Share = 0.2
    scale: tuple[Factor, Factor] = (0.7, 1.4)
    in_plane_above: Annotated[Amount, Field(ge=1, le=1e6)] = 3.0
    elastic: Share = 0.0
    elastic_mm: Annotated[Amount, Field(le=1e6)] = 4.0
    elastic_spacing_mm: Millimetres = 16.0
    blur: Share = 0.1
    blur_sigma: tuple[Voxels, Voxels] = (0.5, 1.0)
    low_resolution: Share = 0.125
    resolution: tuple[Left, Left] = (0.5, 1.0)
    low_resolution_down: Literal["nearest", "linear"] = "nearest"
    low_resolution_up: Literal["linear", "cubic"] = "cubic"
    noise: Share = 0.1
    noise_sigma: tuple[Deviations, Deviations] = (0.0, 0.1)
    brightness: Share = 0.15
    brightness_factor: tuple[Factor, Factor] = (0.75, 1.25)
    shift: Share = 0.0
    shift_range: tuple[Deviations, Deviations] = (0.0, 0.1)
    contrast: Share = 0.15
    contrast_factor: tuple[Factor, Factor] = (0.75, 1.25)
    gamma: Share = 0.3
    inverted_gamma: Share = 0.1
    gamma_power: tuple[Factor, Factor] = (0.7, 1.5)

    @model_validator(mode="after")
    def _sound(self) -> "AugmentConfig":
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name != "flip_axes" and isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name} {list(value)} must rise; give the smaller number first")
        if self.elastic and self.elastic_mm > _FOLDS * self.elastic_spacing_mm:
            raise ValueError(
                f"elastic_mm {self.elastic_mm:g} with elastic_spacing_mm "
                f"{self.elastic_spacing_mm:g} may fold space; give at most "
                f"{_FOLDS * self.elastic_spacing_mm:g}, or a larger spacing"
            )
        return self
