"""Scores of predictions against references: of each case, then over all cases."""

import hashlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.calibration import Calibration
from vol3dseg.evaluation.empty_masks import EmptyRule
from vol3dseg.evaluation.intervals import mean_intervals
from vol3dseg.evaluation.judging import OVERLAP, Judging
from vol3dseg.evaluation.lesions import Lesion
from vol3dseg.evaluation.overlap import DICE, METRICS, confusion, counts_of, one_against_rest
from vol3dseg.evaluation.structure_scores import SCORES, Shapes, volumes
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.resampling import reoriented
from vol3dseg.space.volume import one_grid

POOLED = "pooled_"  # before the names of scores of all voxels of all cases at once


@dataclass(frozen=True, slots=True)
class CaseScores:
    """Scores of one case: of foreground classes, then of regions."""

    case_id: str
    structures: Mapping[str, Mapping[str, float]]  # names as in `structure_scores.SCORES`
    matrix: NDArray[np.int64]  # (classes, classes), of `confusion`
    labels: LabelSet
    judging: Judging = OVERLAP
    notes: tuple[str, ...] = ()  # what was put right, or decided, when the two files were read
    ignored_ml: float = 0.0  # of the reference, in no score [ml]
    reference: str = ""  # SHA-256 of its classes: who is compared must have been judged by the same
    unannotated: tuple[str, ...] = ()  # classes that nobody has looked for: their scores are NaN
    subject: str = ""  # whose case it is; "": somebody's who has no other
    lesions: Mapping[str, tuple[Lesion, ...]] = field(default_factory=dict)  # judged, by structure
    calibration: Calibration | None = None  # where predictions say how sure they are

    @property
    def empty(self) -> EmptyRule:
        """The rule for empty masks."""
        return self.judging.empty


@dataclass(frozen=True, slots=True)
class Statistics:
    """A score over the cases that define it; NaN if none does."""

    cases: int  # that define it
    mean: float
    median: float
    std: float  # of a sample (over n - 1); NaN of a single case
    low: float = nan  # of the 95 % interval of the mean over subjects; NaN of a single one
    high: float = nan


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores over all cases: statistics of each metric by class, then by region; pooled scores."""

    cases: int
    foreground: tuple[str, ...]
    statistics: Mapping[str, Mapping[str, Statistics]]
    pooled: Mapping[str, float]
    judging: Judging = OVERLAP

    @property
    def empty(self) -> EmptyRule:
        """The rule for empty masks."""
        return self.judging.empty

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
        return {
            score.name: mean_defined([found[score.name].mean for found in classes])
            for score in SCORES
            if score.better and score.name in classes[0]
        }

    @property
    def mean_foreground_dice(self) -> float | None:
        """Mean over foreground classes of their mean Dice; None if no case has any."""
        return _defined(self.mean_foreground[DICE.name])


def evaluate_case(
    case_id: str,
    reference: Segmentation,
    prediction: Segmentation,
    judging: Judging = OVERLAP,
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
    structures, of_lesions = {}, {}
    shapes = None
    if judging.surface or judging.lesions:
        shapes = Shapes(reference.array, prediction.array, reference.geometry)
    unseen = list(labels.indices(reference.unannotated))
    for name, indices in structures_of(labels).items():
        counts, known = counts_of(matrix, indices), not {*indices} & {*unseen}
        scores = {m.name: m(counts, judging.rule.neither(m.name)) for m in METRICS}
        if shapes is not None:
            of_shape, parts = shapes.scores(name, indices, judging)
            scores |= of_shape
            if parts is not None and known:
                of_lesions[name] = parts.judged
        scores |= volumes((counts.tp + counts.fn) * ml, (counts.tp + counts.fp) * ml)
        if not known:
            scores = dict.fromkeys(scores, nan) | {"prediction_ml": scores["prediction_ml"]}
        structures[name] = scores
    matrix[0, unseen] = 0  # background that may well be what it is taken for
    read = {"reference": reference.notes, "prediction": prediction.notes}
    notes = tuple(f"{which}: {note}" for which, of in read.items() for note in of)
    return CaseScores(
        case_id,
        structures,
        matrix,
        labels,
        judging,
        notes,
        ignored_ml,
        _digest(reference),
        reference.unannotated,
        lesions=of_lesions,
    )


def _digest(reference: Segmentation) -> str:
    """Return the SHA-256 of a label map's classes, whatever the order of its axes in the file."""
    grid = reference.geometry
    array = np.ascontiguousarray(reoriented(reference.array, grid, grid.canonical()))
    digest = hashlib.sha256(f"{array.shape}{reference.unannotated or ''}".encode())
    digest.update(array.data)
    return digest.hexdigest()


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
        if others or case.judging != first.judging:
            raise EvaluationError(
                f"cases {first.case_id} and {case.case_id} were scored with different labels or "
                "rules",
                remedy="score all of them alike",
            )
    columns = [(name, score) for name, scores in first.structures.items() for score in scores]
    table = np.array([[case.structures[name][score] for name, score in columns] for case in cases])
    ends = mean_intervals(table, [case.subject or case.case_id for case in cases])
    found: dict[str, dict[str, Statistics]] = {name: {} for name in first.structures}
    for (name, score), values, (low, high) in zip(columns, table.T, ends, strict=True):
        found[name][score] = replace(describe(values), low=low, high=high)
    matrix = np.sum([case.matrix for case in cases], axis=0)
    pooled = pooled_scores(matrix, first.labels.names)
    return Summary(len(cases), first.labels.foreground, found, pooled, first.judging)


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


def describe(values: Iterable[float]) -> Statistics:
    """Return the statistics of the values that are not NaN."""
    defined = [float(v) for v in values if not isnan(v)]
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


def structures_of(labels: LabelSet) -> dict[str, tuple[int, ...]]:
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
