"""Scores of predictions against references: of each case, then over all cases."""

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.overlap import (
    DICE,
    METRICS,
    EmptyRule,
    confusion,
    counts_of,
    one_against_rest,
)
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.resampling import reoriented
from vol3dseg.space.volume import one_grid

POOLED = "pooled_"  # before the names of scores of all voxels of all cases at once


@dataclass(frozen=True, slots=True)
class CaseScores:
    """Scores of one case: of foreground classes, then of regions."""

    case_id: str
    structures: Mapping[str, Mapping[str, float]]  # metrics; reference_ml and prediction_ml [ml]
    matrix: NDArray[np.int64]  # (classes, classes), of `confusion`
    labels: LabelSet
    empty: EmptyRule = "undefined"
    notes: tuple[str, ...] = ()  # what was put right, or decided, when the two files were read
    ignored_ml: float = 0.0  # of the reference, in no score [ml]
    reference: str = ""  # SHA-256 of its classes: who is compared must have been judged by the same
    unannotated: tuple[str, ...] = ()  # classes that nobody has looked for: their scores are NaN


@dataclass(frozen=True, slots=True)
class Statistics:
    """A score over the cases that define it; NaN if none does."""

    cases: int  # that define it
    mean: float
    median: float
    std: float  # of a sample (over n - 1); NaN of a single case


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores over all cases: statistics of each metric by class, then by region; pooled scores."""

    cases: int
    foreground: tuple[str, ...]
    statistics: Mapping[str, Mapping[str, Statistics]]
    pooled: Mapping[str, float]
    empty: EmptyRule = "undefined"

    @property
    def names(self) -> tuple[str, ...]:
        """Foreground classes, then regions."""
        return tuple(self.statistics)

    def mean_dice(self, name: str) -> float | None:
        """Return the mean Dice of a class or region over the cases that have it; None if none."""
        return _defined(self.statistics[name][DICE.name].mean)

    @property
    def mean_foreground(self) -> Mapping[str, float]:
        """Each metric's mean over foreground classes of their means over cases; NaN if undefined.

        Each class weighs the same, however many cases define it; regions are left out.
        """
        classes = [self.statistics[name] for name in self.foreground]
        return {m.name: mean_defined([found[m.name].mean for found in classes]) for m in METRICS}

    @property
    def mean_foreground_dice(self) -> float | None:
        """Mean over foreground classes of their mean Dice; None if no case has any."""
        return _defined(self.mean_foreground[DICE.name])


def evaluate_case(
    case_id: str, reference: Segmentation, prediction: Segmentation, empty: EmptyRule = "undefined"
) -> CaseScores:
    """Score one case: each foreground class, and each region as the union of its classes.

    Nothing is said of a class that nobody has looked for in the reference, or of a region with one.
    Both lie on one grid (otherwise GridError) and have the same classes; an EvaluationError says
    that they have not, or that a region bears the name of a class that it is not.
    """
    grids = {"prediction": prediction.geometry, "reference": reference.geometry}
    one_grid(grids, f"case {case_id}", remedy="predict on the scan of the reference")
    require_same_classes(case_id, prediction.labels, reference.labels)
    labels = reference.labels
    matrix = confusion(reference.array, prediction.array, len(labels.classes))
    ml = reference.geometry.voxel_volume_mm3 / 1000
    ignored_ml = (reference.array.size - int(matrix.sum())) * ml
    structures = {}
    unseen = list(labels.indices(reference.unannotated))
    for name, indices in _structures(labels).items():
        counts, known = counts_of(matrix, indices), not {*indices} & {*unseen}
        structures[name] = {m.name: m(counts, empty) if known else nan for m in METRICS} | {
            "reference_ml": (counts.tp + counts.fn) * ml if known else nan,
            "prediction_ml": (counts.tp + counts.fp) * ml,
        }
    matrix[0, unseen] = 0  # background that may well be what it is taken for
    read = {"reference": reference.notes, "prediction": prediction.notes}
    notes = tuple(f"{which}: {note}" for which, of in read.items() for note in of)
    digest = _digest(reference)
    return CaseScores(
        case_id, structures, matrix, labels, empty, notes, ignored_ml, digest, reference.unannotated
    )


def _digest(reference: Segmentation) -> str:
    """Return the SHA-256 of a label map's classes, whatever the order of its axes in the file."""
    grid = reference.geometry
    array = np.ascontiguousarray(reoriented(reference.array, grid, grid.canonical()))
    said = f"{array.shape}{reference.unannotated or ''}"
    return hashlib.sha256(said.encode() + array.tobytes()).hexdigest()


