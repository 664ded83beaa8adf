"""What `vol3dseg evaluate` needs: memory for a large CT, time of many cases on one core and two.

python -m benchmarks.evaluating [OUTPUT] [--cases 100]

Label maps are made: a CT of 512 x 512 x 600 voxels with five structures, and pairs of the size of
BraTS volumes with its classes and regions, each beside itself a few voxels off. Two reports of the
many cases must be the same, byte for byte. Fails where the CT takes 2 GB or more by the kernel's
account, or two cores are less than 1.8 times as fast as one.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vol3dseg.files import write_text
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.box import Shape
from vol3dseg.space.geometry import Geometry

_CT, _BRATS = (512, 512, 600), (240, 240, 155)
_ORGANS = 5
# Centre and radii of each ellipsoid, as shares of the volume's sides; later ones lie in front.
_BODY = [((0.5, 0.5, 0.5), (0.49, 0.39, 0.48)), ((0.3, 0.4, 0.5), (0.18, 0.16, 0.2)),
         ((0.7, 0.6, 0.33), (0.12, 0.12, 0.1)), ((0.5, 0.25, 0.5), (0.04, 0.04, 0.47)),
         ((0.6, 0.6, 0.83), (0.08, 0.1, 0.1))]  # fmt: skip
_TUMOUR = [((0.5, 0.5, 0.5), (0.14, 0.16, 0.2)), ((0.5, 0.5, 0.5), (0.09, 0.1, 0.12)),
           ((0.5, 0.5, 0.5), (0.05, 0.05, 0.07))]  # fmt: skip
_EDEMA, _CORE, _ENHANCING = 2, 1, 4  # as BraTS stores them
_PROBE = (
    "import os, sys; granted = sorted(os.sched_getaffinity(0));"
    "os.sched_setaffinity(0, granted[: int(sys.argv.pop(1))]);"
    "from vol3dseg.machine import peak_mb; from vol3dseg.cli.main import cli;"
    "cli(sys.argv[1:], standalone_mode=False); print('peak_mb', peak_mb())"
)


def main(folder: Path, cases: int) -> None:
    """Make what is missing, measure, and print the table."""
    config = folder / "five.yaml"
    names = ["background", *(f"organ {n}" for n in range(1, _ORGANS + 1))]
    rows = (f"  - {{name: {name}, read: [{n}], write: {n}}}" for n, name in enumerate(names))
    recipe = "{modalities: [image], normalisation: {method: zscore}, patch_size: [64, 64, 64]}"
    write_text(config, "\n".join(["labels:", "  classes:", *rows, f"recipe: {recipe}"]) + "\n")
    ct, many = folder / "ct", folder / "many"
    _write(ct, "scan_01", _CT, dict(enumerate(_BODY, start=1)), 0.8, 0)
    tumour = dict(zip((_EDEMA, _CORE, _ENHANCING), _TUMOUR, strict=True))
    for number in range(cases):
        _write(many, f"case_{number:03}", _BRATS, tumour, 1.0, number)
    seconds, peak_mb = _evaluate(ct, folder / "report-ct", config, 1)
    times, reports = {}, []
    for cores in (1, 2):
        output = folder / f"report-{cores}"
        times[cores], _ = _evaluate(many, output, "brats2020", cores)
        reports.append([(output / name).read_bytes() for name in ("cases.csv", "report.html")])
    ratio = times[1] / times[2]
    sys.stdout.write(
        "| | |\n|---|---:|\n"
        f"| CT of 512 x 512 x 600, five structures: peak [MB] | {peak_mb:.0f} |\n"
        f"| the same [s] | {seconds:.0f} |\n"
        f"| {cases} BraTS-sized cases, one core [s] | {times[1]:.0f} |\n"
        f"| two cores [s] | {times[2]:.0f} |\n"
        f"| times as fast | {ratio:.2f} |\n"
    )
    if reports[0] != reports[1]:
        raise SystemExit("reports depend on the number of cores")
    if peak_mb >= 2000 or ratio < 1.8:
        raise SystemExit("2 GB or more, or less than 1.8 times as fast")


def _write(
    folder: Path, name: str, shape: Shape, parts: Mapping[int, Any], spacing_mm: float, seed: int
) -> None:
    """Write a reference and a prediction of the same things, moved a little."""
    grid = Geometry(shape, np.diag([spacing_mm] * 3 + [1.0]))
    rng = np.random.default_rng(seed)
    for kind, most in (("references", 0), ("predictions", 3)):
        path = folder / kind / f"{name}.nii.gz"
        if path.is_file():
            continue
        labels = np.zeros(shape, np.uint8)
        i, j, k = (np.arange(n, dtype=np.float32) for n in shape)
        for value, (centre, radii) in parts.items():
            at = np.multiply(shape, centre) + rng.integers(-most, most + 1, 3)
            a, b, c = np.multiply(shape, radii)
            flat = ((i - at[0]) / a)[:, None] ** 2 + ((j - at[1]) / b) ** 2
            labels[flat[..., None] + ((k - at[2]) / c) ** 2 < 1] = value
        nifti.write(path, labels, grid)


def _evaluate(folder: Path, output: Path, config: Path | str, cores: int) -> tuple[float, float]:
    """Return the seconds that the command takes on so many cores, and its own peak [MB]."""
    words = ["evaluate", folder / "predictions", folder / "references", "-o", output]
    started = time.perf_counter()
    command = [sys.executable, "-c", _PROBE, *map(str, [cores, *words, "--config", config])]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - started, float(said.split("peak_mb")[-1])


if __name__ == "__main__":
    reading = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reading.add_argument("output", type=Path, nargs="?", default=Path("trials/evaluating"))
    reading.add_argument("--cases", type=int, default=100)
    given = reading.parse_args()
    main(given.output, given.cases)
