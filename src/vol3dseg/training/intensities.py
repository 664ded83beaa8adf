"""Random changes of the intensities of one modality of a patch.

They act where the modality is not exactly 0. Zero is what lies outside the body, the case or the
warped patch; a network that is given exact zeros there at inference must not learn on anything
else. A voxel of the body that happens to be 0 stays 0, which is one value in many millions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vol3dseg.config import AugmentConfig
from vol3dseg.extras import load_extra
from vol3dseg.space.axes import AxisMap, AxisMaps
from vol3dseg.space.geometry import Spacing
from vol3dseg.space.kernels import CUBIC, LINEAR, Kernel
from vol3dseg.space.resampling import resample_along
from vol3dseg.training.warping import factor, thick_axis

ndimage = load_extra("scipy.ndimage", "train")
Image = NDArray[np.float32]


def change_intensities(
    modality: Image, spacing: Spacing, config: AugmentConfig, rng: np.random.Generator
) -> None:
    """Change an (i, j, k) modality in place, by parts that are drawn each by itself.

    In the order of a scanner: what is there is blurred and sampled, noise is added, then brightness
    and contrast are set. Blur sees the zeros around a body as background, as the network does.
    """
    body = modality != 0
    if not body.any():
        return
    if rng.random() < config.blur:
        sigma = rng.uniform(*config.blur_sigma) * min(spacing) / np.array(spacing)
        ndimage.gaussian_filter(modality, sigma, output=modality, mode="nearest")
    if rng.random() < config.low_resolution:
        modality[...] = _coarsened(modality, spacing, config, rng)
    values = modality.ravel() if body.all() else modality[body]
    values = _changed(values, config, rng)
    if values.size < modality.size:
        modality[...] = 0
        modality[body] = values
    else:
        modality[...] = values.reshape(modality.shape)


def _coarsened(
    modality: Image, spacing: Spacing, config: AugmentConfig, rng: np.random.Generator
) -> Image:
    """Return what is left of a modality that was sampled coarsely, not so across thick slices."""
    thick, left = thick_axis(spacing, config.in_plane_above), rng.uniform(*config.resolution)
    fine = modality.shape
    i, j, k = (n if axis == thick else max(1, round(left * n)) for axis, n in enumerate(fine))
    down = _maps(fine, (i, j, k), LINEAR)
    if config.low_resolution_down == "linear":
        coarse = resample_along(modality, down)
    else:
        coarse = modality[np.ix_(*(np.minimum(m.nearest, m.size - 1) for m in down))]
    up = LINEAR if config.low_resolution_up == "linear" else CUBIC
    return resample_along(coarse, _maps(coarse.shape, fine, up))


def _maps(source: Sequence[int], target: Sequence[int], kernel: Kernel) -> AxisMaps:
    """Return how the axes of a grid lie on those of another with the same outer edges."""
    i, j, k = (
        AxisMap(axis, (size / count - 1) / 2, size / count, size, 0, count, kernel)
        for axis, (size, count) in enumerate(zip(source, target, strict=True))
    )
    return i, j, k


def _changed(values: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    """Return the (n,) values of a body with noise, and another brightness and contrast.

    They may be changed in place.
    """
    if rng.random() < config.noise:
        sigma = np.float32(rng.uniform(*config.noise_sigma)) * _moments(values)[1]
        values += sigma * rng.standard_normal(values.shape, dtype=np.float32)
    if rng.random() < config.brightness:
        values *= np.float32(factor(config.brightness_factor, rng))
    if rng.random() < config.shift:
        deviations = rng.choice([-1, 1]) * rng.uniform(*config.shift_range)
        values += np.float32(deviations) * _moments(values)[1]
    if rng.random() < config.contrast:
        values = _contrast(values, factor(config.contrast_factor, rng))
    if rng.random() < config.inverted_gamma:
        values = -_gamma(-values, factor(config.gamma_power, rng))
    if rng.random() < config.gamma:
        values = _gamma(values, factor(config.gamma_power, rng))
    return values


def _contrast(values: Image, by: float) -> Image:
    """Return values farther from their mean, or closer, but none beyond the largest and least."""
    mean, low, high = _moments(values)[0], values.min(), values.max()
    result: Image = np.clip((values - mean) * np.float32(by) + mean, low, high)
    return result


def _gamma(values: Image, exponent: float) -> Image:
    """Bend the range from minimum to maximum by a power; mean and standard deviation are kept."""
    low, high = values.min(), values.max()
    if not high > low:
        return values
    mean, deviation = _moments(values)
    bent = ((values - low) / (high - low)) ** np.float32(exponent)
    middle, width = _moments(bent)  # from 0 to 1, so never of one value
    result: Image = (bent - middle) * (deviation / width) + mean
    return result


def _moments(values: Image) -> tuple[np.float32, np.float32]:
    """Return mean and standard deviation, summed in float64."""
    return np.float32(values.mean(dtype=np.float64)), np.float32(values.std(dtype=np.float64))