def require_same_classes(case_id: str, prediction: LabelSet, reference: LabelSet) -> None:
    """Raise an EvaluationError where names or order of classes differ."""
    differences = prediction.differences(reference, "order")
    if differences:
        raise EvaluationError(
            f"prediction and reference have different labels: {differences}",
            where=f"case {case_id}",
            remedy="read both with one label set",
        )


def summarise(cases: Sequence[CaseScores]) -> Summary:
    """Put the scores of cases together: at least one, all by the same labels and rules."""
    if not cases:
        raise EvaluationError("there are no cases to score", expected="at least one prediction")
    first = cases[0]
    for case in cases:
        others = case.labels.differences(first.labels, "order", "regions")
        if others or case.empty != first.empty:
            raise EvaluationError(
                f"cases {first.case_id} and {case.case_id} were scored with different labels or "
                "rules for empty masks",
                remedy="score all of them alike",
            )
    found = {
        name: {m.name: describe([case.structures[name][m.name] for case in cases]) for m in METRICS}
        for name in first.structures
    }
    matrix = np.sum([case.matrix for case in cases], axis=0)
    pooled = pooled_scores(matrix, first.labels.names)
    return Summary(len(cases), first.labels.foreground, found, pooled, first.empty)


def pooled_scores(matrix: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    """Return scores of one confusion matrix over all cases, as widely copied code logs them.

    That code pools the voxels of a batch while training and averages over all channels, the
    background with its Dice near 1 included. Such values are not comparable with scores per case,
    so they have names of their own: `pooled_accuracy`; `pooled_<metric>`, the mean over all classes
    that define it; `pooled_dice_<class>` of each foreground class. NaN where a ratio is 0 / 0,
    whatever the rule for empty masks. Two differences remain: that code pools soft probabilities
    and single batches, whereas hard labels of all cases are pooled here.
    """
    counts = one_against_rest(matrix)
    total = int(matrix.sum())
    table = {f"{POOLED}accuracy": int(np.trace(matrix)) / total if total else nan}
    for metric in METRICS:
        table[POOLED + metric.name] = mean_defined([metric(of_class) for of_class in counts])
    for name, of_class in zip(names[1:], counts[1:], strict=True):
        table[POOLED + DICE.column(name)] = DICE(of_class)
    return table


def describe(values: Sequence[float]) -> Statistics:
    """Return the statistics of the values that are not NaN."""
    defined = [v for v in values if not isnan(v)]
    if not defined:
        return Statistics(0, nan, nan, nan)
    deviation = statistics.stdev(defined) if len(defined) > 1 else nan
    mean, median = statistics.fmean(defined), statistics.median(defined)
    return Statistics(len(defined), mean, median, deviation)


def mean_defined(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    return describe(values).mean


def _defined(value: float) -> float | None:
    return None if isnan(value) else value


def _structures(labels: LabelSet) -> dict[str, tuple[int, ...]]:
    """Return the class indices of each foreground class, then of each region."""
    members = {name: labels.indices([name]) for name in labels.foreground}
    for name, classes in labels.regions.items():
        indices = labels.indices(classes)
        # A region may bear the name of its only class, in which case both are the same.
        if members.setdefault(name, indices) != indices:
            raise EvaluationError(
                f"the region {name!r} is the union of {list(classes)}, but is a class by itself "
                "as well",
                where="labels.regions",
                remedy="give the region a name of its own",
            )
    return members
