"""Distances as others compute them, the way each is called; `by` says who."""

from typing import Any

import numpy as np

from benchmarks.contestants.protocol import Call, serve

PACKAGES = ("surface-distance", "monai", "torch", "scipy", "numpy")


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load masks: file, an .npz of them; by; tolerance : mm."""
    pairs = np.load(settings["file"])
    spacing_mm = tuple(pairs["spacing_mm"].tolist())
    names = sorted(key.removeprefix("reference ") for key in pairs if key.startswith("reference"))
    masks = {name: [pairs[f"{of} {name}"] for of in ("reference", "prediction")] for name in names}
    scores = {"surface-distance": _surface_distance, "MONAI": _monai}[settings["by"]](
        spacing_mm, settings["tolerance"]
    )

    def run() -> dict[str, Any]:
        return {name: scores(*pair) for name, pair in masks.items()}

    return {"run": run}


def _surface_distance(spacing_mm: tuple[float, ...], tolerance_mm: float) -> Any:
    import surface_distance

    def scores(reference: Any, prediction: Any) -> list[float]:
        found = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
        areas = [found[f"surfel_areas_{of}"].sum() for of in ("gt", "pred")]
        means = surface_distance.compute_average_surface_distance(found)
        return [
            float(surface_distance.compute_robust_hausdorff(found, 95)),
            float(np.average(means, weights=areas)),
            float(surface_distance.compute_surface_dice_at_tolerance(found, tolerance_mm)),
        ]

    return scores


def _monai(spacing_mm: tuple[float, ...], tolerance_mm: float) -> Any:
    import torch
    from monai import metrics

    def scores(reference: Any, prediction: Any) -> list[float]:
        y, seen = (torch.from_numpy(mask)[None, None] for mask in (reference, prediction))
        known = {"include_background": True, "spacing": spacing_mm}
        return [
            metrics.compute_hausdorff_distance(seen, y, percentile=95, **known).item(),
            metrics.compute_average_surface_distance(seen, y, symmetric=True, **known).item(),
            metrics.compute_surface_dice(seen, y, [tolerance_mm], **known).item(),
        ]

    return scores


if __name__ == "__main__":
    serve(make, PACKAGES)
