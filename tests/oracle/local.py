"""Oracles that are installed with us: SciPy, SimpleITK, and the rules of BraTS 2023."""

from collections.abc import Callable
from functools import cache

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage, spatial

from tests.oracle.brats_2023 import judged
from tests.oracle.masks import PAIRS, Pair

BRATS = {"gli": (3, 50.0), "met": (1, 2.0), "men": (1, 50.0)}
Ask = Callable[[], float]


def of_scipy(pair: Pair) -> dict[str, Ask]:
    """Return distances between the places of outermost voxels, found in a tree."""
    mm = pair.spacing_mm
    return {
        "directed_hausdorff": lambda: _hausdorff(pair),
        "KDTree, 95 %": lambda: max(np.percentile(d, 95) for d in _distances(pair)),
        "KDTree, mean": lambda: np.concatenate(_distances(pair)).mean(),
        "KDTree, within": lambda: np.mean(np.concatenate(_distances(pair)) <= mm[0] * (1 + 1e-12)),
    }


def of_simpleitk(pair: Pair) -> dict[str, Ask]:
    """Return what its filters measure; the target is the reference."""
    overlap, hausdorff = sitk.LabelOverlapMeasuresImageFilter(), sitk.HausdorffDistanceImageFilter()
    source, target = _image(pair.prediction, pair), _image(pair.reference, pair)
    overlap.Execute(source, target)
    hausdorff.Execute(source, target)
    return {
        "GetDiceCoefficient": overlap.GetDiceCoefficient,
        "GetJaccardCoefficient": overlap.GetJaccardCoefficient,
        "1 - GetFalseNegativeError": lambda: 1 - overlap.GetFalseNegativeError(),
        "1 - GetFalseDiscoveryRate": lambda: 1 - overlap.GetFalseDiscoveryRate(),
        "GetVolumeSimilarity": overlap.GetVolumeSimilarity,
        "GetHausdorffDistance": hausdorff.GetHausdorffDistance,
    }


def of_brats_2023(pair: Pair) -> dict[str, Ask]:
    """Return scores by the published rules, with HD95 by voxels from a tree."""
    said = {}
    for challenge, rule in BRATS.items():
        found = judged(pair.reference, pair.prediction, pair.spacing_mm, *rule, _hd95)
        for name, value in found.as_dict().items():
            said[f"{challenge} {name}"] = lambda value=value: value
    return said


ORACLES = {
    "SciPy": of_scipy,
    "SimpleITK": of_simpleitk,
    "BraTS 2023, by voxels": of_brats_2023,
}


def _image(mask, pair: Pair):
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(pair.spacing_mm[::-1])
    return image


def _places(mask, spacing_mm):
    return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.array(spacing_mm)


def _distances(pair: Pair):
    first, second = (_places(mask, pair.spacing_mm) for mask in (pair.reference, pair.prediction))
    return spatial.KDTree(second).query(first)[0], spatial.KDTree(first).query(second)[0]


def _hausdorff(pair: Pair) -> float:
    first, second = (_places(mask, pair.spacing_mm) for mask in (pair.reference, pair.prediction))
    return max(
        spatial.distance.directed_hausdorff(*w)[0] for w in ((first, second), (second, first))
    )


def _hd95(reference, prediction, spacing_mm) -> float:
    found = _distances(Pair(reference, prediction, spacing_mm))
    return float(max(np.percentile(each, 95) for each in found))


@cache
def asked(oracle: str, name: str) -> dict[str, Ask]:
    """Return the answers of an oracle on a pair by its name."""
    return ORACLES[oracle](PAIRS[name])
