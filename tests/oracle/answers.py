"""What others say of pairs of masks: run in an environment of theirs, by `foreign.py`.

`python answers.py MASKS.npz ANSWERS.json`. It imports nothing of ours but rules written for tests.
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import brats_evaluation
import monai.metrics as monai
import numpy as np
import surface_distance
import torch
from brats_2023 import judged
from medpy.metric import binary as medpy
from panoptica import Panoptica_Evaluator
from seg_metrics.seg_metrics import computeQualityMeasures
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

Answers = Iterator[tuple[str, Callable[[], float]]]
TOLERANCES_MM = (1.1, 2.0)
CONFUSION = ("precision", "sensitivity", "specificity")
BRATS = {"gli": (3, 50.0), "met": (1, 2.0)}


def of_surface_distance(reference, prediction, spacing_mm) -> Answers:
    found = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    there, back = found["distances_gt_to_pred"], found["distances_pred_to_gt"]
    areas = found["surfel_areas_gt"], found["surfel_areas_pred"]
    yield "HD", lambda: surface_distance.compute_robust_hausdorff(found, 100)
    yield "HD95", lambda: surface_distance.compute_robust_hausdorff(found, 95)
    yield "ASD", lambda: np.mean(surface_distance.compute_average_surface_distance(found))
    yield (
        "ASD, weighted",
        lambda: np.average(
            surface_distance.compute_average_surface_distance(found),
            weights=[each.sum() for each in areas],
        ),
    )
    for mm in TOLERANCES_MM:
        yield (
            f"NSD {mm:g}",
            lambda mm=mm: surface_distance.compute_surface_dice_at_tolerance(found, mm),
        )
    yield "points", lambda: len(there) + len(back)
    yield "area", lambda: sum(each.sum() for each in areas)


def of_monai(reference, prediction, spacing_mm) -> Answers:
    y, seen = (torch.from_numpy(mask)[None, None].float() for mask in (reference, prediction))
    matrix = monai.get_confusion_matrix(seen, y)
    yield "Dice", lambda: monai.compute_dice(seen, y, ignore_empty=True)
    yield "IoU", lambda: monai.compute_iou(seen, y, ignore_empty=True)
    for name in CONFUSION:
        yield name, lambda name=name: monai.compute_confusion_matrix_metric(name, matrix)
    surface = {"include_background": True, "spacing": spacing_mm}
    yield "HD", lambda: monai.compute_hausdorff_distance(seen, y, **surface)
    yield "HD95", lambda: monai.compute_hausdorff_distance(seen, y, percentile=95, **surface)
    yield (
        "ASSD",
        lambda: monai.compute_average_surface_distance(seen, y, symmetric=True, **surface),
    )
    for mm in TOLERANCES_MM:
        yield f"NSD {mm:g}", lambda mm=mm: monai.compute_surface_dice(seen, y, [mm], **surface)
        yield (
            f"NSD {mm:g}, subvoxels",
            lambda mm=mm: monai.compute_surface_dice(seen, y, [mm], use_subvoxels=True, **surface),
        )


def of_medpy(reference, prediction, spacing_mm) -> Answers:
    for name in ("dc", "jc", "precision", "sensitivity", "specificity", "ravd"):
        yield name, lambda name=name: getattr(medpy, name)(prediction, reference)
    for name in ("hd", "hd95", "assd"):
        yield name, lambda name=name: getattr(medpy, name)(prediction, reference, spacing_mm)


def of_seg_metrics(reference, prediction, spacing_mm) -> Answers:
    maps = prediction.astype(np.uint8), reference.astype(np.uint8)
    found = computeQualityMeasures(*maps, spacing_mm[::-1])
    for name in ("dice", "jaccard", "precision", "recall", "fpr", "hd", "hd95", "msd"):
        yield name, lambda name=name: found[name]


def of_brats_evaluation(reference, prediction, spacing_mm) -> Answers:
    maps = prediction.astype(np.uint8), reference.astype(np.uint8)
    found = BRATS_NOW.evaluate(*maps, voxelspacing=spacing_mm)["gtv"].to_dict(True)
    names = ("tp", "fp", "fn", "rec", "prec", "sq_dsc", "sq_hd95")
    for name in (*names, "global_bin_dsc", "global_bin_hd95", "global_bin_nsd"):
        yield name, lambda name=name: found[name]


def of_brats_2023(reference, prediction, spacing_mm) -> Answers:
    for challenge, rule in BRATS.items():
        found = judged(reference, prediction, spacing_mm, *rule, _hd95)
        for name, value in found.as_dict().items():
            yield f"{challenge} {name}", lambda value=value: value


def _hd95(reference, prediction, spacing_mm) -> float:
    found = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    return float(surface_distance.compute_robust_hausdorff(found, 95))


ORACLES = {
    "surface-distance": of_surface_distance,
    "MONAI": of_monai,
    "MedPy": of_medpy,
    "seg-metrics": of_seg_metrics,
    "brats-evaluation": of_brats_evaluation,
    "BraTS 2023, by area": of_brats_2023,
}
BRATS_NOW = Panoptica_Evaluator.load_from_config(brats_evaluation.config_path("MenRT"))


def answers(reference, prediction, spacing_mm) -> dict[str, dict[str, float | None]]:
    """Return every oracle's scores; None where it refuses the masks."""
    said: dict[str, dict[str, float | None]] = {}
    for oracle, ask in ORACLES.items():
        said[oracle] = {}
        with suppress(RuntimeError, ValueError, ZeroDivisionError, AttributeError, KeyError):
            for name, answer in ask(reference, prediction, spacing_mm):
                said[oracle][name] = None
                with suppress(
                    RuntimeError, ValueError, ZeroDivisionError, AttributeError, KeyError
                ):
                    said[oracle][name] = float(np.squeeze(answer()))
    return said


def main(masks: Path, output: Path) -> None:
    warnings.simplefilter("ignore")
    pairs = np.load(masks)
    found = {}
    for name in sorted({key.rpartition("/")[0] for key in pairs}):
        reference, prediction, mm = (
            pairs[f"{name}/{part}"] for part in ("reference", "prediction", "mm")
        )
        found[name] = answers(reference, prediction, tuple(mm.tolist()))
    tables = {
        repr(tuple(mm)): create_table_neighbour_code_to_surface_area(mm).tolist()
        for mm in sorted({tuple(pairs[key].tolist()) for key in pairs if key.endswith("/mm")})
    }
    output.write_text(json.dumps({"pairs": found, "tables": tables}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
