"""Modalities that a training patch is shown without, so that the network learns to do without them.

A missing modality is zeros after normalisation, in training as in `preprocessing.prepare`. Leaving
modalities out at random is as old as HeMIS (Havaei et al., MICCAI 2016); Neverova et al.,
"ModDrop", TPAMI 2016, is the same for other signals.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


class MissingModalities:
    """Draws which modalities a patch is shown without.

    `shares` are those of patches, by modality, in the long run but for the last one that is left:
    a patch always keeps one of those that its case has.
    """

    def __init__(self, modalities: Sequence[str], shares: Mapping[str, float]) -> None:
        self._shares = np.array([shares.get(name, 0.0) for name in modalities])

    def drawn(self, missing: Collection[int], rng: np.random.Generator) -> list[int]:
        """Return the channels that are zeros, with those that the case lacks.

        Nothing is drawn of `rng` where no modality may be left out.
        """
        if not self._shares.any():
            return sorted(missing)
        gone = rng.random(self._shares.size) < self._shares
        present = [n for n in range(gone.size) if n not in missing]
        if gone[present].all():
            gone[rng.choice(present)] = False
        return sorted({*missing, *np.flatnonzero(gone).tolist()})


def without(image: NDArray[np.float32], channels: Collection[int]) -> NDArray[np.float32]:
    """Return an (i, j, k, c) image in which these channels are zeros; itself if there are none."""
    if not channels:
        return image
    image = image.copy()
    image[..., [*channels]] = 0
    return image
