"""Bodies in CT with one small organ, among things that look like it; made, not measured."""

from pathlib import Path

import numpy as np

from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.box import Shape
from vol3dseg.space.geometry import Geometry

_AIR, _SOFT, _LIVER, _BONE, _ORGAN, _NOISE = -1000, 40, 100, 500, 170, 15  # HU
_RADII_MM = (20.0, 14.0, 17.0)  # of the organ


def write_body(image: Path, label: Path, shape: Shape, spacing_mm: float, seed: int) -> None:
    """Write a body and where its organ is, unless both are there.

    The organ is brighter than the large one beside it, as after contrast, and lies somewhere in the
    middle fifth.
    """
    if image.exists() and label.exists():
        return
    rng = np.random.default_rng(seed)
    sides = np.multiply(shape, spacing_mm)
    centre = sides * rng.uniform(0.4, 0.6, 3)
    radii = np.multiply(_RADII_MM, rng.uniform(0.85, 1.15, 3))
    liver = sides * (0.33, 0.5, 0.5 + rng.uniform(-0.1, 0.1))
    x, y, z = ((np.arange(n, dtype=np.float32) + 0.5) * spacing_mm for n in shape)
    flat = np.ix_(x, y)
    body = _inside(flat, sides[:2] / 2, sides[:2] * (0.44, 0.34))
    spine = _inside(flat, sides[:2] * (0.5, 0.3), (18, 18))
    voxels = np.empty(shape, np.int16)
    found = np.zeros(shape, np.uint8)
    for k, height in enumerate(z):
        plane = np.where(body, _SOFT, _AIR).astype(np.float32)
        plane[_slice(flat, liver, sides * (0.13, 0.12, 0.12), height)] = _LIVER
        plane[spine] = _BONE
        organ = _slice(flat, centre, radii, height)
        plane[organ] = _ORGAN
        plane[body] += rng.normal(0, _NOISE, int(body.sum())).astype(np.float32)
        voxels[..., k], found[..., k] = plane, organ
    grid = Geometry(shape, np.diag([spacing_mm] * 3 + [1.0]))
    nifti.write(image, voxels, grid)
    nifti.write(label, found, grid)


def _inside(axes: tuple[np.ndarray, ...], centre: np.ndarray, radii: object) -> np.ndarray:
    radius = np.asarray(radii, dtype=np.float32)
    parts = ((a - c) / r for a, c, r in zip(axes, centre, radius, strict=True))
    return sum(part**2 for part in parts) < 1


def _slice(
    flat: tuple[np.ndarray, ...], centre: np.ndarray, radii: np.ndarray, height: float
) -> np.ndarray:
    """Return where an ellipsoid cuts a plane."""
    left = 1 - ((height - centre[2]) / radii[2]) ** 2
    if left <= 0:
        return np.zeros((flat[0].size, flat[1].size), bool)
    return _inside(flat, centre[:2], radii[:2] * np.sqrt(left))
