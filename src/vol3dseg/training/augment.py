"""Random changes of training patches that leave their meaning as it is."""

from collections.abc import Callable

import numpy as np
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray

from vol3dseg.config import AugmentConfig
from vol3dseg.extras import load_extra

ndimage = load_extra("scipy.ndimage", "train")
Image = NDArray[np.float32]
Label = NDArray[np.uint8]

_CONTRAST = (0.75, 1.25)
_SHIFT = 0.1  # [standard deviations]
_NOISE = 0.1  # [standard deviations]
_GAMMA = (0.7, 1.5)


def augment(
    image: Image, label: Label, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Image, Label]:
    """Return a changed patch, new arrays: flips, rotation and size, then intensities.

    Intensities change in each modality by itself, and only where it is not exactly 0. Zero is what
    lies outside the body, the case or the rotated patch; a network that is given exact zeros there
    at inference must not learn on anything else. A voxel of the body that happens to be 0 stays 0,
    which is one value in many millions.
    """
    image, label = _flip(image, label, config, rng)
    if rng.random() < config.affine:
        image, label = _rotate_and_scale(image, label, config, rng)
    noisy = rng.random() < config.noise
    sigma = rng.uniform(0, _NOISE) if noisy else 0.0
    for channel in range(image.shape[-1]):
        if rng.random() < config.intensity:
            image[..., channel] = _inside(image[..., channel], lambda v: _linear(v, rng))
        if noisy:
            image[..., channel] = _inside(image[..., channel], lambda v: _noise(v, sigma, rng))
        if rng.random() < config.gamma:
            image[..., channel] = _inside(image[..., channel], lambda v: _gamma(v, rng))
    return image, label


def _flip(
    image: Image, label: Label, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Image, Label]:
    """Mirror along each allowed axis with probability 1/2; always returns copies."""
    axes = tuple(
        axis for axis, name in enumerate("ijk") if name in config.flip_axes and rng.random() < 0.5
    )
    return np.flip(image, axes).copy(order="C"), np.flip(label, axes).copy(order="C")


def _rotate_and_scale(
    image: Image, label: Label, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Image, Label]:
    """Rotate about the patch's centre and change the size; what comes in from outside is 0.

    Angles are those of the voxel grid: spacing that differs between axes is not taken into account,
    so a rotation then shears the anatomy a little.
    """
    angles = np.deg2rad(rng.uniform(-config.rotate_degrees, config.rotate_degrees, size=3))
    # The matrix leads from the new patch back into the old one: to enlarge is to step less.
    matrix = euler2mat(*angles) / rng.uniform(*config.scale)
    centre = (np.array(label.shape) - 1) / 2
    offset = centre - matrix @ centre
    moved = np.empty_like(image)
    for channel in range(image.shape[-1]):
        moved[..., channel] = ndimage.affine_transform(
            image[..., channel], matrix, offset, order=1, mode="constant", cval=0.0
        )
    nearest = ndimage.affine_transform(label, matrix, offset, order=0, mode="constant", cval=0)
    return moved, np.ascontiguousarray(nearest)


def _inside(modality: Image, change: Callable[[Image], Image]) -> Image:
    """Apply `change` to the voxels that are not 0; an empty modality stays as it is."""
    body = modality != 0
    result = modality.copy()
    if body.any():
        result[body] = change(modality[body])
    return result


def _linear(values: Image, rng: np.random.Generator) -> Image:
    """Change contrast about the mean, and brightness."""
    mean, deviation = _moments(values)
    shift = rng.uniform(-_SHIFT, _SHIFT) * deviation
    return np.float32(rng.uniform(*_CONTRAST)) * (values - mean) + np.float32(mean + shift)


def _noise(values: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Add Gaussian noise of `sigma` [standard deviations of the values]."""
    deviation = _moments(values)[1]
    noise = rng.standard_normal(values.shape, dtype=np.float32)
    return values + np.float32(sigma) * deviation * noise


def _gamma(values: Image, rng: np.random.Generator) -> Image:
    """Bend the range from minimum to maximum by a power; mean and standard deviation are kept."""
    exponent = np.float32(rng.uniform(*_GAMMA))
    mean, deviation = _moments(values)
    low, high = values.min(), values.max()
    if not high > low:
        return values
    bent = ((values - low) / (high - low)) ** exponent  # from 0 to 1, so never of one value
    middle, width = _moments(bent)
    result: Image = (bent - middle) * (deviation / width) + mean
    return result


def _moments(values: Image) -> tuple[np.float32, np.float32]:
    """Return mean and standard deviation, summed in float64."""
    return np.float32(values.mean(dtype=np.float64)), np.float32(values.std(dtype=np.float64))
