"""Phantoms: small multimodal scans with a nested tumour, made from a seed, in BraTS layout.

They are not meant to look like brains, but to be hard in the ways that scans are: no single
modality shows every class, intensities drift across the volume, noise is that of magnitude images,
axes are oblique and in any order, and all outside the head is 0.
"""

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.eulerangles import euler2mat
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray

from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.geometry import Geometry

Array = NDArray[np.float64]

_MODALITIES = ("flair", "t1", "t1ce", "t2")
# Mean intensity in flair, t1, t1ce and t2: what makes each class visible where.
_TISSUES = {
    "white matter": (330, 520, 540, 300),
    "grey matter": (420, 400, 420, 420),
    "fluid": (120, 180, 190, 800),  # bright in T2 only
    "necrotic": (300, 260, 270, 690),
    "edema": (720, 330, 350, 640),  # bright in FLAIR
    "enhancing": (600, 350, 880, 560),  # bright in T1ce alone
}
_NUMBERS = {name: number for number, name in enumerate(_TISSUES)}
_INTENSITY = np.array(list(_TISSUES.values()), dtype=np.float64)
_LABELS = {"necrotic": 1, "edema": 2, "enhancing": 4}  # as BraTS stores them
# Mean radius of each shell as a share of the tumour's, and how much it varies.
_SHELLS = (("edema", 1.0, 0.1), ("enhancing", 0.64, 0.08), ("necrotic", 0.41, 0.08))
_NOISE = 22.0  # standard deviation of each of the two channels that make the magnitude
_SPACING_MM = 2.0


def make_phantoms(
    folder: Path, cases: int, seed: int, shape: tuple[int, int, int] = (64, 72, 56)
) -> None:
    """Write phantoms as `folder/<id>/<id>_{flair,t1,t1ce,t2,seg}.nii.gz`, from Phantom_001 on.

    The same seed gives the same files, byte for byte; case n does not depend on `cases`. `shape` is
    that before the axes are put into another order.
    """
    for number in range(1, cases + 1):
        rng = np.random.default_rng([seed, number])
        name = f"Phantom_{number:03d}"
        tissue = _anatomy(shape, rng)
        grid, orientation = _placement(shape, rng)
        files: dict[str, NDArray[Any]] = {
            modality: _acquire(tissue, _INTENSITY[:, column], rng)
            for column, modality in enumerate(_MODALITIES)
        }
        files["seg"] = np.zeros(shape, dtype=np.uint8)
        for tissue_name, value in _LABELS.items():
            files["seg"][tissue == _NUMBERS[tissue_name]] = value
        for kind, array in files.items():
            path = folder / name / f"{name}_{kind}.nii.gz"
            nifti.write(path, apply_orientation(array, orientation), grid)


def _anatomy(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.int8]:
    """Return the tissue of each voxel, by its number; -1 outside the head."""
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = np.sqrt((i / 0.82) ** 2 + (j / 0.9) ** 2 + (k / 0.85) ** 2)
    head += 0.05 * _smooth(shape, 4, rng)
    tissue = np.full(shape, -1, dtype=np.int8)
    tissue[head < 1] = _NUMBERS["grey matter"]
    tissue[head + 0.12 * _smooth(shape, 9, rng) < 0.8] = _NUMBERS["white matter"]
    for side in (-0.16, 0.16):
        ventricle = ((i - side) / 0.1) ** 2 + (j / 0.35) ** 2 + ((k - 0.1) / 0.2) ** 2
        tissue[(ventricle < 1) & (head < 0.7)] = _NUMBERS["fluid"]
    _grow_tumour(tissue, [i, j, k], rng)
    return tissue


def _grow_tumour(tissue: NDArray[np.int8], axes: list[Array], rng: np.random.Generator) -> None:
    """Put edema round an enhancing rim round a necrotic core into `tissue`."""
    centre = rng.uniform((-0.4, -0.45, -0.35), (0.4, 0.45, 0.35))
    radius = np.sqrt(sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True)))
    edge = rng.uniform(0.38, 0.52)
    for kind, share, roughness in _SHELLS:
        # Clipped, so that each shell stays a voxel inside the next (at the default shape).
        rough = 1 + roughness * np.clip(_smooth(tissue.shape, 6, rng), -1.5, 1.5)
        tissue[(radius < edge * share * rough) & (tissue >= 0)] = _NUMBERS[kind]


def _acquire(
    tissue: NDArray[np.int8], intensity: Array, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Return a magnitude image: contrast, texture, bias field, Rician noise, any scale."""
    ideal = np.where(tissue >= 0, intensity[tissue], 0.0)
    ideal *= 1 + 0.05 * _smooth(tissue.shape, 12, rng)
    ideal *= np.exp(0.18 * _smooth(tissue.shape, 2, rng))
    real = ideal + rng.normal(0, _NOISE, tissue.shape)
    imaginary = rng.normal(0, _NOISE, tissue.shape)
    magnitude = np.hypot(real, imaginary) * rng.uniform(0.7, 1.6)
    # Skull-stripped: exactly 0 outside, never 0 inside.
    return np.where(tissue >= 0, np.maximum(np.rint(magnitude), 1), 0).astype(np.int16)


def _smooth(shape: tuple[int, ...], knots: int, rng: np.random.Generator) -> Array:
    """Return a smooth random field of about unit variance: random knots, linear between them."""
    field = rng.normal(size=(knots, knots, knots))
    for axis, extent in enumerate(shape):
        x = np.linspace(0, knots - 1, extent)
        low = np.minimum(x.astype(int), knots - 2)
        weight = (x - low).reshape([-1 if a == axis else 1 for a in range(3)])
        field = (1 - weight) * field.take(low, axis) + weight * field.take(low + 1, axis)
    return np.asarray(field / field.std())


def _placement(
    shape: tuple[int, int, int], rng: np.random.Generator
) -> tuple[Geometry, NDArray[Any]]:
    """Return an oblique grid whose axes are in some order and direction, and how they got there."""
    angles = np.deg2rad(rng.uniform(-12, 12, 3))
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(*angles) * _SPACING_MM
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2 + rng.uniform(-15, 15, 3)
    order = rng.permutation(3)
    orientation = np.stack([np.argsort(order), rng.choice([-1, 1], 3)[np.argsort(order)]], axis=1)
    turned = affine @ inv_ornt_aff(orientation, shape)
    return Geometry(tuple(shape[axis] for axis in order.tolist()), turned), orientation
