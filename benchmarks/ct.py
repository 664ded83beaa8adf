"""A volume of the size of a CT, resampled, in 2 GB."""

from pathlib import Path

import numpy as np

from benchmarks import rows
from benchmarks.bench import Bench, Done, kept
from benchmarks.table import Section
from vol3dseg import formats
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.box import Shape
from vol3dseg.space.geometry import Geometry

_SHAPE, _SPACING_MM = (512, 512, 600), (0.8, 0.8, 0.8)
_LIMIT_MB = 2e9 / 2**20
_TITLE = "512 x 512 x 600 voxels in 2 GB"


def ct(bench: Bench, done: Done) -> list[Section]:
    """Segment it twice on every runtime, one process after the other; the second time counts."""
    image = write_ct(bench.given.work / "ct.nii.gz")
    contestants = rows.ct(bench.given, image, _LIMIT_MB)
    found = [bench.measure([contestant], rounds=1)[0] for contestant in contestants]
    maps = {
        each.contestant.name: formats.open_volume(Path(each.replies[-1].facts["file"])).labels()[0]
        for each in found
        if not each.problem
    }
    first = next(iter(maps.values()), None)
    shares = {name: float(np.mean(labels == first)) for name, labels in maps.items()}
    table = [each.row(shares.get(each.contestant.name)) for each in found]
    return [
        Section(_TITLE, table, notes=["agreement is with the first row", *kept(table, _LIMIT_MB)])
    ]


def write_ct(path: Path, shape: Shape = _SHAPE) -> Path:
    """Write a body with organs of other intensity in air, and noise on it, once."""
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    image = np.full(shape, -1000, dtype=np.int16)
    i, j = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2])
    around = (i[:, None] / 0.85) ** 2 + (j[None] / 0.65) ** 2 < 1
    organs = np.sin(9 * i)[:, None] * np.sin(7 * j)[None] > 0.3
    for k in range(shape[2]):
        waves = organs if (k // 60) % 2 else ~organs
        values = np.where(waves, 110, 20) + rng.normal(0, 15, shape[:2])
        image[..., k][around] = values[around].astype(np.int16)
    nifti.write(path, image, Geometry(shape, np.diag([*_SPACING_MM, 1.0])))
    return path
