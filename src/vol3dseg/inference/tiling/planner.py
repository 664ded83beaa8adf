"""Which tiles a network is run on: the cheapest that fit into memory, and what they cost.

Where outputs depend on their receptive field alone (`Network.local`), a tile with a halo as wide as
that gives what one pass over the whole volume would give. Tiles begin at multiples of the network's
divisor, so that pooling takes the same voxels together, and end where the padded volume ends, so
that the network's own padding lies where it would lie in one pass. Nothing else is taken unless it
is asked for. Elsewhere tiles are training patches, and overlapping ones are blended.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vol3dseg.inference import Tiles
from vol3dseg.inference.tiling.tile_plan import (
    Plan,
    by,
    divisions,
    multiple_of,
    multiples,
)
from vol3dseg.inference.uncertainty import SURE, Uncertainty
from vol3dseg.model.manifest import Manifest
from vol3dseg.space.box import Shape

# Halos to try where one as wide as the receptive field is too expensive [voxels].
_NARROWER = (64, 48, 32, 16)
# A plan may compute at most this many times what the cheapest one computes, if others are allowed;
# and no halo shall compute more than this many times what one pass does.
_AFFORDABLE, _MOST = 1.5, 4.0
_FLOAT, _HALF = 4, 2  # bytes
_HANDED_ON = 8  # rows at most that are finished, or wait to be brought to the grid of the scan
_MB = 2**20
_MOST_BANDS = 6  # beyond that most tiles are computed several times


@dataclass(frozen=True, slots=True)
class Planner:
    """Chooses a plan for each volume."""

    manifest: Manifest
    bytes_per_voxel: float  # memory of the network for each voxel of a tile
    most_mb: float = math.inf  # that the network may take
    fixed_mb: float = 0.0  # memory of the network that does not depend on the tile
    tiles: Tiles = "exact"
    features: bool = False  # whether tiles hold features, which outputs are made of bit by bit
    uncertainty: Uncertainty = SURE

    @property
    def channels(self) -> int:
        """How many numbers of each voxel are the result."""
        return len(self.manifest.outputs.channels) * (1 + self.uncertainty.members)

    def plan(self, shape: Shape, memory_mb: float) -> Plan | None:
        """Return a cheap plan for a prepared volume, with the widest halo that is affordable.

        Network and unfinished rows fit into `memory_mb`; None where nothing does.
        """
        memory_mb = min(memory_mb, self.most_mb)
        found = [self.with_halo(shape, halo, memory_mb) for halo in self._halos()]
        blended = (plan for plan in self._blended(shape) if plan.memory_mb <= memory_mb)
        plans = [plan for plan in (*found, next(blended, None)) if plan is not None]
        least = min((plan.computed for plan in plans), default=0)
        return next((plan for plan in plans if plan.computed <= _AFFORDABLE * least), None)

    def smallest(self, shape: Shape) -> Plan:
        """Return the plan that takes the least memory."""
        halos = (self._divided(shape, halo, least_memory=True) for halo in self._halos())
        return min((*halos, *self._blended(shape)), key=lambda plan: plan.memory_mb)

    def blended(self, shape: Shape) -> Plan:
        """Return the plan with overlapping training patches, even if memory is too small."""
        patch, members = self.manifest.recipe.patch_size, self.manifest.tiling.members_apart
        return self._with_overlap(shape, patch, self._orders()[0], members)

    def _orders(self) -> list[Shape]:
        """Return the manifest's order of axes, and others by which rows come along another axis."""
        i, j, k = ("ijk".index(axis) for axis in self.manifest.tiling.order)
        return [(i, j, k), (j, i, k), (k, i, j)]

    def with_halo(self, shape: Shape, halo: int, memory_mb: float) -> Plan | None:
        """Return the cheapest plan with a halo of at least this width, None if none fits.

        Along an axis where the receptive field is narrower, the halo is as narrow.
        """
        plan = self._divided(shape, halo, memory_mb)
        return plan if plan.memory_mb <= memory_mb else None

    def _halos(self) -> list[int]:
        """Return the widths to try, the widest first; none where tiles must be training patches."""
        network = self.manifest.network
        if not network.local:
            return []
        widest, divisor = max(network.receptive_field), max(network.divisor)
        narrower = [] if self.tiles == "exact" else _NARROWER
        exact = multiple_of(widest, divisor)
        return [widest, *(n for n in narrower if multiple_of(n, divisor) < exact)]

    def _blended(self, shape: Shape) -> Iterator[Plan]:
        """Give plans with overlapping tiles: of training patches; of smaller ones, if allowed."""
        patch, network = self.manifest.recipe.patch_size, self.manifest.network
        if not network.local:
            several = [self.manifest.tiling.members_apart]
            # Networks that are averaged tile by tile cannot be compared.
            members = dict.fromkeys(several if self.uncertainty.members else [*several, 1])
            if self.manifest.tiling.sums == "float16":  # whose order decides how they are rounded
                for apart, bands in product(members, range(1, _MOST_BANDS + 1)):
                    yield self._with_overlap(shape, patch, self._orders()[0], apart, bands)
            else:
                for apart, order in product(members, self._orders()):
                    yield self._with_overlap(shape, patch, order, apart)
        elif self.tiles == "any":
            sides = range(max(patch), 0, -min(network.divisor))
            cubes = (multiples((side, side, side), network.divisor) for side in sides)
            sizes = dict.fromkeys(tuple(map(min, patch, cube)) for cube in cubes)
            for a, b, c in sizes:
                yield self._with_overlap(shape, (a, b, c))

    def _with_overlap(
        self,
        shape: Shape,
        size: Shape,
        order: Shape = (0, 1, 2),
        members: int = 1,
        bands: int = 1,
    ) -> Plan:
        tiling = self.manifest.tiling
        plan = Plan(
            shape,
            size,
            0,
            0.0,
            padded=shape,
            step=tiling.step_of(size, self.manifest.recipe.patch_size),
            spread=tiling.spread,
            cost=self._cost_of_blending(size),
            views=tiling.views,
            order=order,
            members_apart=members,
            averaged=not self.manifest.network.local and members < tiling.members_apart,
            told=self.uncertainty.members,
        )
        if (bands := min(bands, shape[plan.band_axis])) > 1:
            ends = [shape[plan.band_axis] * n // bands for n in range(bands + 1)]
            plan = replace(plan, bands=tuple(map(range, ends, ends[1:])))
        return replace(plan, computed=self._computed(plan), memory_mb=self._blended_mb(plan))

    def _computed(self, plan: Plan) -> int:
        """Return the voxels of all overlapping tiles of a plan."""
        tiles, axis = list(plan.starts), plan.band_axis
        if plan.bands:
            ends = [part.box for part in plan.parts]
            tiles[axis] = [
                start
                for box in ends
                for start in tiles[axis]
                if start < box.stop[axis] and start + plan.size[axis] > box.start[axis]
            ]
        return math.prod(map(len, tiles)) * math.prod(plan.size)

    def _blended_mb(self, plan: Plan) -> float:
        """Return what the network takes for a tile, and the window and finished rows [MB]."""
        first, members = plan.order[0], plan.members_apart
        across = [
            math.prod(s) // s[first] for s in (plan.shape, *(p.box.shape for p in plan.parts))
        ]
        apart = self.manifest.tiling.members_apart > 1
        blended = members * len(self.manifest.outputs.channels) if apart else self.channels
        numbers = blended + 1  # one of weights
        sums = _HALF if self.manifest.tiling.sums == "float16" else _FLOAT
        height = min(plan.size[first], plan.shape[first])
        rows_mb = height * max(across[1:]) * numbers * sums / _MB
        rows_mb += _HANDED_ON * across[0] * self.channels * _FLOAT / _MB
        each = self.bytes_per_voxel + _FLOAT + self._bytes_of_mean(members)  # weights, and means
        return math.prod(plan.size) * each / _MB + rows_mb + self.fixed_mb

    def _bytes_of_mean(self, members: int) -> int:
        """Return what each voxel of a tile takes where outputs of networks are averaged there."""
        averaged = members < self.manifest.tiling.members_apart and not self.features
        return _FLOAT * self.channels * averaged

    def _cost_of_blending(self, size: Shape) -> str:
        recipe, network = self.manifest.recipe, self.manifest.network
        if not network.local:
            return ""
        small = f", smaller than the training patch of {by(recipe.patch_size)}"
        return (
            f"tiles of {by(size)} voxels are blended{small * (size != recipe.patch_size)}, and none"
            f" sees the {max(network.receptive_field)} voxels around it that outputs depend on"
        )

    def _divided(
        self, shape: Shape, halo: int, memory_mb: float = math.inf, least_memory: bool = False
    ) -> Plan:
        """Return the cheapest plan with such a halo that fits; the smallest where none does."""
        network = self.manifest.network
        i, j, k = (min(halo, reach) for reach in network.receptive_field)
        wide, padded = multiples((i, j, k), network.divisor), multiples(shape, network.divisor)
        axes = zip(padded, network.divisor, wide, strict=True)
        counts, sizes = zip(*(np.array(divisions(*axis)).T for axis in axes), strict=True)
        voxels = _products(sizes)
        computed = voxels * _products(counts)
        rows_mb = (sizes[0] - wide[0] * (counts[0] > 1)) * self._row_mb(shape)
        each = self.bytes_per_voxel + self._bytes_of_mean(1)
        memory = voxels * each / _MB + rows_mb[:, None, None] + self.fixed_mb
        memory[:, 0, 0] -= rows_mb  # of a tile for each row the network's own answer is the result
        allowed = computed <= _MOST * math.prod(padded)
        cheapest = np.where(allowed & (memory <= memory_mb), computed, np.inf)
        none = least_memory or not np.isfinite(cheapest).any()
        chosen = np.where(allowed, memory, np.inf) if none else cheapest
        best = np.unravel_index(chosen.argmin(), chosen.shape)
        a, b, c = (int(axis[n]) for axis, n in zip(sizes, best, strict=True))
        whole = all(n >= reach for n, reach in zip(wide, network.receptive_field, strict=True))
        exact = whole or not any(best)
        narrow = (
            f"the halo of {max(wide)} voxels is narrower than the {max(network.receptive_field)} "
            "that outputs depend on"
        )
        return Plan(
            shape,
            (a, b, c),
            int(computed[best]),
            float(memory[best]),
            padded,
            halo=wide,
            exact=exact,
            cost="" if exact else narrow,
            views=self.manifest.tiling.views,
            told=self.uncertainty.members,
        )

    def _row_mb(self, shape: Shape) -> float:
        """Return the memory of a row of the result [MB]."""
        return shape[1] * shape[2] * self.channels * _FLOAT / _MB


def _products(axes: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
    """Return the (a, b, c) products of one number of each axis."""
    a, b, c = (axis.astype(np.float64) for axis in axes)
    return a[:, None, None] * b[:, None] * c
