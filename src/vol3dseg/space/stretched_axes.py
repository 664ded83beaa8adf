"""Axes of two grids over one field of view, and interpolation between them as nnU-Net does it.

A voxel's place comes from whole numbers alone, by the formulas of the libraries that nnU-Net calls
(scikit-image 0.26 on SciPy, PyTorch), in their precision: rounded otherwise, the nearest voxel of
one in a hundred pairs of sizes would be another. Towards a coarser grid nothing is widened.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.space.axes import AxisMap
from vol3dseg.space.bspline import REACH, cardinal_weights

# Torch computes places in float32.
Way = Literal["nearest", "linear", "cubic", "torch nearest", "torch linear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StretchedAxis(AxisMap):
    """An axis map where `extent` target voxels from `begin` on cover the whole source.

    All other target voxels are outside. `flipped`: the source runs the other way.
    """

    begin: int
    extent: int
    flipped: bool = False
    way: Way

    @classmethod
    def between(
        cls, axis: int, size: int, count: int, way: Way, part: tuple[int, int] | None = None,
        flipped: bool = False,
    ) -> "StretchedAxis":  # fmt: skip
        """Return the map of `size` source voxels along `axis` to `count` target voxels.

        Of these the half-open `part` covers the source; None is all of them.
        """
        begin, stop = part or (0, count)
        scale = size / (stop - begin)
        offset = (0.5 - begin) * scale - 0.5
        if flipped:
            scale, offset = -scale, size - 1 - offset
        return cls(
            axis=axis, offset=offset, scale=scale, size=size, first=0, count=count,
            begin=begin, extent=stop - begin, flipped=flipped, way=way,
        )  # fmt: skip

    @property
    def outside(self) -> NDArray[np.bool_]:
        """Which of the (count,) target voxels the source does not cover."""
        at = np.arange(self.first, self.first + self.count) - self.begin
        return (at < 0) | (at >= self.extent)

    def taps(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return (count, taps) source voxels and their weights; edges are repeated."""
        at = np.arange(self.first, self.first + self.count) - self.begin
        at = np.clip(self.extent - 1 - at if self.flipped else at, 0, self.extent - 1)
        place: NDArray[np.floating] = self.size / self.extent * (at + 0.5) - 0.5
        if self.way.startswith("torch"):
            scale = float(np.float32(self.size / self.extent))
            place = (scale * (at + 0.5) - 0.5).astype(np.float32)  # rounded once
        if (
            self.way == "cubic" and not self.is_indexing
        ):  # of which nothing ends at the outermost samples
            low = np.floor(place).astype(np.intp)
            taps = low[:, None] + np.arange(1 - REACH, REACH + 1)
            weights = cardinal_weights(taps - place[:, None])
            return np.clip(taps, 0, self.size - 1), weights.astype(np.float32)
        place = np.clip(place, 0, self.size - 1)
        if self.way.endswith("nearest"):
            nearest = np.minimum(np.floor(place + 0.5).astype(np.intp), self.size - 1)
            return nearest[:, None], np.ones((self.count, 1), dtype=np.float32)
        low = np.floor(place).astype(np.intp)
        share = (place - low).astype(np.float32)
        taps = np.stack([low, np.minimum(low + 1, self.size - 1)], axis=1)
        return taps, np.stack([1 - share, share], axis=1)
