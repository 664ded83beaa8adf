"""What lies around the network: reading, preparing, bringing home and writing one case.

python -m benchmarks.reading CASE_FOLDER     each stage beside the same with zlib and whole arrays
python -m benchmarks.reading                 a made-up CT of 512 x 512 x 600: seconds, peak memory

The two contestants take turns and the least times count, so that the ratios mean something on a
machine that does other things as well. Both must come to the same arrays.
"""

import gzip
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from vol3dseg.config import load_config
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_segmentation, read_volume
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.deciding import Decision
from vol3dseg.inference.restore import Restorer
from vol3dseg.machine import peak_mb, reset_peak
from vol3dseg.model.outputs import Softmax
from vol3dseg.preprocessing.prepare import Prepared, prepare, prepare_labels
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.volume import Volume

_ROUNDS = 15
_ROWS = 16  # that the network hands over at once
_CT = (512, 512, 600)
Pair = tuple[Callable[[], Any], Callable[[], Any]]


def main(folder: Path) -> None:
    """Print the least time of each stage, of both ways, and their ratio."""
    config = load_config("brats2020")
    case = next(c for c in find_cases(folder.parent) if c.id == folder.name)
    names, recipe = config.recipe.modalities, config.recipe
    volume = read_volume(case, names)
    prepared = prepare(volume, recipe)
    scores = _scores(read_segmentation(case, config.labels, volume.geometry), prepared)
    labels = _home(prepared, scores, config.labels)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        stages: dict[str, Pair] = {
            "read": (lambda: read_volume(case, names).array, lambda: _plain_read(case, recipe)),
            "prepare": (
                lambda: prepare(volume, recipe).volume.array,
                lambda: _plain_prepare(volume),
            ),
            "restore": (
                lambda: _home(prepared, scores, config.labels),
                lambda: _plain_home(prepared, scores),
            ),
            "write": (
                lambda: _written(out / "ours.nii.gz", labels, volume.geometry),
                lambda: _plain_written(out / "plain.nii.gz", labels, volume.geometry),
            ),
        }
        _print(stages)


def _scores(label: Segmentation, prepared: Prepared) -> NDArray[np.float32]:
    """Make (class, i, j, k) scores such as a network's, unsure at the rims."""
    there = prepare_labels(label, prepared).array
    noise = np.random.default_rng(0).random((len(label.labels.classes), *there.shape), np.float32)
    for index, values in enumerate(noise):
        values += 1.05 * (there == index)
    return noise


def _print(stages: dict[str, Pair]) -> None:
    sums = np.zeros(2)
    sys.stdout.write(f"{'stage':10}{'ours [ms]':>12}{'plain [ms]':>12}{'ratio':>8}\n")
    for stage, pair in stages.items():
        ours, plain = (function() for function in pair)
        if not np.array_equal(ours, plain):
            raise SystemExit(f"{stage}: the results differ")
        times = np.array([[_seconds(f) for f in pair] for _ in range(_ROUNDS)]).min(axis=0)
        sums += times
        sys.stdout.write(_line(stage, times))
    sys.stdout.write(_line("together", sums))


def _line(stage: str, seconds: NDArray[np.float64]) -> str:
    ours, plain = 1000 * seconds
    return f"{stage:10}{ours:12.1f}{plain:12.1f}{plain / ours:8.1f}\n"


def _seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _plain_read(case: Case, recipe: Recipe) -> NDArray[np.float32]:
    """Unpack by zlib, whole files, one after the other."""
    arrays = []
    for name in recipe.modalities:
        content = gzip.decompress(case.images[name].path.read_bytes())
        image = nib.Nifti1Image.from_bytes(content)
        arrays.append(np.asarray(image.dataobj).astype(np.float32))
    return np.moveaxis(np.stack(arrays), 0, -1)


