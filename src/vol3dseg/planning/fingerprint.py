"""The fingerprint of a data set: what of its scans decides how to learn from them."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case, modalities_of
from vol3dseg.datasets.over_cases import over_cases
from vol3dseg.errors import DatasetError, Vol3dSegError, some_of
from vol3dseg.planning.case_measures import CaseMeasure, ImageMeasure, measure_case

# Images are read of so many cases, spread evenly; label maps of all.
MOST_IMAGED = 64


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is known of a data set.

    Parameters
    ----------
    cases : tuple of CaseMeasure
        Labelled cases that could be read, in order of their ids.
    modalities : tuple of str
        Those that every labelled case has.
    notes : tuple of str
        What was passed over, in words.
    """

    cases: tuple[CaseMeasure, ...]
    modalities: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def imaged(self) -> list[CaseMeasure]:
        """The cases whose images were read."""
        return [case for case in self.cases if case.images]

    @property
    def spacings_mm(self) -> NDArray[np.float64]:
        """The (case, 3) spacings [mm]."""
        return np.array([case.spacing_mm for case in self.cases])

    @property
    def subjects(self) -> int:
        """How many subjects there are."""
        return len({case.subject for case in self.cases})

    @property
    def values(self) -> list[int]:
        """The values in label maps that mean a class, rising."""
        return sorted({value for case in self.cases for value in case.classes})

    @property
    def foreground(self) -> float:
        """Share of all voxels that have a class."""
        labelled = sum(c.voxels for case in self.cases for c in case.classes.values())
        return labelled / sum(math.prod(case.shape) for case in self.cases)

    @property
    def pieces(self) -> list[int]:
        """Sizes of all connected pieces of all classes, rising [voxels]."""
        found = [p for case in self.cases for c in case.classes.values() for p in c.pieces or ()]
        return sorted(found)

    @property
    def usual_piece(self) -> int:
        """The size of piece that half of the labelled voxels lie in or below [voxels].

        So a few stray voxels do not make the pieces small.
        """
        sizes = np.array(self.pieces)
        within = np.cumsum(sizes)
        return int(sizes[np.searchsorted(within, within[-1] / 2)])

    def images(self, modality: str) -> list[ImageMeasure]:
        """Return what was measured of a modality."""
        return [case.images[modality] for case in self.imaged]

    def shapes(self, spacing_mm: Sequence[float] | None, cropped: bool) -> NDArray[np.float64]:
        """Return the (case, 3) sides on a grid of this spacing [voxels]; None keeps each its own.

        Cropped ones are those of the cases whose images were read.
        """
        if cropped:
            chosen = [(case.box or case.shape, case.spacing_mm) for case in self.imaged]
        else:
            chosen = [(case.shape, case.spacing_mm) for case in self.cases]
        sides = np.array([shape for shape, _ in chosen], dtype=np.float64)
        if spacing_mm is None:
            return sides
        own_mm = np.array([own for _, own in chosen])
        sides = np.ceil(sides * own_mm / np.array(spacing_mm) - 1e-3)
        return np.asarray(np.maximum(sides, 1))


def take_fingerprint(
    cases: Sequence[Case],
    executor: Executor | None = None,
    progress: Callable[[int], None] = lambda total: None,
) -> Fingerprint:
    """Measure the labelled cases; `progress` is called after each with how many there are.

    Raises DatasetError where no case has a label map, none can be read, or no modality is in all.
    """
    labelled = [case for case in cases if case.label is not None]
    if not labelled:
        likely = [path.name for case in cases for path in case.likely_labels]
        raise DatasetError(
            f"none of {len(cases)} cases has a label map"
            + (f"; {some_of(likely)} may be meant" if likely else ""),
            expected="labelled cases to learn from",
            remedy="name label maps as the layout has them, or in the column label of a dataset "
            "table",
        )
    if own := [case.id for case in labelled if any((case.annotated or {}).values())]:
        raise DatasetError(
            f"label maps of {len(own)} cases have values of their own: {some_of(own)}",
            expected="values that mean the same in every case",
            remedy="write the section labels by hand and prepare with that config; the rest of the "
            "plan of one of the data sets may serve",
        )
    modalities = _common(labelled)
    imaged = frozenset(_spread([case.id for case in labelled], MOST_IMAGED))
    function = partial(measure_case, modalities=modalities, imaged=imaged)
    found = []
    for measured in over_cases(function, labelled, executor, _failed):
        found.append(measured)
        progress(len(labelled))
    found.sort(key=lambda case: case.case_id)
    good = tuple(case for case in found if not case.problem)
    if not any(case.images for case in good):
        raise DatasetError(
            f"none of the {len(imaged)} labelled cases that were opened can be read: "
            f"{found[0].problem}",
            remedy="vol3dseg check lists all that is wrong",
        )
    if not any(case.classes for case in good):
        raise DatasetError(
            f"the label maps of all {len(good)} cases hold background only",
            expected="voxels of at least one class",
            remedy="choose another data set, or mend the label maps",
        )
    notes = _notes(cases, labelled, found, modalities)
    return Fingerprint(good, modalities, tuple(notes))


def _common(labelled: Sequence[Case]) -> tuple[str, ...]:
    every = modalities_of(labelled)
    common = tuple(name for name in every if all(name in case.images for case in labelled))
    if not common:
        raise DatasetError(
            f"no modality is in all {len(labelled)} labelled cases; found {some_of(list(every))}",
            expected="at least one that every case has",
            remedy="leave cases out, or name the files in a dataset table",
        )
    return common


def _spread(names: list[str], most: int) -> list[str]:
    """Return so many of some names, spread evenly over their order."""
    if len(names) <= most:
        return names
    ordered = sorted(names)
    return [ordered[n * len(ordered) // most] for n in range(most)]


def _notes(
    cases: Sequence[Case],
    labelled: Sequence[Case],
    found: Sequence[CaseMeasure],
    modalities: Sequence[str],
) -> list[str]:
    said = []
    if len(labelled) > MOST_IMAGED:
        said.append(
            f"images of {MOST_IMAGED} of {len(labelled)} labelled cases were read, spread evenly "
            "over their names; label maps of all"
        )
    if without := [case.id for case in cases if case.label is None]:
        said.append(f"{len(without)} of {len(cases)} cases have no label map: {some_of(without)}")
    left = [name for name in modalities_of(labelled) if name not in modalities]
    said += [
        f"modality {name} is left out: "
        f"{sum(name not in case.images for case in labelled)} of {len(labelled)} cases lack it"
        for name in left
    ]
    said += [f"case {c.case_id} was passed over: {c.problem}" for c in found if c.problem]
    return said


def _failed(case: Case, error: Vol3dSegError) -> CaseMeasure:
    return CaseMeasure(case.id, case.subject, problem=error.recorded)
