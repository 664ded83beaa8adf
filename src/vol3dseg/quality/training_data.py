"""The training data of a model in numbers: a section of the manifest."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vol3dseg.quality.appearance import Appearance, Quantiles, rounded
from vol3dseg.quality.guard import FEWEST_TRAINING, Guard, make_guard
from vol3dseg.schema import Amount, Frozen, Positive

Range = tuple[Amount, Amount, Amount]
_FEW = 50  # cases; fewer say little of how much scans differ


class TrainingData(Frozen):
    """What the scans of the training part looked like as read.

    Attributes
    ----------
    cases : int
    axes : mapping from direction of the stored axes ("LPS") to number of cases
    spacing_mm, size_mm : (3,) tuple of (lowest, median, highest)
        Of voxels and of the field of view, along right, front, up [mm].
    quantiles : mapping from modality to (7,) tuple of float
        Median over the cases of the intensities at percentiles 1, 5, 25, 50, 75, 95, 99 of what is
        not background.
    volumes_ml : mapping from foreground class to (lowest, median, highest)
        [ml]
    guard : Guard or None
        None where cases are too few.
    notes : tuple of str
        What the guard cannot detect, in words.
    seen : mapping from part to tuple of str
        `Appearance.digest` of the scans in each part of the split, in order of the digits.
    """

    cases: Positive
    axes: dict[str, Positive]
    spacing_mm: tuple[Range, Range, Range]
    size_mm: tuple[Range, Range, Range]
    quantiles: dict[str, Quantiles]
    volumes_ml: dict[str, Range]
    guard: Guard | None
    notes: tuple[str, ...]
    seen: dict[str, tuple[str, ...]] = {}

    def part_of(self, appearance: Appearance) -> str:
        """Return which part of the split a scan was in; empty where it was in none."""
        digest = appearance.digest
        return next((part for part, digests in self.seen.items() if digest in digests), "")

    def with_seen(self, parts: Mapping[str, Iterable[Appearance]]) -> "TrainingData":
        """Return the same with the scans of each part of the split, to be known again."""
        seen = {part: tuple(sorted({a.digest for a in scans})) for part, scans in parts.items()}
        return self.model_copy(update={"seen": seen})

    def warnings(self, appearance: Appearance) -> tuple[str, ...]:
        """Say in words how a scan is unlike these; nothing where cases were too few."""
        return () if self.guard is None else self.guard.warnings(appearance)


def describe_data(
    training: Sequence[Appearance],
    validation: Sequence[Appearance],
    volumes_ml: Mapping[str, Sequence[float]],
) -> TrainingData:
    """Summarise the training part, and set the guard's limits by the validation part.

    There is at least one training case; of each modality, those count that have it. `volumes_ml`
    are those of each foreground class in the training cases.
    """
    names = tuple(dict.fromkeys(name for each in training for name in each.modalities))
    quantiles = {
        name: [a.modalities[name].quantiles for a in training if name in a.modalities]
        for name in names
    }
    guard = make_guard(training, validation)
    return TrainingData(
        cases=len(training),
        axes=dict(Counter(each.axes for each in training)),
        spacing_mm=_ranges([each.spacing_mm for each in training]),
        size_mm=_ranges([each.size_mm for each in training]),
        quantiles={n: tuple(np.median(each, axis=0).tolist()) for n, each in quantiles.items()},
        volumes_ml={name: _range(volumes) for name, volumes in volumes_ml.items()},
        guard=guard,
        notes=tuple(_notes(names, len(training), guard)),
    )


def _notes(modalities: Sequence[str], cases: int, guard: Guard | None) -> list[str]:
    if guard is None:
        return [
            f"scans are not compared with the training data: {cases} training cases (fewer than "
            f"{FEWEST_TRAINING}) are too few to tell what is typical"
        ]
    found = []
    if len(modalities) == 1:
        (only,) = modalities
        found.append(f"swapped images cannot be detected: the model has one modality, {only}")
    if cases < _FEW:
        found.append(f"what is typical was learnt from only {cases} training cases")
    return found


def _ranges(lengths: Sequence[tuple[float, float, float]]) -> tuple[Range, Range, Range]:
    right, front, up = map(_range, zip(*lengths, strict=True))
    return right, front, up


def _range(values: Sequence[float]) -> Range:
    low, median, high = np.percentile(values, (0, 50, 100)).tolist()
    return rounded(low), rounded(median), rounded(high)