def _plain_prepare(volume: Volume) -> NDArray[np.float32]:
    """Turn, crop and normalise whole arrays."""
    image = nib.Nifti1Image(volume.array, volume.geometry.affine)
    array = np.asarray(nib.as_closest_canonical(image).dataobj)
    where = np.argwhere((array != 0).any(axis=-1))
    low, high = where.min(axis=0), where.max(axis=0) + 1
    array = array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    result = np.zeros(array.shape, np.float32)
    for channel in range(array.shape[3]):
        values = np.ascontiguousarray(array[..., channel])
        inside = values != 0
        mean, deviation = (getattr(values[inside], m)(dtype=np.float64) for m in ("mean", "std"))
        result[..., channel][inside] = (values[inside] - mean) / deviation
    return result


def _home(prepared: Prepared, scores: NDArray[np.float32], labels: LabelSet) -> NDArray[np.uint8]:
    decision = Decision(Softmax(classes=labels.names), labels)
    home = Restorer(prepared.volume.geometry, prepared.source, decision, threads=2)
    for start in range(0, scores.shape[1], _ROWS):
        home.add(scores[:, start : start + _ROWS])
    return home.labels


def _plain_home(prepared: Prepared, scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bring whole probabilities home, then choose."""
    home = np.zeros((*prepared.grid.shape, len(scores)), np.float32)
    home[..., 0] = 1
    home[prepared.box.slices] = np.moveaxis(scores, 0, -1)
    labels = home.argmax(axis=-1).astype(np.uint8)
    start = nib.orientations.io_orientation(prepared.grid.affine)
    end = nib.orientations.io_orientation(prepared.source.affine)
    turn = nib.orientations.ornt_transform(start, end)
    return np.asarray(nib.orientations.apply_orientation(labels, turn))


def _written(path: Path, labels: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    nifti.write(path, labels, geometry)
    return labels


def _plain_written(path: Path, labels: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    content = nib.Nifti1Image(labels, geometry.affine).to_bytes()
    path.write_bytes(gzip.compress(content, 4))
    return labels


def ct() -> None:
    """Print what a CT takes, each way of normalising in a process of its own."""
    ways: dict[str, dict[str, Any]] = {
        "window": {"method": "window", "low": -150, "high": 250},
        "z-score": {"method": "zscore", "mask": "all"},
        "z-score, clipped": {"method": "zscore", "mask": "all", "clip_percentiles": (0.5, 99.5)},
    }
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "ct.nii.gz"
        _make_ct(path)
        sys.stdout.write(f"a CT of {'x'.join(map(str, _CT))}, int16, to 1.5 mm\n")
        for way, normalisation in ways.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                read, made, peak = pool.submit(_measure_ct, path, normalisation).result()
            sys.stdout.write(
                f"{way:20} read {read:5.1f} s, prepare {made:5.1f} s, peak {peak:6.0f} MB\n"
            )


def _make_ct(path: Path) -> None:
    """Write a body with soft structures and noise, in air."""
    rng = np.random.default_rng(0)
    i, j = np.meshgrid(np.linspace(-1, 1, _CT[0]), np.linspace(-1, 1, _CT[1]), indexing="ij")
    body = (i / 0.8) ** 2 + (j / 0.6) ** 2 < 1
    array = np.full(_CT, -1024, dtype=np.int16, order="F")
    for k in range(_CT[2]):
        plane = 200 * np.sin(6 * i + k / 50) * np.cos(5 * j) + rng.normal(0, 20, body.shape)
        array[:, :, k][body] = plane[body]
    nifti.write(path, array, Geometry(_CT, np.diag([-0.8, -0.8, 1.0, 1.0])))


def _measure_ct(path: Path, normalisation: dict[str, Any]) -> tuple[float, float, float]:
    recipe = Recipe(
        modalities=("ct",),
        crop="none",
        spacing_mm=(1.5, 1.5, 1.5),
        normalisation={"ct": normalisation},
        patch_size=(96, 96, 96),
    )
    reset_peak()
    started = time.perf_counter()
    volume = read_volume(Case("ct", "ct", {"ct": ImageSource(path)}), ["ct"])
    read = time.perf_counter()
    prepare(volume, recipe)
    return read - started, time.perf_counter() - read, peak_mb() or float("nan")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        ct()
