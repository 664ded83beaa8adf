"""The memory that a process was given, and what each stage of a case takes of it.

Under a limit the kernel's account of the whole process stays within it, from loading the model to
writing labels. Arrays are counted from the shape of the scan. What the network takes is measured,
since runtimes differ: two small runs tell what a voxel takes and what does not depend on the tile.
Whatever will not fit is refused before it is begun, with the limit that would do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vol3dseg.errors import MemoryLimitError
from vol3dseg.inference import TILES
from vol3dseg.inference.restore import CHUNK_MB, measuring_takes_mb
from vol3dseg.inference.runtimes.session import Backend
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.tiling.tile_plan import Plan, multiples
from vol3dseg.machine import give_back, own_share_mb, peak_mb, reset_peak, resident_mb
from vol3dseg.model.components import BYTES_PER_VOXEL
from vol3dseg.preprocessing.preparing_memory import largest_working_shape, preparing_takes_mb
from vol3dseg.space.box import Shape
from vol3dseg.space.geometry import Geometry

_SHARE = 0.85  # of free memory that is taken unless a limit is given
_UNKNOWN_MB = 4096.0  # for the network where the free memory is not known
_FLOAT = 4  # bytes
_MB = 2**20

# What is measured of a network may be this much too small: kernels differ a little by shape.
_INEXACT, _INEXACT_MB = 1.04, 8.0
_PROBES = ((96, 48), (80, 48), (64, 32))  # voxels a side of two runs; the first that surely fits
_SURELY = 1.3  # times what is counted, before it is measured
# Beside arrays, measured by `python -m benchmarks.limits`.
_READING_MB = 10.0
_TURNING_MB = 5.0  # labels to the axes of the scan, row by row
_COMPONENTS_MB = 10.0
_WRITING_MB = 20.0
_ROOM = 1.02  # of a limit that is said to do: no two runs take quite the same
_STEP_MB = 10  # of a limit that is said to do [10^6 bytes]


@dataclass(frozen=True, slots=True)
class Scan:
    """What decides how much memory a scan takes, beside the model."""

    source: Geometry  # the grid of the scan
    keep_probabilities: bool = False
    held: bool = False  # whether the scan as read stays beside its results


class Allowance:
    """What a network's predictor may take, with a limit or without.

    Parameters
    ----------
    planner : Planner
        With what is counted of the network; under a limit it is measured when it is first needed.
    run : Backend
    most_mb : float or None
        What the process may take in all [MB]; None takes most of what is free.
    threads : int
        That restore probabilities.
    release : callable
        Gives back what the runtime keeps between runs.
    measurable : bool
        Whether the kernel sees what the network takes, as it does not on a GPU.
    """

    def __init__(
        self,
        planner: Planner,
        run: Backend,
        most_mb: float | None,
        threads: int,
        release: Callable[[], None] = lambda: None,
        measurable: bool = True,
    ) -> None:
        self.planner = planner
        self.most_mb = most_mb
        self._run, self._release, self._threads = run, release, threads
        self._loading_mb = peak_mb() or 0.0
        self._measured = most_mb is None or not measurable
        self._so_far_mb = 0.0  # the peak until the network runs, under a limit
        # Without a limit: what is resident of earlier runs and will be used again.
        self._kept_mb = 0.0

    def require(self, scan: Scan, shape: Shape | None = None) -> None:
        """Refuse a scan that would not fit, before it is read, or as its working shape is known.

        With a `shape`, the scan is read and counted in what is resident; without, what the recipe
        may crop is not known, and only what is certain is refused.
        """
        if self.most_mb is None:
            return
        self._measure()
        manifest = self.planner.manifest
        cut = manifest.recipe.crop != "none" or manifest.locating is not None
        certain = shape is not None or not cut
        read_mb = 0.0 if shape is None else self._images_mb(scan.source.shape)
        shape = shape or largest_working_shape(manifest.recipe, scan.source)
        needs = self._needs(scan, shape, self._resident_mb() - read_mb)
        if not certain:
            kept = ("loading the model", "reading the scan")
            if all(needs[stage] <= self.most_mb for stage in kept):
                return
        if max(needs.values()) > self.most_mb:
            raise self._refusal(needs, scan, shape)

    def plan(self, shape: Shape, scan: Scan) -> Plan:
        """Return how a prepared scan, which is resident, goes through the network; or refuse it."""
        self._measure()
        self._so_far_mb = 0.0 if self.most_mb is None else peak_mb() or 0.0
        left_mb = self._left_mb() - self._results_mb(scan)
        plan = self.planner.plan(shape, left_mb)
        if plan is not None:
            return plan
        if self.most_mb is None:
            raise self._nothing_free(shape, left_mb)
        prepared_mb = self._images_mb(shape)
        held_mb = self._images_mb(scan.source.shape) * scan.held
        base_mb = self._resident_mb() - prepared_mb - held_mb
        raise self._refusal(self._needs(scan, shape, base_mb), scan, shape)

    def end(self, plan: Plan, scan: Scan, before_mb: float | None) -> float | None:
        """Give back what need not be kept; return the peak that was expected of a run [MB].

        `before_mb` is what was resident before it.
        """
        if self.most_mb is not None:
            self._release()
        kept_mb, after_mb = self._kept_mb, resident_mb()
        if before_mb is None or after_mb is None:
            return None
        if self.most_mb is None:
            self._kept_mb = max(0.0, kept_mb + after_mb - before_mb - self._results_mb(scan))
        most_mb = max(plan.memory_mb, self._components_mb(scan))
        expected_mb = before_mb - kept_mb + most_mb + self._results_mb(scan)
        return round(max(self._so_far_mb, expected_mb), 1)

    def _left_mb(self) -> float:
        if self.most_mb is not None:
            return self.most_mb - self._resident_mb()
        free = own_share_mb()
        return _UNKNOWN_MB if free is None else _SHARE * free + self._kept_mb

    def _resident_mb(self) -> float:
        give_back()
        return resident_mb() or 0.0

    def _images_mb(self, shape: Shape) -> float:
        return math.prod(shape) * len(self.planner.manifest.recipe.modalities) * _FLOAT / _MB

    def _results_mb(self, scan: Scan) -> float:
        """Return the memory of labels, kept probabilities and of restoring them [MB]."""
        manifest = self.planner.manifest
        measured, channels = self.planner.uncertainty, len(manifest.outputs.channels)
        kept = channels * scan.keep_probabilities + len(measured.names)
        each = 1 + kept * _FLOAT
        resampled = manifest.recipe.spacing_mm is not None or kept
        restoring_mb = CHUNK_MB * self._threads if resampled else _TURNING_MB
        restoring_mb += measuring_takes_mb(measured, channels, scan.source.shape) * self._threads
        return math.prod(scan.source.shape) * each / _MB + restoring_mb

    def _components_mb(self, scan: Scan) -> float:
        """Return the memory of post-processing labels, at most [MB]."""
        if not self.planner.manifest.postprocessing:
            return 0.0
        return math.prod(scan.source.shape) * BYTES_PER_VOXEL / _MB + _COMPONENTS_MB

    def _needs(self, scan: Scan, shape: Shape, base_mb: float) -> dict[str, float]:
        """Return what the process takes in each stage; `base_mb` is without the scan [MB]."""
        scan_mb, prepared_mb = self._images_mb(scan.source.shape), self._images_mb(shape)
        labels_mb = math.prod(scan.source.shape) / _MB
        preparing_mb = preparing_takes_mb(self.planner.manifest.recipe, scan.source, shape)
        kept_mb = base_mb + prepared_mb + scan_mb * scan.held + self._results_mb(scan)
        return {
            "loading the model": self._loading_mb,
            "reading the scan": base_mb + scan_mb + _READING_MB,
            "preparing it": base_mb + scan_mb + prepared_mb + preparing_mb,
            "the network": kept_mb + self.planner.smallest(shape).memory_mb,
            "post-processing": kept_mb + self._components_mb(scan),
            "writing labels": kept_mb + labels_mb + _WRITING_MB,
        }

    def _refusal(self, needs: dict[str, float], scan: Scan, shape: Shape) -> MemoryLimitError:
        stage = max(needs, key=lambda name: needs[name])
        plan = self.planner.smallest(shape)
        how = f" in {plan.what}" if stage == "the network" else ""
        remedy = f"give --max-memory {_size(needs[stage])}"
        for tiles in TILES[TILES.index(self.planner.tiles) + 1 :]:
            other = replace(self.planner, tiles=tiles)
            saved = plan.memory_mb - other.smallest(shape).memory_mb
            less = max({**needs, "the network": needs["the network"] - saved}.values())
            if _size(less) != _size(needs[stage]):
                amount = f"{_size(less)} with " if less > (self.most_mb or 0.0) else ""
                remedy += f", or {amount}--tiles {tiles}, which may change labels"
                break
        most = round((self.most_mb or 0.0) * _MB / 1e6)
        return MemoryLimitError(
            f"{stage} takes {_size(needs[stage])} of memory{how}, and {most}MB are given",
            remedy=remedy,
        )

    def _nothing_free(self, shape: Shape, left_mb: float) -> MemoryLimitError:
        plan = self.planner.smallest(shape)
        looser = self.planner.manifest.network.local and self.planner.tiles != TILES[-1]
        return MemoryLimitError(
            f"the network takes {_size(plan.memory_mb)} of memory in {plan.what}, and "
            f"{max(0.0, left_mb) * _MB / 1e6:.0f}MB are free",
            remedy="close other programs, use a machine with more memory"
            + (", or give --tiles close or any, which may change labels" if looser else ""),
        )

    def _measure(self) -> None:
        """Replace what is counted of the network by what two small runs take."""
        if self._measured:
            return
        self._measured = True
        base_mb = self._resident_mb()
        found = self._probed(base_mb)
        if found is None:
            counted = self.planner.bytes_per_voxel
            self.planner = replace(self.planner, bytes_per_voxel=_SURELY * counted)
            return
        (less, little_mb), (more, much_mb) = found
        self._release()
        each = max(0.0, (much_mb - little_mb) / (more - less))
        # What the runtime keeps of these runs is resident from now on.
        fixed = max(0.0, much_mb - each * more - (self._resident_mb() - base_mb))
        each_bytes, fixed_mb = each * _MB * _INEXACT, fixed * _INEXACT + _INEXACT_MB
        self.planner = replace(self.planner, bytes_per_voxel=each_bytes, fixed_mb=fixed_mb)

    def _probed(self, base_mb: float) -> list[tuple[int, float]] | None:
        """Return voxels and memory of two runs; None where they do not fit or nothing is told."""
        manifest, planner = self.planner.manifest, self.planner
        for sides in _PROBES:
            large, small = (multiples((n, n, n), manifest.network.divisor) for n in sides)
            most = math.prod(large) * planner.bytes_per_voxel / _MB + planner.fixed_mb
            if base_mb + _SURELY * most <= (self.most_mb or 0.0) and small != large:
                break
        else:
            return None
        found = []
        for shape in (small, large):
            give_back()
            reset_peak()
            if (peak_mb() or 0.0) > self._resident_mb() + _INEXACT_MB:
                return None  # this system forgets no peak
            patch = np.ones((1, len(manifest.recipe.modalities), *shape), dtype=np.float32)
            self._run(patch)
            found.append((math.prod(shape), (peak_mb() or 0.0) - base_mb))
            del patch
            self._release()
        return found


def _size(amount_mb: float) -> str:
    """Return an amount that will do, as --max-memory takes it."""
    return f"{math.ceil(_ROOM * amount_mb * _MB / 1e6 / _STEP_MB) * _STEP_MB}MB"
