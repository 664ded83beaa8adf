"""From a scan to its segmentation; training validates with the predictor that is deployed."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from vol3dseg.errors import in_memory
from vol3dseg.inference.allowance import Allowance, Scan
from vol3dseg.inference.deciding import Decision
from vol3dseg.inference.prediction import Origin, Prediction, background
from vol3dseg.inference.restore import Restorer
from vol3dseg.inference.runtimes.session import Backend, finite
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.tiling.run_tiles import Progress, mirrored, run_bands
from vol3dseg.inference.tiling.tile_plan import Plan, by, multiples
from vol3dseg.inference.uncertainty import SURE, Uncertainty
from vol3dseg.inference.where_to_look import looked, region_of, smallest_region
from vol3dseg.machine import resident_mb, usable_cores
from vol3dseg.model.adopted_notes import axes_warnings, unproven
from vol3dseg.model.components import postprocess
from vol3dseg.model.head import Head
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.outputs import at_home, bring
from vol3dseg.model.postprocessing import Change
from vol3dseg.model.validation_scores import missing_in_words
from vol3dseg.preprocessing.prepare import Prepared, keeps_type, maps_home, prepare, whole_grid
from vol3dseg.quality.appearance import Appearance
from vol3dseg.recipe import own_recipe
from vol3dseg.space.box import Shape
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume

_PROBE = 64  # voxels a side of what is run to learn the speed


class Predictor:
    """A network with everything that must be done before and after it.

    Parameters
    ----------
    backend : Backend
        Patches in, probabilities or logits out: a `Session`, a Keras model, a lambda in tests.
    manifest : Manifest
        Recipe, labels and tiling.
    planner : Planner or None
        None blends overlapping training patches, without a limit of memory.
    max_memory_mb : float or None
        What the process may take in all [MB]; None takes most of what is free.
    threads : int
        For restoring probabilities to the grid of the scan; 0 takes one for each core that this
        process may use.
    release : callable
        Gives back what the runtime keeps between runs; called after each where memory is limited.
    measurable : bool
        Whether the kernel sees what the network takes, as it does not on a GPU.
    head : Head or None
        What makes outputs of features, if those are what the backend gives.
    uncertainty : Uncertainty
        What is measured of each prediction.

    Attributes
    ----------
    locator : Predictor or None
        The first network of a pair, which finds where to look.
    origin : Origin
        Empty unless it is made by `load_predictor`.
    again : partial or None
        The call of `load_predictor` that made it.
    backend, manifest, head, uncertainty
        As given.
    """

    def __init__(
        self,
        backend: Backend,
        manifest: Manifest,
        planner: Planner | None = None,
        max_memory_mb: float | None = None,
        threads: int = 0,
        release: Callable[[], None] = lambda: None,
        measurable: bool = True,
        head: Head | None = None,
        uncertainty: Uncertainty = SURE,
    ) -> None:
        self.origin = Origin()
        self.again: partial[Predictor] | None = None
        self.locator: Predictor | None = None
        self.backend = backend
        self.manifest = manifest
        self.head = head
        self.uncertainty = uncertainty
        self._threads = threads or usable_cores()
        self._seconds_per_voxel: float | None = None
        run = mirrored(backend, manifest.tiling.mirror)
        of = run, max_memory_mb, self._threads, release, measurable
        self._allowance = Allowance(planner, *of) if planner else None

    @property
    def max_memory_mb(self) -> float | None:
        """What the process may take in all [MB]; None where there is no limit."""
        return self._allowance.most_mb if self._allowance else None

    def require(self, scan: Scan, shape: Shape | None = None) -> None:
        """Refuse a scan that would not fit, before it is read, or as its working shape is known.

        Raises
        ------
        MemoryLimitError
            It says what would do.
        """
        if self._allowance:
            self._allowance.require(scan, shape)

    def __call__(
        self,
        volume: Volume,
        keep_probabilities: bool = False,
        progress: Progress = lambda done, total: None,
    ) -> Prediction:
        """Segment a scan.

        Parameters
        ----------
        volume : Volume
            As read from its files; it may have more modalities than the model needs, in any order,
            and lack those of `manifest.optional`.
        keep_probabilities : bool
            They take four bytes for each channel and voxel of the scan.
        progress : callable
            Called with the tiles done and their number.

        Raises
        ------
        DatasetError
            A modality is missing that the model cannot do without, or all are.
        MemoryLimitError
            The scan does not fit into the memory that is given.
        """
        started = time.perf_counter()
        prepared = self.prepare(volume, Scan(volume.geometry, keep_probabilities, held=True))
        taken = round(time.perf_counter() - started, 4)
        found = self.result(prepared, keep_probabilities, progress)
        seconds = {"prepare": taken, **found.seconds}
        return replace(found, seconds=seconds, warnings=self.warnings(prepared.appearance))

    def prepare(self, volume: Volume, scan: Scan) -> Prepared:
        """Bring a scan to what the network sees; of a pair, what the first network finds.

        `scan` says what is asked for, to refuse what will not fit. Raises the errors of a call.
        """
        manifest, afford = self.manifest, partial(self.require, scan)
        prepared = partial(prepare, volume, manifest.recipe, afford, manifest.optional)
        if self.locator is None or manifest.locating is None:
            return prepared()
        grid = whole_grid(own_recipe(manifest.recipe, "a pair"), volume.geometry)
        box = region_of(self.locator, manifest.locating, volume, grid)
        if box is None and manifest.locating.nothing == "empty":
            box = smallest_region(grid)
            return replace(prepared(within=box), nothing_found=True)
        return replace(prepared(within=box), nothing_found=box is None)

    def result(
        self,
        prepared: Prepared,
        keep_probabilities: bool = False,
        progress: Progress = lambda done, total: None,
    ) -> Prediction:
        """Segment what `prepare` gave; parameters and errors as of `segment`."""
        locating = self.manifest.locating
        if prepared.nothing_found and locating and locating.nothing == "empty":
            plan, kept = self.plan(prepared.volume.geometry, prepared.source), keep_probabilities
            return background(prepared.source, self.manifest, plan, kept, self.uncertainty)
        return self.segment(prepared.volume, prepared.source, keep_probabilities, progress)

    def segment(
        self,
        prepared: Volume,
        source: Geometry,
        keep_probabilities: bool = False,
        progress: Progress = lambda done, total: None,
    ) -> Prediction:
        """Segment a scan that is prepared already; it is not compared with the training data.

        The scan as read is not needed any more: let go of it first, if memory is short.

        Parameters
        ----------
        prepared : Volume
            What the network sees: `Prepared.volume`.
        source : Geometry
            The grid of the scan, which labels and probabilities are restored to.
        keep_probabilities, progress
            As in a call.

        Raises
        ------
        MemoryLimitError
            The scan does not fit into the memory that is given.
        """
        working, manifest = prepared.geometry, self.manifest
        plan, before = self.plan(working, source, keep_probabilities), resident_mb()
        scan = Scan(source, keep_probabilities)
        restorer = Restorer(
            working,
            source,
            Decision(at_home(manifest.outputs), manifest.labels, self.uncertainty),
            keep_probabilities,
            self._threads,
            plan.row_axes,
            maps_home(manifest.recipe, working, source),
            manifest.tiling.sums == "float16" and keeps_type(manifest.recipe),
        )
        started, restore = time.perf_counter(), 0.0
        planned_mb = None
        try:
            for rows in run_bands(
                prepared.array, self.backend, manifest, plan,
                restorer.begin, progress, self._threads, self.head,
            ):  # fmt: skip
                finished = time.perf_counter()
                restorer.add(bring(manifest.outputs, finite(rows), 1 + self.uncertainty.members))
                restore += time.perf_counter() - finished
                del rows  # rather than hold them beside the next
        finally:
            if self._allowance:
                planned_mb = self._allowance.end(plan, scan, before)
        infer = time.perf_counter() - started - restore
        self._seconds_per_voxel = infer / plan.computed
        segmentation = Segmentation(restorer.labels, source, manifest.labels)
        seconds = {"infer": round(infer, 4), "restore": round(restore, 4)}
        changes: tuple[Change, ...] = ()
        if manifest.postprocessing:
            started = time.perf_counter()
            with in_memory(f"components of {by(source.shape)} voxels"):
                changes = postprocess(segmentation, manifest.postprocessing)
            seconds["postprocess"] = round(time.perf_counter() - started, 4)
        facts = restorer.probabilities, plan, planned_mb, seconds
        return Prediction(segmentation, *facts, (), changes, restorer.uncertainty)

    def notes_on(self, prepared: Prepared) -> tuple[str, ...]:
        """Say what the first network of a pair did not find, and where the second did not look."""
        locating, measured = self.manifest.locating, self.uncertainty.asked
        return looked(locating.nothing, prepared.nothing_found, measured) if locating else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What `warnings` cannot see, and what nobody has proven of the model."""
        known = self.manifest.training_data
        untold = self.uncertainty.untold(len(self.manifest.members))
        return (() if known is None else known.notes) + unproven(self.manifest) + untold

    def warnings(self, appearance: Appearance) -> tuple[str, ...]:
        """Return in which ways a scan differs from the training data, and what it lacks."""
        manifest, known = self.manifest, self.manifest.training_data
        lacking = manifest.lacking(appearance.modalities)
        missing = missing_in_words(lacking, manifest.without)
        turned = axes_warnings(manifest, appearance.axes)
        unlike = () if known is None else known.warnings(appearance)
        return (*filter(None, [missing]), *turned, *unlike)

    def part_of(self, appearance: Appearance) -> str:
        """Return in which part of the split of its training a scan was; empty where in none."""
        known = self.manifest.training_data
        return "" if known is None else known.part_of(appearance)

    def plan(self, working: Geometry, source: Geometry, keep_probabilities: bool = False) -> Plan:
        """Return how a scan will go through the network.

        Parameters
        ----------
        working, source : Geometry
            Grid that the network sees, and that of the scan.
        keep_probabilities : bool

        Raises
        ------
        MemoryLimitError
            Nothing fits into the memory that is given.
        """
        if self._allowance is None:
            return Planner(self.manifest, 0, uncertainty=self.uncertainty).blended(working.shape)
        return self._allowance.plan(working.shape, Scan(source, keep_probabilities))

    def expected_seconds(self, plan: Plan) -> float:
        """Return how long the network will take, from the last scan or a small run of it [s]."""
        if self._seconds_per_voxel is None:
            i, j, k = (min(_PROBE, n) for n in plan.size)
            probe = multiples((i, j, k), self.manifest.network.divisor)
            patch = np.zeros((1, len(self.manifest.recipe.modalities), *probe), "f4")
            run = mirrored(self.backend, self.manifest.tiling.mirror)
            run(patch)  # the first run makes code for this size
            started = time.perf_counter()
            run(patch)
            self._seconds_per_voxel = (time.perf_counter() - started) / math.prod(probe)
        return self._seconds_per_voxel * plan.computed
