"""What tiles cost in agreement: halos, overlaps and tile sizes against one pass, or the patch.

python -m benchmarks.tiling MODEL DATASET [DEVICE]

Of a network whose outputs depend on their receptive field alone, halos of several widths and
blended patches are compared with one pass. Of another, tiles of several sizes are compared with the
training patch. Dice is the mean of the classes against the label maps of the data set.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_segmentation, read_volume
from vol3dseg.evaluation.scoring import evaluate_case, summarise
from vol3dseg.inference import DEVICES
from vol3dseg.inference.deciding import Decision
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.restore import Restorer
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.tiling.run_tiles import run_tiles
from vol3dseg.inference.tiling.tile_plan import Plan
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.space.box import Shape
from vol3dseg.space.labels import Segmentation

_HALOS = (16, 32, 48, 64, 80, 96, 112)
_OVERLAPS = (0.0, 0.25, 0.5, 0.75)
_SIDES = (0.5, 1.0, 1.5, 2.0)  # of the training patch
_MANY = 1e6  # bytes for a voxel of a tile: all else is nothing beside it
_TILE_SHARE = 0.5  # of the volume that a tile has at most, so that there are several


def main(model: Path, dataset: Path, device: str) -> None:
    """Print a Markdown table over all cases."""
    predictor = load_predictor(model, next(d for d in DEVICES if d == device))
    labels, recipe = predictor.manifest.labels, predictor.manifest.recipe
    scores: dict[str, list[object]] = {}
    apart: dict[str, list[tuple[float, float]]] = {}
    for case in find_cases(dataset):
        volume = read_volume(case, recipe.modalities)
        reference = read_segmentation(case, labels, volume.geometry)
        prepared = prepare(volume, recipe)
        first: NDArray[np.float32] | None = None
        for name, plan in _plans(predictor, prepared.volume.geometry.shape):
            rows = run_tiles(prepared.volume.array, predictor.backend, predictor.manifest, plan)
            found = np.moveaxis(np.concatenate([np.array(r) for r in rows], axis=1), 0, -1)
            first = found if first is None else first
            unlike = float(np.mean(found.argmax(-1) != first.argmax(-1)))
            apart.setdefault(name, []).append((float(np.abs(found - first).max()), unlike))
            decision = Decision(predictor.manifest.outputs, labels)
            home = Restorer(prepared.volume.geometry, prepared.source, decision)
            home.add(np.moveaxis(found, -1, 0))
            prediction = Segmentation(home.labels, prepared.source, labels)
            scores.setdefault(name, []).append(evaluate_case(case.id, reference, prediction))
    sys.stdout.write("| tiles | largest difference | labels that differ | mean Dice |\n")
    sys.stdout.write("|---|---:|---:|---:|\n")
    for name, pairs in apart.items():
        largest, unlike = max(p for p, _ in pairs), float(np.mean([u for _, u in pairs]))
        dice = summarise(scores[name]).mean_foreground_dice  # type: ignore[arg-type]
        sys.stdout.write(f"| {name} | {largest:.1e} | {unlike:.4%} | {dice:.4f} |\n")


def _plans(predictor: Predictor, shape: Shape) -> Iterator[tuple[str, Plan]]:
    manifest = predictor.manifest
    planner = Planner(manifest, bytes_per_voxel=_MANY)
    if not manifest.network.local:
        for share in (1.0, *(s for s in _SIDES if s != 1)):
            i, j, k = (max(1, round(n * share / 8)) * 8 for n in manifest.recipe.patch_size)
            patch = manifest.recipe.model_copy(update={"patch_size": (i, j, k)})
            other = replace(planner, manifest=manifest.model_copy(update={"recipe": patch}))
            yield f"{i} x {j} x {k}, overlap {manifest.tiling.overlap}", other.blended(shape)
        yield from _overlapping(planner, shape)
        return
    yield "one pass", planner.plan(shape, float("inf"))
    memory_mb = np.prod(shape) * _MANY * _TILE_SHARE / 2**20
    widest = max(manifest.network.receptive_field) + max(manifest.network.divisor)
    for halo in (n for n in _HALOS if n < widest):
        plan = planner.with_halo(shape, halo, float("inf"))
        for share in (1, 2, 4, 8):
            plan = planner.with_halo(shape, halo, float(memory_mb * share)) or plan
            if plan is not None and len(plan.tiles) > 1:
                break
        if plan is not None and len(plan.tiles) > 1:
            yield f"halo {max(plan.halo)}", plan
    yield from _overlapping(planner, shape)


def _overlapping(planner: Planner, shape: Shape) -> Iterator[tuple[str, Plan]]:
    """Give the training patch with other overlaps."""
    for overlap in _OVERLAPS:
        tiling = planner.manifest.tiling.model_copy(update={"overlap": overlap})
        other = replace(planner, manifest=planner.manifest.model_copy(update={"tiling": tiling}))
        size = " x ".join(map(str, planner.manifest.recipe.patch_size))
        yield f"blended {size}, overlap {overlap}", other.blended(shape)


if __name__ == "__main__":
    _, model, dataset, *device = sys.argv
    main(Path(model), Path(dataset), *(device or ["auto"]))
