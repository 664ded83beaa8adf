"""Does time grow as the volume does? Seconds per computed voxel for cubes of several sides.

python -m benchmarks.linear MODEL [DEVICE [PRECISION]]
"""

import sys
import time
from pathlib import Path

import numpy as np

from vol3dseg.inference import DEVICES, PRECISIONS
from vol3dseg.inference.loading import load_predictor
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

_SIDES = (96, 160, 224, 320)
_ROUNDS = 3


def main(model: Path, device: str, precision: str) -> None:
    """Print a Markdown table; sizes take turns, and the shortest time of each counts."""
    predictor = load_predictor(
        model,
        next(d for d in DEVICES if d == device),
        precision=next(p for p in PRECISIONS if p == precision),
    )
    rng = np.random.default_rng(0)
    channels = len(predictor.manifest.recipe.modalities)
    images = {n: rng.random((channels, n, n, n), dtype=np.float32) for n in _SIDES}
    seconds = dict.fromkeys(_SIDES, float("inf"))
    plans = {}
    for _ in range(_ROUNDS):
        for side, image in images.items():
            grid = Geometry((side, side, side), np.eye(4))
            plans[side] = predictor.plan(grid, grid, keep_probabilities=True)
            volume = Volume(np.moveaxis(image, 0, -1), grid, predictor.manifest.recipe.modalities)
            started = time.perf_counter()
            predictor.segment(volume, grid, keep_probabilities=True)
            seconds[side] = min(seconds[side], time.perf_counter() - started)
    sys.stdout.write("| side | seconds | ns per computed voxel | of the first | plan |\n")
    sys.stdout.write("|---:|---:|---:|---:|---|\n")
    each = {side: 1e9 * seconds[side] / plans[side].computed for side in _SIDES}
    for side, plan in plans.items():
        ratio = each[side] / each[_SIDES[0]]
        sys.stdout.write(
            f"| {side} | {seconds[side]:.2f} | {each[side]:.0f} | {ratio:.2f} | {plan} |\n"
        )


if __name__ == "__main__":
    _, model, *choice = sys.argv
    device, precision = [*choice, *("auto", "float32")[len(choice) :]]
    main(Path(model), device, precision)
