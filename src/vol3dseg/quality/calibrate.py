"""From when on a scan is unlike the training scans: limits that one usual scan in twenty passes.

All checks of a scan together shall raise a false alarm in at most 5 % of scans like those that the
model was trained on. Each check has a score; its own scale is the 95th percentile over the
calibration cases, or a floor below which nothing is worth a word. All scales are then raised by one
factor until no more than 5 % of these cases have any check above. Percentiles carry the margin of
split conformal prediction for finite samples: of n scores the ceil(0.95 (n + 1))-th smallest, which
a further one passes with a probability of at most 5 %. (Vovk, Gammerman, Shafer, "Algorithmic
Learning in a Random World", 2005.)
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from vol3dseg.quality.appearance import AXES, Appearance
from vol3dseg.quality.expected import Check, Expected
from vol3dseg.quality.guard import Guard, Number

FALSE_ALARMS = 0.05
FEWEST_TRAINING = 10  # so that four fifths of them are eight, which say what is usual
# Fewest cases of which one can be left above: ceil(0.95 (n + 1)) <= n.
FEWEST_CALIBRATED = 19
_FLOORS: dict[Check, float] = {
    "swapped": 4.0,  # of squared distances, hence twice a logarithm of likelihoods
    "turned": 4.0,
    "together": 1.0,
    "intensities": 3.0,  # spreads
    "background": 3.0,
    "texture": 3.0,
    "grid": 3.0,
}
_BEYOND = 1.5  # times the largest score, where cases are too few for a percentile
_FOLDS = 5
_DIGITS = 5

Scores = Mapping[Check, float]


def make_guard(training: Sequence[Appearance], validation: Sequence[Appearance]) -> Guard | None:
    """Learn what is usual from the training part, and limits from the validation part.

    Where the validation part has fewer than 19 cases, training cases serve as well: each is
    compared with what was learnt from four fifths of the training part that it is not in.

    Parameters
    ----------
    training, validation : sequence of Appearance
        All with the modalities of the model.

    Returns
    -------
    Guard or None
        None where there are fewer than ten training cases: they say nothing of what is usual.
    """
    if len(training) < FEWEST_TRAINING:
        return None
    expected = Expected.learnt(training)
    scores = [expected.compare(each).scores() for each in validation]
    calibrating = list(validation)
    if len(validation) < FEWEST_CALIBRATED:
        scores += _held_out(training)
        calibrating += training
    limits = limits_of(scores)
    guard = Guard(
        cases=len(training),
        calibrated_on=len(scores),
        numbers=tuple(_numbers(expected)),
        correlations=tuple(tuple(map(_short, row)) for row in expected.correlations.tolist()),
        limits=limits,
        false_alarms=sum(any(s[c] > limits[c] for c in s) for s in scores) / len(scores),
        noticed={},
    )
    return guard.model_copy(update={"noticed": _noticed(guard, calibrating)})


def limits_of(scores: Sequence[Scores]) -> dict[Check, float]:
    """Return a limit for each check, such that all together are passed by one case in twenty.

    Parameters
    ----------
    scores : (n,) sequence of mapping from check to float
        Of cases as usual as those to come; at least one.
    """
    scales = {
        check: max(floor, percentile([each.get(check, 0.0) for each in scores]))
        for check, floor in _FLOORS.items()
    }
    worst = [max(each.get(check, 0.0) / s for check, s in scales.items()) for each in scores]
    factor = max(1.0, percentile(worst))
    return {check: _up(scale * factor) for check, scale in scales.items()}


def percentile(values: Sequence[float]) -> float:
    """Return what a further value exceeds with a probability of at most 5 %.

    Of fewer than 19 values none is; then it is half as much again as the largest.
    """
    place = math.ceil((1 - FALSE_ALARMS) * (len(values) + 1))
    if place > len(values):
        return _BEYOND * max(values)
    return sorted(values)[place - 1]


def _held_out(cases: Sequence[Appearance]) -> Iterator[dict[Check, float]]:
    """Give scores of cases, each by what is learnt from the folds that it is not in."""
    for fold in range(_FOLDS):
        others = [each for n, each in enumerate(cases) if n % _FOLDS != fold]
        expected = Expected.learnt(others)
        yield from (expected.compare(each).scores() for each in cases[fold::_FOLDS])


def _numbers(expected: Expected) -> Iterator[Number]:
    known = expected.usual
    for key, location, spread in zip(
        known.keys, known.location.tolist(), known.spread.tolist(), strict=True
    ):
        yield Number(key=key, usual=_short(location), spread=_short(spread))


def _noticed(guard: Guard, cases: Sequence[Appearance]) -> dict[str, float]:
    """Return in which share of cases each mishap is noticed and named, were it done to them."""
    found = {}
    for first, second in combinations(sorted(cases[0].looks), 2):
        swaps = [guard.expected.compare(each.exchanged(first, second)) for each in cases]
        named = [
            guard.is_exchanged(s) and s.exchange is not None and s.exchange.names == (first, second)
            for s in swaps
        ]
        found[f"{first} and {second} swapped"] = sum(named) / len(cases)
    for axis, name in enumerate(AXES):
        mirrored = (axis == 0, axis == 1, axis == 2)
        turns = [guard.expected.compare(each.turned((0, 1, 2), mirrored)).turn for each in cases]
        seen = [
            t.gain > guard.limits["turned"] and (t.order, t.mirrored) == ((0, 1, 2), mirrored)
            for t in turns
        ]
        found[f"mirrored {name}"] = sum(seen) / len(cases)
    return {mishap: round(share, 3) for mishap, share in found.items()}


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _up(value: float) -> float:
    """Return a limit with few digits that is no lower."""
    return math.ceil(value * 1000) / 1000
