"""Judge predictions against references: case by case, then all together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.sources import open_label, read_grid
from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.overlap import EmptyRule, Scores, confusion, counts_of, scores_of
from vol3dseg.evaluation.pooled import pooled_table
from vol3dseg.evaluation.spread import Spread, mean_defined, spread_of
from vol3dseg.formats import open_labels
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.volume import one_grid

METRICS = ("dice", "iou", "precision", "sensitivity", "specificity")


@dataclass(frozen=True, slots=True)
class StructureScores:
    """Scores of one class or region in one case, with its volumes [ml]."""

    scores: Scores
    reference_ml: float
    prediction_ml: float


@dataclass(frozen=True, slots=True)
class CaseScores:
    """Scores of one case.

    Parameters
    ----------
    case_id : str
    structures : mapping from class or region to StructureScores
        Foreground classes first, then regions.
    matrix : (classes, classes) array of int64
        Confusion, rows the reference.
    labels : LabelSet
    empty : "undefined" or "one"
        The rule for empty masks that the scores follow.
    notes : tuple of str
        What was put right, or decided, when the two files were read.
    """

    case_id: str
    structures: Mapping[str, StructureScores]
    matrix: NDArray[np.int64]
    labels: LabelSet
    empty: EmptyRule = "undefined"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores over all cases.

    Parameters
    ----------
    cases : int
    names : tuple of str
        Foreground classes, then regions.
    foreground : tuple of str
    spreads : mapping from class or region to mapping from metric to Spread
    pooled : mapping from str to float
        Of `pooled_table`.
    empty : "undefined" or "one"
        The rule for empty masks that the scores follow.
    """

    cases: int
    names: tuple[str, ...]
    foreground: tuple[str, ...]
    spreads: Mapping[str, Mapping[str, Spread]]
    pooled: Mapping[str, float]
    empty: EmptyRule = "undefined"

    def mean_dice(self, name: str) -> float | None:
        """Return the mean Dice of a class or region over the cases that have it; None if none."""
        mean = self.spreads[name]["dice"].mean
        return None if isnan(mean) else mean

    @property
    def mean_foreground(self) -> Mapping[str, float]:
        """Each metric's mean over foreground classes of their means over cases; NaN if undefined.

        Each class weighs the same, however many cases define it; regions are left out.
        """
        return {
            metric: mean_defined([self.spreads[name][metric].mean for name in self.foreground])
            for metric in METRICS
        }

    @property
    def mean_foreground_dice(self) -> float | None:
        """Mean over foreground classes of their mean Dice; None if no case has any."""
        mean = self.mean_foreground["dice"]
        return None if isnan(mean) else mean


def evaluate_case(
    case_id: str, reference: Segmentation, prediction: Segmentation, empty: EmptyRule = "undefined"
) -> CaseScores:
    """Judge one case: each foreground class, and each region as the union of its classes.

    Parameters
    ----------
    case_id : str
    reference, prediction : Segmentation
        On one grid, of the same classes.
    empty : "undefined" or "one"
        What a score is where neither of the two has the class; see `evaluation.overlap`.

    Raises
    ------
    EvaluationError
        The two have different classes, or a region bears the name of a class that it is not.
    GridError
        They lie on different grids.
    """
    grids = {"prediction": prediction.geometry, "reference": reference.geometry}
    one_grid(grids, f"case {case_id}", remedy="predict on the scan of the reference")
    require_same_classes(case_id, prediction.labels, reference.labels)
    labels = reference.labels
    matrix = confusion(reference.array, prediction.array, len(labels.classes))
    ml = reference.geometry.voxel_volume_mm3 / 1000
    structures = {}
    for name, indices in _structures(labels).items():
        counts = counts_of(matrix, indices)
        structures[name] = StructureScores(
            scores_of(counts, empty), (counts.tp + counts.fn) * ml, (counts.tp + counts.fp) * ml
        )
    read = {"reference": reference.notes, "prediction": prediction.notes}
    notes = tuple(f"{which}: {note}" for which, of in read.items() for note in of)
    return CaseScores(case_id, structures, matrix, labels, empty, notes)


def require_same_classes(case_id: str, prediction: LabelSet, reference: LabelSet) -> None:
    """Check that two label maps mean the same by their indices.

    Raises
    ------
    EvaluationError
        The names or the order of classes differ.
    """
    if prediction.differences(reference, "order"):
        raise EvaluationError(
            f"the prediction's classes are {list(prediction.names)}, the reference's "
            f"{list(reference.names)}",
            where=f"case {case_id}",
            remedy="read both with one label set",
        )


