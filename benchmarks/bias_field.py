"""What N4 takes and gives on real scans.

python -m benchmarks.bias_field DATASET [SHRINK_FACTOR ...]

For each factor, of the first case: processor time for a modality, and how much is left of a known
field that is put upon the images, as the coefficient of variation between what N4 makes of them
with and without it. Then the time of preparing the case by a whole recipe, and its peak memory.
"""

import sys
import time
from pathlib import Path

import numpy as np

from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.machine import peak_mb, reset_peak
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.recipe.bias_field import N4

_FACTORS = (4, 6, 8)


def main(dataset: Path, factors: tuple[int, ...]) -> None:
    """Print a line for each factor, and one for the recipe with and without N4."""
    recipe = load_config("brats2020").recipe
    volume = read_volume(find_cases(dataset)[0], recipe.modalities)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in volume.geometry.shape), indexing="ij")
    field = np.exp(0.4 * x + 0.2 * y - 0.4 * y * z).astype(np.float32)
    for factor in factors:
        step, seconds, left = N4(shrink_factor=factor), [], []
        for image in np.moveaxis(volume.array, -1, 0):
            inside = image > 0
            started = time.process_time()
            one = step.corrected(image)
            seconds.append(time.process_time() - started)
            ratio = (step.corrected(image * field) / np.where(inside, one, 1))[inside]
            left.append(float(ratio.std() / ratio.mean()))
        known = field[inside].std() / field[inside].mean()
        each = ", ".join(
            f"{name} {s:.1f} s {100 * share:.1f} %"
            for name, s, share in zip(volume.modalities, seconds, left, strict=True)
        )
        sys.stdout.write(f"shrink factor {factor}, of {100 * known:.1f} %: {each}\n")
    for chosen in (recipe, recipe.model_copy(update={"bias_correction": N4()})):
        reset_peak()
        started = time.perf_counter()
        prepare(volume, chosen)
        taken = time.perf_counter() - started
        name = "with" if chosen.bias_correction else "without"
        sys.stdout.write(f"prepared {name} N4: {taken:.1f} s, peak {peak_mb() or 0:.0f} MB\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(map(int, sys.argv[2:])) or _FACTORS)
