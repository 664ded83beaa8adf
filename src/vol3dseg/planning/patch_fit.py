"""Whether the patch of a config fits the scans that it is cut from, said in words.

`plan`, `preprocess` and `train` say it, each with what it knows of the scans.
"""

import math
from collections.abc import Sequence

import numpy as np

from vol3dseg.config import Config
from vol3dseg.space.box import Shape

# A scan at most so many times as long as the patch would rather have a longer patch.
_JUST_SMALLER = 1.5
# A volume computed so many times over is worth a word.
_MANY_TIMES = 3.0


def patch_warnings(config: Config, shapes: Sequence[Sequence[float]]) -> list[str]:
    """Return what is wrong with the patch for prepared scans of these (i, j, k) sides."""
    if not len(shapes):
        return []
    sides = np.array(shapes, dtype=np.float64)
    return [*_larger_than_all(config, sides), *_just_smaller(config, sides)]


def _larger_than_all(config: Config, sides: np.ndarray) -> list[str]:
    patch, divisor = config.recipe.patch_size, config.model.divisor
    enough = _holding(sides.max(axis=0), divisor)
    if all(p <= e for p, e in zip(patch, enough, strict=True)):
        return []
    smaller = [min(p, e) for p, e in zip(patch, enough, strict=True)]
    empty = 1 - float(np.mean(np.minimum(sides, patch).prod(axis=1))) / math.prod(patch)
    largest = _by(sides.max(axis=0))
    return [
        f"patches of {_by(patch)} voxels are larger than every scan (the largest sides are "
        f"{largest}): {100 * empty:.0f} % of a patch is empty; recipe.patch_size {smaller} holds "
        "them all"
    ]


def _just_smaller(config: Config, sides: np.ndarray) -> list[str]:
    if config.model.local:  # tiles are free, whatever the patch
        return []
    patch, median = config.recipe.patch_size, np.median(sides, axis=0)
    near = [1 < n / p <= _JUST_SMALLER for n, p in zip(median, patch, strict=True)]
    times = _computed(median, patch) / float(median.prod())
    if not any(near) or times < _MANY_TIMES:
        return []
    whole = _holding(median, config.model.divisor)
    longer = [w if n else p for w, p, n in zip(whole, patch, near, strict=True)]
    return [
        f"patches of {_by(patch)} voxels are just smaller than the median scan of {_by(median)}: "
        f"prediction will compute it {times:.1f} times over, by patches that overlap by half; "
        f"recipe.patch_size {longer} would do so {_computed(median, longer) / median.prod():.1f} "
        "times, and with model.norm: batch tiles may have any size"
    ]


def _computed(shape: Sequence[float], patch: Sequence[float]) -> float:
    """Return the voxels of all patches that cover a scan, neighbours sharing half of a side."""
    counts = [
        1 if n <= p else 1 + math.ceil((n - p) / max(1, round(p / 2)))
        for n, p in zip(shape, patch, strict=True)
    ]
    return math.prod(counts) * math.prod(patch)


def _holding(shape: Sequence[float], divisor: Shape) -> list[int]:
    return [d * math.ceil(n / d) for n, d in zip(shape, divisor, strict=True)]


def _by(shape: Sequence[float]) -> str:
    return "x".join(f"{n:.0f}" for n in shape)
