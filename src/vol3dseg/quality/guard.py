"""The guard of a model: which scans are unlike those that it was trained on, and why.

What is expected is learnt from the training part, the limits from the validation part, such that
all checks together raise a false alarm in at most 5 % of scans like those that the model was
trained on. Percentiles carry the margin of split conformal prediction for finite samples (Vovk,
Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005). See docs/guard.md.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from pydantic import model_validator

from vol3dseg.quality.appearance import AXES, Appearance
from vol3dseg.quality.expectations import Expectations
from vol3dseg.quality.features import (
    IDENTIFYING,
    KINDS,
    Check,
    Features,
    exchanged,
    features_of,
    turned,
)
from vol3dseg.schema import Amount, Count, Frozen, Share

FALSE_ALARMS = 0.05
FEWEST_TRAINING = 10  # so that four fifths of them are eight, which expectations need
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
_OTHERS = "the training scans"

Scores = Mapping[Check, float]


class Guard(Frozen):
    """What is expected of a scan by the model's training scans, and how far it may be from that."""

    calibrated_on: Count  # cases that the limits are set by
    expectations: Expectations
    limits: dict[Check, Amount]  # a scan is unlike the training scans where its score is above
    false_alarms: Share  # share of the cases that the limits were set by which are above one
    noticed: dict[str, Share]  # share of these in which a mishap, done to them, is named

    @model_validator(mode="after")
    def _complete(self) -> "Guard":
        if lacking := [check for check in _FLOORS if check not in self.limits]:
            raise ValueError(f"limits lack {', '.join(lacking)}")
        return self

    def warnings(self, appearance: Appearance) -> tuple[str, ...]:
        """Say in words how a scan, with modalities of the model, is unlike the training scans.

        What an exchange of two modalities explains is not said again: the rest is judged as if they
        had been exchanged.
        """
        found, features, known = [], features_of(appearance), self.expectations
        exchange = known.swap(features, self.limits)
        if exchange is not None:
            found.append(exchange.describe(_OTHERS))
            features = exchanged(features, *exchange.names)
        turn = known.best_turn(features)
        if turn.gain > self.limits["turned"]:
            found.append(turn.describe(_OTHERS))
        unusual = known.unusual(features, self.limits)
        found += [known.describe(key, features) for key in unusual]
        # Roughness is among what the distance is made of.
        if not any(KINDS[key[0]].check == "texture" for key in unusual):
            found += self._unlike(features)
        if lacking := known.lacking(features, appearance.modalities):
            found.append(
                f"{' and '.join(lacking)} cannot be compared with {_OTHERS} in every way: too few "
                "voxels that are not background, or all of one value"
            )
        return tuple(found)

    def _unlike(self, features: Features) -> Iterator[str]:
        distance, limit = self.expectations.distance(features), self.limits["together"]
        if distance > limit:
            deviations = self.expectations.deviations(features)
            identifying = (key for key in deviations if key[0] in IDENTIFYING)
            worst = max(identifying, key=lambda key: abs(deviations[key]))
            yield (
                f"the images are unlike {_OTHERS} (distance {distance:.1f}, typically at most "
                f"{limit:.1f}); above all, {self.expectations.describe(worst, features)}"
            )


def make_guard(training: Sequence[Appearance], validation: Sequence[Appearance]) -> Guard | None:
    """Learn expectations from the training part, and limits from the validation part.

    Where the validation part has fewer than 19 cases, training cases serve as well: each is
    compared with what was learnt from four fifths of the training part that it is not in. Fewer
    than ten training cases say nothing of what is typical: there is no guard.
    """
    if len(training) < FEWEST_TRAINING:
        return None
    cases, calibrating = ([features_of(each) for each in part] for part in (training, validation))
    expectations = Expectations.learn(cases)
    names = {name for each in training for name in each.modalities}
    scores = [scores_of(expectations, each) for each in calibrating]
    if len(validation) < FEWEST_CALIBRATED:
        scores += _held_out(cases)
        calibrating += cases
    limits = limits_of(scores)
    return Guard(
        calibrated_on=len(scores),
        expectations=expectations,
        limits=limits,
        false_alarms=sum(any(s[c] > limits[c] for c in s) for s in scores) / len(scores),
        noticed=dict(_noticed(expectations, limits, calibrating, sorted(names))),
    )


def scores_of(expectations: Expectations, features: Features) -> dict[Check, float]:
    """Return one figure for each check of a scan: the larger, the less expected."""
    found: dict[Check, float] = {}
    for key, deviation in expectations.deviations(features).items():
        check = KINDS[key[0]].check
        if check in _FLOORS:
            found[check] = max(found.get(check, 0.0), abs(deviation))
    exchange = expectations.best_exchange(features)
    found |= {"swapped": exchange.gain} if exchange else {}
    turned_by = expectations.best_turn(features).gain
    return found | {"turned": turned_by, "together": expectations.distance(features)}


def limits_of(scores: Sequence[Scores]) -> dict[Check, float]:
    """Return a limit for each check, such that all together are passed by one case in twenty.

    Each check has its own scale: the 95th percentile of its scores, or a floor below which nothing
    is worth a word. All scales are raised by one factor until no more than 5 % are above any.
    """
    scales = {
        check: max(floor, percentile([each.get(check, 0.0) for each in scores]))
        for check, floor in _FLOORS.items()
    }
    worst = [max(each.get(check, 0.0) / s for check, s in scales.items()) for each in scores]
    factor = max(1.0, percentile(worst))
    # Rounded up: a limit with few digits that is no lower.
    return {check: math.ceil(scale * factor * 1000) / 1000 for check, scale in scales.items()}


def percentile(values: Sequence[float]) -> float:
    """Return what a further value exceeds with a probability of at most 5 %.

    Of n values it is the ceil(0.95 (n + 1))-th smallest. Of fewer than 19 none is; then it is half
    as much again as the largest.
    """
    place = math.ceil((1 - FALSE_ALARMS) * (len(values) + 1))
    return sorted(values)[place - 1] if place <= len(values) else _BEYOND * max(values)


def _held_out(cases: Sequence[Features]) -> Iterator[dict[Check, float]]:
    """Give scores of cases, each by what is learnt from the folds that it is not in."""
    for fold in range(_FOLDS):
        expectations = Expectations.learn([c for n, c in enumerate(cases) if n % _FOLDS != fold])
        yield from (scores_of(expectations, case) for case in cases[fold::_FOLDS])


def _noticed(
    known: Expectations, limits: Scores, cases: Sequence[Features], modalities: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """Give in which share of cases each mishap is noticed and named, were it done to them."""
    for pair in combinations(modalities, 2):
        swaps = (known.swap(exchanged(case, *pair), limits) for case in cases)
        named = sum(swap is not None and swap.names == pair for swap in swaps)
        yield f"{' and '.join(pair)} swapped", round(named / len(cases), 3)
    for axis, name in enumerate(AXES):
        done = (0, 1, 2), (axis == 0, axis == 1, axis == 2)
        turns = (known.best_turn(turned(case, *done)) for case in cases)
        named = sum(t.gain > limits["turned"] and t[:2] == done for t in turns)
        yield f"mirrored {name}", round(named / len(cases), 3)
