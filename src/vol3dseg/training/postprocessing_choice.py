"""Which post-processing a model gets, chosen by its held-out cases.

A step is taken if, over the held-out cases, it raises the mean Dice of its class or region, the
lower end of the 95 % interval of that rise lies above 0, it changes the Dice of five subjects or
more, and the mean Dice of no other class or region falls. Of such steps the one with the largest
rise is taken; then all is looked at anew with that step done, until no other is left. Tried are,
for each class and region: keeping the largest component; removing components below one of a few
volumes, those that hold certain shares of its false components, in which the reference has nothing
of it; filling holes. What is removed becomes background or, of a structure inside a region, a class
of that region.

Where neither map has a structure its Dice counts as 1 here: so a false find that goes counts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.component_moves import Kind, Matrix, Moves, moves_of
from vol3dseg.evaluation.intervals import mean_interval
from vol3dseg.evaluation.overlap import DICE, confusion, counts_of
from vol3dseg.model.components import crop_to, postprocess
from vol3dseg.model.postprocessing import (
    FillHoles,
    KeepLargest,
    RemoveSmall,
    Step,
    Steps,
    members_of,
)
from vol3dseg.schema import Count, Frozen, Real, Share
from vol3dseg.space.box import Box
from vol3dseg.space.labels import LabelSet, Segmentation

# Of the false components of a structure, that a candidate volume is above.
_SHARES = (0.5, 0.75, 0.9, 0.95, 1.0)
_ABOVE = 1.001  # times the volume of the largest of them
_FEWEST = 5  # subjects; an interval over fewer is no evidence
_DIGITS = 9  # Dice of means that differ by less are equal

Judged = tuple[str, Segmentation, Segmentation]  # case, reference and prediction, on one grid
Dice = NDArray[np.float64]  # (cases, structures)


class Gain(Frozen):
    """Why a step was taken: the Dice of its class or region with it, over the held-out cases.

    Attributes
    ----------
    step : KeepLargest, RemoveSmall or FillHoles
    cases : int
        In which it changes the Dice.
    before, after : float
        Mean Dice.
    rise : float
        Of the mean.
    low, high : float
        Ends of its 95 % interval.
    """

    step: Step
    cases: Count
    before: Share
    after: Share
    rise: Real
    low: Real
    high: Real

    def __str__(self) -> str:
        return (
            f"{self.step}: mean Dice {self.before:.4f} to {self.after:.4f}, "
            f"+{self.rise:.4f} [{self.low:+.4f}, {self.high:+.4f}], {self.cases} cases differ"
        )


class Choice(Frozen):
    """`postprocessing.json`: the steps that were chosen, and what they do to the held-out cases.

    Attributes
    ----------
    cases : int
        That the choice was made on.
    gains : tuple of Gain
        In the order of the steps.
    before, after : mapping from class or region to float
        Mean Dice without and with all steps; 1 in a case where neither map has it.
    """

    format: Literal["vol3dseg.postprocessing"] = "vol3dseg.postprocessing"
    version: Literal[1] = 1
    cases: Count
    gains: tuple[Gain, ...]
    before: dict[str, Share]
    after: dict[str, Share]

    @property
    def steps(self) -> Steps:
        """For a manifest."""
        return tuple(gain.step for gain in self.gains)


@dataclass(frozen=True, slots=True)
class _Case:
    """What is kept of a case: its confusion matrix, and what each structure could lose or gain."""

    subject: str
    matrix: Matrix
    voxel_ml: float
    moves: Mapping[tuple[str, Kind], Moves]


def choose_postprocessing(
    cases: Iterable[Judged],
    labels: LabelSet,
    subjects: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Choice:
    """Return the steps that held-out cases speak for.

    `cases` is gone through anew for each step that is found, one case at a time, and once more:
    a list, or what reads them from files. `subjects` says whose each case is; None makes each case
    a subject of its own.
    """
    names = list(dict.fromkeys((*labels.foreground, *labels.regions)))
    gains: list[Gain] = []
    found = _measured(cases, labels, names, (), subjects)
    if not found:
        raise EvaluationError("there are no held-out cases", expected="at least one")
    before = dice = _dice([case.matrix for case in found], labels, names)
    while gain := _best(found, dice, labels, names, [gain.step for gain in gains]):
        gains.append(gain)
        progress(f"post-processing: {gain}")
        found = _measured(cases, labels, names, [gain.step for gain in gains], subjects)
        dice = _dice([case.matrix for case in found], labels, names)
    if not gains:
        progress("post-processing: none, since nothing tried raises Dice beyond doubt")
    first, last = _means(before, names), _means(dice, names)
    return Choice(cases=len(found), gains=tuple(gains), before=first, after=last)


def _measured(
    cases: Iterable[Judged],
    labels: LabelSet,
    names: Sequence[str],
    steps: Sequence[Step],
    subjects: Mapping[str, str] | None,
) -> list[_Case]:
    """Go through all cases, with these steps done."""
    kinds: tuple[Kind, ...] = ("components", "holes")
    every = tuple(range(1, len(labels.classes)))
    found = []
    for case_id, reference, prediction in cases:
        array, grid = prediction.array.copy(), prediction.geometry
        postprocess(Segmentation(array, grid, labels), steps)
        around = crop_to(array, every)
        box = (around[0] if around else Box((0, 0, 0), (0, 0, 0))).slices
        unseen = labels.indices(reference.unannotated)
        nothing = np.zeros_like(array[box])  # nobody knows what is right of these
        moves = {
            (name, kind): moves_of(
                kind,
                reference.array[box],
                nothing if {*members} & {*unseen} else array[box],
                members,
            )
            for name, members in _movable(names, labels).items()
            for kind in kinds
        }
        matrix = confusion(reference.array, array, len(labels.classes))
        matrix[0, unseen] = 0  # which may be right
        subject = case_id if subjects is None else subjects[case_id]
        found.append(_Case(subject, matrix, grid.voxel_volume_mm3 / 1000, moves))
    return found


def _best(
    cases: Sequence[_Case],
    dice: Dice,
    labels: LabelSet,
    names: Sequence[str],
    taken: Sequence[Step],
) -> Gain | None:
    """Return the step with the largest rise beyond doubt; None where there is none."""
    done = {(step.kind, step.of) for step in taken}
    best: Gain | None = None
    for step in _candidates(cases, labels, names):
        if (step.kind, step.of) in done:
            continue
        after = _with(step, cases, dice, labels, names)
        own = names.index(step.of)
        means = (after - dice).mean(axis=0).round(_DIGITS)
        if means[own] <= (best.rise if best else 0) or (means < 0).any():
            continue
        rise = after[:, own] - dice[:, own]
        subjects = [case.subject for case in cases]
        if len({subjects[n] for n in np.flatnonzero(rise)}) < _FEWEST:
            continue
        low, high = mean_interval(rise, subjects)
        if low > 0:
            best = Gain(
                step=step,
                cases=int(np.count_nonzero(rise)),
                before=float(dice[:, own].mean()),
                after=float(after[:, own].mean()),
                rise=float(means[own]),
                low=low,
                high=high,
            )
    return best


def _candidates(cases: Sequence[_Case], labels: LabelSet, names: Sequence[str]) -> Iterator[Step]:
    """Give all steps that are tried, the plainest first: of equals the first is taken."""
    for name, members in _movable(names, labels).items():
        inside = [labels.names[index] for index in members]
        removed = [labels.names[0], *_around(members, labels)]
        yield from (KeepLargest(of=name, becomes=other) for other in removed)
        for volume_ml in _volumes_ml(cases, name, members):
            for other in removed:
                yield RemoveSmall(of=name, volume_ml=volume_ml, becomes=other)
        yield from (FillHoles(of=name, becomes=other) for other in inside)


def _movable(names: Iterable[str], labels: LabelSet) -> dict[str, tuple[int, ...]]:
    """Return the class indices of each structure, unless the background is part of it."""
    members = {name: members_of(name, labels) for name in names}
    return {name: of for name, of in members.items() if 0 not in of}


def _around(members: tuple[int, ...], labels: LabelSet) -> list[str]:
    """Return the other classes of the smallest region that a structure lies in."""
    regions = (set(labels.indices(of)) for of in labels.regions.values())
    larger = [region for region in regions if region > set(members)]
    others = min(larger, key=len, default=set(members)) - set(members)
    return [labels.names[index] for index in sorted(others)]


def _volumes_ml(cases: Sequence[_Case], name: str, members: tuple[int, ...]) -> list[float]:
    """Return volumes that certain shares of the false components of a structure are below [ml]."""
    false = [case.moves[name, "components"].false_sizes(members) * case.voxel_ml for case in cases]
    volumes = np.concatenate(false)
    if not volumes.size:
        return []
    ends = np.quantile(volumes, _SHARES, method="inverted_cdf") * _ABOVE
    return [float(f"{end:.4g}") for end in dict.fromkeys(ends.tolist())]


def _with(
    step: Step, cases: Sequence[_Case], dice: Dice, labels: LabelSet, names: Sequence[str]
) -> Dice:
    """Return the Dice of all cases and structures after a step."""
    kind: Kind = "holes" if isinstance(step, FillHoles) else "components"
    after, becomes = dice.copy(), labels.index(step.becomes)
    for number, case in enumerate(cases):
        moves = case.moves[step.of, kind]
        chosen = moves.chosen_by(step, case.voxel_ml)
        if chosen.any():
            moved = moves.applied(case.matrix, chosen, becomes)
            after[number] = _dice([moved], labels, names)
    return after


def _dice(matrices: Sequence[Matrix], labels: LabelSet, names: Sequence[str]) -> Dice:
    members = [members_of(name, labels) for name in names]
    rows = [[DICE(counts_of(matrix, of), both_empty=1.0) for of in members] for matrix in matrices]
    return np.array(rows)


def _means(dice: Dice, names: Sequence[str]) -> dict[str, float]:
    return dict(zip(names, dice.mean(axis=0).tolist(), strict=True))
