"""A model folder of nnU-Net's default kind, written by nnU-Net's own trainer; trains nothing.

Weights are random, as its trainer draws them. The last layer is then fitted to shades of the
scan, so that regions are large and classes decided as clearly as after a training: where noise
decides, no two programs agree.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.ndimage import gaussian_filter

from benchmarks.contestants.nnunet_folder import (
    CONFIGURATION,
    dataset,
    make_trainer,
    plain_unet,
    plans,
)
from benchmarks.contestants.protocol import Call, serve

PACKAGES = ("nnunetv2", "torch", "dynamic-network-architectures")
_READER = "SimpleITKIO"  # what its planner takes for NIfTI
_SAMPLES = 100_000  # voxels that the last layer is fitted to
_CT_SHADES, _MR_SHADES = 3, 8  # at most: the CT has air and two tissues
_LARGEST = 30.0  # logit: nnU-Net adds up ten times as much in float16
_CT = {"mean": 60.0, "std": 60.0, "percentile_00_5": -60.0, "percentile_99_5": 160.0}


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Draw weights.

    Parameters
    ----------
    settings : dict
        folder : of the model; images : files by modality; patch_size; widths of each level;
        classes; spacing_mm; ct : whether it is normalised as one.
    """
    torch.manual_seed(0)

    def write() -> dict[str, Any]:
        folder, modalities = Path(settings["folder"]), list(settings["images"])
        chosen, described = _plans(settings), dataset(modalities, settings["classes"])
        del described["overwrite_image_reader_writer"]
        trainer = make_trainer(chosen, described, deep_supervision=False)
        seen = min(_CT_SHADES if settings["ct"] else _MR_SHADES, settings["classes"])
        _fit_last_layer(trainer.network, _patch(trainer, settings), seen, settings["classes"])
        trainer.inference_allowed_mirroring_axes = (0, 1, 2)
        (folder / "fold_0").mkdir(parents=True, exist_ok=True)
        (folder / "plans.json").write_text(json.dumps(chosen), encoding="utf-8")
        (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
        trainer.save_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"))
        return {"parameters": sum(p.numel() for p in trainer.network.parameters())}

    return {"write": write}


def _plans(settings: dict[str, Any]) -> dict[str, Any]:
    modalities, levels = len(settings["images"]), len(settings["widths"])
    chosen = plans(modalities, settings["patch_size"], settings["widths"])
    chosen |= {"transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2]}
    chosen["image_reader_writer"] = _READER
    strides = [[1, 1, 1], *[[2, 2, 2]] * (levels - 1)]
    changes = {
        "architecture": plain_unet(settings["widths"], [[3, 3, 3]] * levels, strides),
        "spacing": settings["spacing_mm"],
    }
    if settings["ct"]:
        names = {"normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False]}
        changes |= names
        chosen["foreground_intensity_properties_per_channel"] = {"0": _CT}
    chosen["configurations"][CONFIGURATION] |= changes
    return chosen


def _patch(trainer: Any, settings: dict[str, Any]) -> torch.Tensor:
    """Return the middle of the scan as nnU-Net prepares it, (1, c, ...) of a patch's size."""
    managers = trainer.plans_manager, trainer.configuration_manager
    preprocessor = trainer.configuration_manager.preprocessor_class(verbose=False)
    files = list(settings["images"].values())
    data, *_ = preprocessor.run_case(files, None, *managers, trainer.dataset_json)
    sides, extents = settings["patch_size"], data.shape[1:]
    missing = [max(0, side - n) for side, n in zip(sides, extents, strict=True)]
    data = np.pad(data, [(0, 0), *((m // 2, m - m // 2) for m in missing)])
    starts = [(n - side) // 2 for side, n in zip(sides, data.shape[1:], strict=True)]
    window = tuple(slice(at, at + side) for at, side in zip(starts, sides, strict=True))
    return torch.from_numpy(np.ascontiguousarray(data[:, *window], dtype=np.float32))[None]


def _fit_last_layer(network: Any, patch: torch.Tensor, seen: int, classes: int) -> None:
    """Let the last layer tell shades of the scan apart, by linear discriminants.

    Shades are spread over the classes; the others are unlikely everywhere, as most organs are.
    """
    head, inputs = network.decoder.seg_layers[-1], []
    hook = head.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        network.eval()(patch)
        hook.remove()
        features = inputs[0][0].flatten(1).T.double().numpy()
        kept = np.random.default_rng(0).permutation(len(features))[:_SAMPLES]
        shades = _shades(patch[0, 0].numpy(), seen).ravel()[kept]
        labels = shades * ((classes - 1) // (seen - 1))
        weights, bias = _discriminants(features[kept], labels, classes)
        head.weight.copy_(torch.from_numpy(weights)[..., None, None, None])
        head.bias.copy_(torch.from_numpy(bias))


def _shades(image: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return which of so many shades each voxel has; the darkest are 0."""
    smooth = gaussian_filter(image, 0.7)
    some = np.random.default_rng(0).choice(smooth.ravel(), _SAMPLES).astype(np.float64)
    centres = np.sort(kmeans2(some, count, minit="++", seed=0)[0].ravel())
    found: NDArray[np.intp] = np.searchsorted((centres[1:] + centres[:-1]) / 2, smooth)
    return found


def _discriminants(
    features: NDArray[np.float64], labels: NDArray[np.intp], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (class, feature) weights and biases of Fisher's linear discriminants."""
    counts = np.bincount(labels, minlength=classes)
    sums = np.zeros((classes, features.shape[1]))
    np.add.at(sums, labels, features)
    means = sums / np.maximum(counts, 1)[:, None]
    spread = np.cov((features - means[labels]).T)
    spread += 1e-3 * np.trace(spread) / len(spread) * np.eye(len(spread))
    weights = np.linalg.solve(spread, means.T).T
    bias = np.log((counts + 0.1) / len(labels)) - 0.5 * (weights * means).sum(axis=1)
    scale = min(1.0, _LARGEST / np.abs(features @ weights.T + bias).max())
    return weights * scale, bias * scale


if __name__ == "__main__":
    serve(make, PACKAGES)
