"""Pairs of label maps, scored one after the other as `evaluate` scores each."""

from collections.abc import Iterable
from dataclasses import replace

from vol3dseg.evaluation.judging import OVERLAP, Judging
from vol3dseg.evaluation.scoring import CaseScores
from vol3dseg.reporting.matching import Pair
from vol3dseg.reporting.score_predictions import _scored
from vol3dseg.space.labels import LabelSet


def evaluate_pairs(
    pairs: Iterable[Pair],
    labels: LabelSet,
    judging: Judging = OVERLAP,
    predicted: LabelSet | None = None,
) -> list[CaseScores]:
    """Read and score predictions, repaired as their cases may be, in their order.

    `labels` say what values mean in references, `predicted` in predictions; None: what others' may.
    """
    maps = labels, predicted or labels.of_predictions(ours=False)
    return [
        _scored({name: path}, maps, judging, replace(case, id=name)) for name, path, case in pairs
    ]
