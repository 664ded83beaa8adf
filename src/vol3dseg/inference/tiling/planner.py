"""Which tiles a network is run on: the cheapest that fit into memory, and what they cost.

Where outputs depend on their receptive field alone (`Network.local`), a tile with a halo as wide as
that gives what one pass over the whole volume would give. Tiles begin at multiples of the network's
divisor, so that pooling takes the same voxels together, and end where the padded volume ends, so
that the network's own padding lies where it would lie in one pass. Elsewhere tiles are training
patches, and overlapping ones are blended.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import MemoryLimitError, ModelError
from vol3dseg.inference.tiling.plan import Plan, by, divisions, multiple_of, multiples
from vol3dseg.model.manifest import Manifest
from vol3dseg.space.box import Shape

# Halos to try where one as wide as the receptive field is too expensive [voxels].
_NARROWER = (64, 48, 32, 16)
# A plan may compute at most this many times what the cheapest one computes.
_AFFORDABLE = 1.5
_FLOAT = 4  # bytes
_MB = 2**20


@dataclass(frozen=True, slots=True)
class Planner:
    """Chooses a plan for each volume.

    A ModelError is raised if only exact plans are asked for, but outputs depend on the whole tile.
    """

    manifest: Manifest
    bytes_per_voxel: float  # memory of the network for each voxel of a tile
    most_mb: float = math.inf  # that the network may take
    fixed_mb: float = 0.0  # memory of the network that does not depend on the tile
    only_exact: bool = False  # no plans but those that equal one pass, however expensive

    def __post_init__(self) -> None:
        if self.only_exact and not self.manifest.network.local:
            raise ModelError(
                "no tiling of this model is exact, since its norm takes its statistics from the "
                "whole tile",
                remedy="leave --exact away, or train with model.norm: batch",
            )

    def plan(self, shape: Shape, memory_mb: float) -> Plan:
        """Return a cheap plan for a prepared volume, with the widest halo that is affordable.

        Network and unfinished rows fit into `memory_mb`, or a MemoryLimitError says what the
        smallest plan needs.
        """
        memory_mb = min(memory_mb, self.most_mb)
        plans = self._with_halo(shape, memory_mb) if self.manifest.network.local else []
        blended = [plan for plan in self._blended(shape) if plan.memory_mb <= memory_mb]
        plans = [plan for plan in [*plans, *blended[:1]] if plan.exact or not self.only_exact]
        if not plans:
            smallest = self._blended(shape)[-1]
            raise MemoryLimitError(
                f"a volume of {by(shape)} voxels needs more than the {max(memory_mb, 0):.0f} MB "
                f"that are left; {smallest.memory_mb:.0f} MB would do for {smallest}",
                remedy="raise --max-memory, close other programs, use --precision bfloat16"
                + (", or leave --exact away" if self.only_exact else ""),
            )
        least = min(plan.computed for plan in plans)
        return next(plan for plan in plans if plan.computed <= _AFFORDABLE * least)

    def blended(self, shape: Shape) -> Plan:
        """Return the plan with overlapping training patches, even if memory is too small."""
        return self._blended(shape)[0]

    def _blended(self, shape: Shape) -> list[Plan]:
        """Return plans with overlapping tiles: of training patches; of smaller ones, if local."""
        patch, network = self.manifest.recipe.patch_size, self.manifest.network
        longest = max(patch)
        smallest = 0 if network.local else longest - 1
        sizes: dict[Shape, None] = {}
        for side in range(longest, smallest, -min(network.divisor)):
            i, j, k = multiples((side, side, side), network.divisor)
            sizes[min(patch[0], i), min(patch[1], j), min(patch[2], k)] = None
        return [self._with_overlap(shape, size) for size in sizes]

    def _with_overlap(self, shape: Shape, size: Shape) -> Plan:
        i, j, k = self.manifest.tiling.step_of(size, self.manifest.recipe.patch_size)
        count = math.prod(
            1 if extent <= side else 1 + -(-(extent - side) // each)
            for extent, side, each in zip(shape, size, (i, j, k), strict=True)
        )
        rows_mb = size[0] * self._row_mb(shape, 1)  # with one of weights
        memory_mb = math.prod(size) * self.bytes_per_voxel / _MB + rows_mb + self.fixed_mb
        return Plan(shape, size, count * math.prod(size), memory_mb, padded=shape, step=(i, j, k))

    def _with_halo(self, shape: Shape, memory_mb: float) -> list[Plan]:
        """Return the cheapest plan for each width of the halo that fits, the widest first."""
        network = self.manifest.network
        widest, divisor = max(network.receptive_field), max(network.divisor)
        exact = multiple_of(widest, divisor)
        halos = [widest, *(n for n in _NARROWER if multiple_of(n, divisor) < exact)]
        found = (self.with_halo(shape, halo, memory_mb) for halo in halos)
        return [plan for plan in found if plan is not None]

    def with_halo(self, shape: Shape, halo: int, memory_mb: float) -> Plan | None:
        """Return the cheapest plan with a halo of at least this width, None if none fits.

        Along an axis where the receptive field is narrower, the halo is as narrow.
        """
        network = self.manifest.network
        i, j, k = (min(halo, reach) for reach in network.receptive_field)
        wide, padded = multiples((i, j, k), network.divisor), multiples(shape, network.divisor)
        axes = zip(padded, network.divisor, wide, strict=True)
        counts, sizes = zip(*(np.array(divisions(*axis)).T for axis in axes), strict=True)
        voxels = _products(sizes)
        computed = voxels * _products(counts)
        rows_mb = sizes[0] * self._row_mb(shape)
        memory = voxels * self.bytes_per_voxel / _MB + rows_mb[:, None, None] + self.fixed_mb
        memory[0, 0, 0] -= rows_mb[0]  # of one pass the network's own answer is the result
        fitting = np.where(memory <= memory_mb, computed, np.inf)
        best = np.unravel_index(fitting.argmin(), fitting.shape)
        if not np.isfinite(fitting[best]):
            return None
        a, b, c = (int(axis[n]) for axis, n in zip(sizes, best, strict=True))
        whole = all(n >= reach for n, reach in zip(wide, network.receptive_field, strict=True))
        return Plan(
            shape,
            (a, b, c),
            int(computed[best]),
            float(memory[best]),
            padded,
            halo=wide,
            exact=whole or not any(best),
        )

    def _row_mb(self, shape: Shape, more: int = 0) -> float:
        """Return the memory of a row of the result, and of `more` channels beside it [MB]."""
        numbers = len(self.manifest.outputs.channels) + more
        return shape[1] * shape[2] * numbers * _FLOAT / _MB


def _products(axes: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
    """Return the (a, b, c) products of one number of each axis."""
    a, b, c = (axis.astype(np.float64) for axis in axes)
    return a[:, None, None] * b[:, None] * c