def summarise(cases: Sequence[CaseScores]) -> Summary:
    """Put the scores of cases together.

    Raises
    ------
    EvaluationError
        There are no cases, or they were judged by different labels or rules.
    """
    if not cases:
        raise EvaluationError("no cases to judge; expected at least one prediction")
    for case in cases:
        others = case.labels.differences(cases[0].labels, "order", "regions")
        if others or case.empty != cases[0].empty:
            raise EvaluationError(
                f"cases {cases[0].case_id} and {case.case_id} were judged by different labels or "
                "rules for empty masks; judge all of them alike"
            )
    labels, names = cases[0].labels, tuple(cases[0].structures)
    spreads = {
        name: {
            metric: spread_of([asdict(case.structures[name].scores)[metric] for case in cases])
            for metric in METRICS
        }
        for name in names
    }
    matrix = np.sum([case.matrix for case in cases], axis=0)
    pooled = pooled_table(matrix, labels.names)
    return Summary(len(cases), names, labels.foreground, spreads, pooled, cases[0].empty)


def evaluate_pairs(
    pairs: Iterable[tuple[str, Path, Case]], labels: LabelSet, empty: EmptyRule = "undefined"
) -> list[CaseScores]:
    """Read and judge predictions beside the label maps of their cases.

    Parameters
    ----------
    pairs : iterable of (name, prediction, case)
        What the case allows to be repaired is so in the prediction too.
    labels : LabelSet
    empty : "undefined" or "one"
        What a score is where neither of the two has the class; see `evaluation.overlap`.

    Raises
    ------
    DatasetError
        A case has no label map.
    EvaluationError
        The two label maps of a case lie on different grids.
    FileFormatError, LabelError
        A file cannot be read, or holds a value or a segment that is not in the label map.
    GridError
        A DICOM-SEG does not lie on the grid of the other label map; or both are such, and the case
        has no image to say on which.
    """
    return [
        evaluate_case(name, *_read_pair(prediction, case, labels), empty)
        for name, prediction, case in pairs
    ]


def _read_pair(prediction: Path, case: Case, labels: LabelSet) -> tuple[Segmentation, Segmentation]:
    """Return the reference and the prediction; a DICOM-SEG comes onto the grid of the other."""
    reference, judged = open_label(case), open_labels(prediction, case.repair)
    grid = reference.geometry() or judged.geometry() or (read_grid(case) if case.images else None)
    return reference.segmentation(labels, grid), judged.segmentation(labels, grid)


def match_cases(
    predictions: Mapping[str, Path], references: Mapping[str, Case], allow_missing: bool = True
) -> list[tuple[str, Path, Case]]:
    """Pair predictions with references by case.

    Parameters
    ----------
    predictions : mapping from case to Path
    references : mapping from case to Case
    allow_missing : bool
        Pass over references without a prediction: it is usual to predict a part of a data set.

    Returns
    -------
    list of (name, prediction, case)

    Raises
    ------
    EvaluationError
        A prediction has no reference, or a reference no prediction that must have one; all such
        are named.
    """
    missing = [name for name in references if name not in predictions]
    if missing and not allow_missing:
        raise EvaluationError(
            f"references without a prediction: {', '.join(missing)}; predict them as well, or "
            "leave them out of the references"
        )
    unmatched = [name for name in predictions if name not in references]
    if unmatched:
        raise EvaluationError(
            f"predictions without a reference: {', '.join(unmatched)}; references are "
            f"{', '.join(list(references)[:5]) or 'none'}{', ...' * (len(references) > 5)}; "
            "name both alike, or remove what is no prediction"
        )
    return [(name, path, references[name]) for name, path in predictions.items()]


def _structures(labels: LabelSet) -> dict[str, tuple[int, ...]]:
    """Return the class indices of each foreground class, then of each region."""
    members: dict[str, tuple[int, ...]] = {
        name: (labels.index(name),) for name in labels.foreground
    }
    for name, classes in labels.regions.items():
        indices = labels.indices(classes)
        # A region may bear the name of its only class, in which case both are the same.
        if members.setdefault(name, indices) != indices:
            raise EvaluationError(
                f"labels.regions: {name!r} is the union of {list(classes)}, but is a class by "
                "itself as well; give the region a name of its own"
            )
    return members
