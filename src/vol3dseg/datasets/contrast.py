"""Images in which nothing is to be seen: all of their voxels have one value."""

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import IntensityError
from vol3dseg.space.volume import Volume


def flat_modalities(volume: Volume) -> list[str]:
    """Return the modalities whose voxels all have one value, so that nothing is to be seen."""
    return [name for c, name in enumerate(volume.modalities) if is_flat(volume.array[..., c])]


def no_contrast(name: str, where: object = "") -> IntensityError:
    """Return the error of an image that is flat."""
    return IntensityError(
        f"all voxels of {name} have one value",
        where=where,
        expected="a scan",
        remedy="export it again, or leave the case out",
    )


def is_flat(array: NDArray[np.float32]) -> bool:
    """Tell whether all voxels of an (i, j, k) image have one value."""
    value = array[0, 0, 0]
    few = array[:: max(array.shape[0] // 8, 1), :: max(array.shape[1] // 8, 1)]
    return bool((few == value).all() and (array == value).all())
