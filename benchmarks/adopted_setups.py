"""What adopted models are compared on: sizes of scans and networks, and scans of that size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.ct import write_ct
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.box import Shape
from vol3dseg.space.geometry import Geometry

_CT_LIMIT_MB = 4e9 / 2**20


@dataclass(frozen=True, slots=True)
class Setup:
    """One scan and one model.

    Parameters
    ----------
    name : str
        Of its folder.
    title : str
    shape : (3,) tuple of int
        Of the file.
    box : (3,) tuple of int
        What of it is not zero.
    modalities : int
    classes : int
    patch_size : (3,) tuple of int
    widths : tuple of int
        Features of each level; two convolutions in each, as nnU-Net plans them.
    ct : bool
        A CT, at another spacing than the model's: 0.8 and 1.5 mm.
    limit_mb : float or None
        Of memory, for ours [MB].
    mirrored : tuple of bool
        Whether views are mirrored, run by run.
    rounds : int
        At most; one means that nobody runs before it counts, and each by itself.
    """

    name: str
    title: str
    shape: Shape
    box: Shape
    modalities: int
    classes: int
    patch_size: Shape
    widths: tuple[int, ...]
    ct: bool = False
    limit_mb: float | None = None
    mirrored: tuple[bool, ...] = (False,)
    rounds: int = 5

    @property
    def spacing_mm(self) -> float:
        """Of the model's plans."""
        return 1.5 if self.ct else 1.0

    def write_images(self, folder: Path) -> dict[str, Path]:
        """Write the scan, unless it is there; return the files by modality."""
        folder.mkdir(parents=True, exist_ok=True)
        names = ["CT"] if self.ct else [f"mr{n}" for n in range(self.modalities)]
        files = {name: folder / f"case_{n:04}.nii.gz" for n, name in enumerate(names)}
        for number, path in enumerate(files.values()):
            if self.ct:
                write_ct(path, self.shape)
            elif not path.exists():
                image = head(self.shape, self.box, number)
                nifti.write(path, image, Geometry(self.shape, np.eye(4)))
        return files


def head(shape: Shape, box: Shape, seed: int) -> NDArray[np.float32]:
    """Return an ellipsoid of a few tissues, as wide as a box in the middle of zeros."""
    rng = np.random.default_rng(seed)
    axes = [
        (2 * np.arange(n, dtype=np.float32) - (n - 1)) / side
        for n, side in zip(shape, box, strict=True)
    ]
    i, j, k = np.ix_(*axes)
    waves = sum(
        np.sin(rng.uniform(2, 5) * axis + rng.uniform(0, 6)) for axis in (i, j, k, i + j, j - k)
    )
    image = 500 + 100 * np.round(waves) + rng.normal(0, 10, shape)
    return np.where(i**2 + j**2 + k**2 < 1, image, 0).astype(np.float32)


_BOTH = (False, True)
_HIPPOCAMPUS = (35, 51, 35)
_CT_WIDTHS = (8, 16, 32, 64)


def _cts(shape: Shape, patch_size: Shape, widths: tuple[int, ...]) -> list[Setup]:
    sides = " x ".join(map(str, shape))
    return [
        Setup(
            name=f"ct-{classes}",
            title=f"CT of {sides} voxels, {classes} classes at 1.5 mm",
            shape=shape,
            box=shape,
            modalities=1,
            classes=classes,
            patch_size=patch_size,
            widths=widths,
            ct=True,
            limit_mb=_CT_LIMIT_MB,
            rounds=1,
        )
        for classes in (25, 117)
    ]


FULL: Sequence[Setup] = (
    Setup(
        name="hippocampus",
        title="Hippocampus, 35 x 51 x 35 voxels, patch 40 x 56 x 40, base 32",
        shape=_HIPPOCAMPUS,
        box=_HIPPOCAMPUS,
        modalities=1,
        classes=3,
        patch_size=(40, 56, 40),
        widths=(32, 64, 128, 256),
        mirrored=_BOTH,
    ),
    Setup(
        name="brats",
        title="BraTS, four modalities of 133 x 174 x 137 voxels, patch 96 x 96 x 96, base 32",
        shape=(240, 240, 155),
        box=(133, 174, 137),
        modalities=4,
        classes=4,
        patch_size=(96, 96, 96),
        widths=(32, 64, 128, 256, 320, 320),
        mirrored=_BOTH,
        rounds=3,
    ),
    *_cts((512, 512, 600), (96, 96, 96), _CT_WIDTHS),
)
SMALL: Sequence[Setup] = (
    Setup(
        name="hippocampus",
        title="Small: 20 x 24 x 20 voxels, patch 24 x 24 x 24",
        shape=(20, 24, 20),
        box=(20, 24, 20),
        modalities=1,
        classes=3,
        patch_size=(24, 24, 24),
        widths=(4, 8),
        mirrored=_BOTH,
        rounds=2,
    ),
    Setup(
        name="brats",
        title="Small: four modalities of 30 x 40 x 30 voxels, patch 24 x 24 x 24",
        shape=(48, 48, 40),
        box=(30, 40, 30),
        modalities=4,
        classes=4,
        patch_size=(24, 24, 24),
        widths=(4, 8, 8),
        rounds=2,
    ),
    *_cts((72, 72, 80), (32, 32, 32), (4, 8)),
)
