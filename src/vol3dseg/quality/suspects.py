"""Which cases of a data set look wrong, and why, in words: the most suspicious first.

Every reason has a score: how far it is beyond the limit from which on it counts, 1 at the limit. A
case has the score of its worst reason.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vol3dseg.quality.appearance import AXES
from vol3dseg.quality.case_facts import CaseFacts, ModalityFacts
from vol3dseg.quality.contents import MASK
from vol3dseg.quality.expectations import (
    FEWEST_CASES,
    Exchange,
    Expectations,
    Limits,
    centre_and_spread,
)
from vol3dseg.quality.features import (
    IDENTIFYING,
    KINDS,
    Check,
    Features,
    Key,
    exchanged,
    features_of_case,
)

CERTAIN = 100.0  # the score of what is wrong whatever the other cases are like
_LIMITS: dict[Check, float] = {
    "swapped": 6.0,  # of squared distances, hence twice a logarithm of likelihoods
    "intensities": 5.0,  # spreads
    "noise": 5.0,
    "similarity": 4.5,
    "shape": 4.5,
    "contrast": 4.5,
    "grid": 4.0,
    "volume": 3.5,
}
# Noise is judged with what explains it; the level tells nothing where intensities are z-scores.
_NOT_BY_ITSELF = ("noise", "level")
_TOGETHER = 5.0  # spreads of the distances of all cases, within which a case fits
_MIRROR_GAIN = 0.02  # nat per voxel
_FLAT_SHARE = 0.5  # of the inside voxels with one value
_CLIPPED_SHARE = 0.01  # of the inside voxels at the very end of the range
_REASONS = 5  # that are told of a case; the worst
_RARE = 0.05  # share of cases that may have another orientation, or lack a class


class Reason(NamedTuple):
    """One thing that is wrong with a case, or unusual.

    Its kind is "files", "empty mask", "flat", "clipped", "mirrored", "swapped", "orientation",
    "missing class", "more", or a kind of feature (`vol3dseg.quality.features.KINDS`).
    """

    kind: str
    text: str
    score: float  # 1 at the limit from which on it counts


class Verdict(NamedTuple):
    """The reasons to suspect a case, the worst first; none where nothing is suspicious."""

    case_id: str
    reasons: tuple[Reason, ...]

    @property
    def score(self) -> float:
        """The score of the worst reason; 0 where there is none."""
        return max((reason.score for reason in self.reasons), default=0.0)


class _DataSet(NamedTuple):
    """What is known of the whole set."""

    expectations: Expectations
    limits: Limits
    axis_codes: Counter[str]
    classes: Counter[str]
    labelled: int


def rank(cases: Sequence[CaseFacts]) -> list[Verdict]:
    """Return a verdict on each case, the most suspicious first, equals by name.

    With fewer than eight cases nothing can be called unusual: only what is wrong whatever other
    cases are like is found then.
    """
    features = [features_of_case(case) for case in cases]
    known = _learn(cases, features)
    pairs = zip(cases, features, strict=True)
    verdicts = (Verdict(case.case_id, _reasons(case, own, known)) for case, own in pairs)
    return sorted(verdicts, key=lambda v: (-v.score, v.case_id))


def _learn(cases: Sequence[CaseFacts], features: Sequence[Features]) -> _DataSet:
    expectations = Expectations.learn(features)
    distances = np.array([[expectations.distance(own)] for own in features]).reshape(-1, 1)
    centre, spread = centre_and_spread(distances, 1.0)
    volumes = [case.volumes_ml or {} for case in cases]
    return _DataSet(
        expectations,
        {**_LIMITS, "together": float(centre[0] + _TOGETHER * spread[0])},
        Counter(case.geometry.axis_codes for case in cases if case.geometry is not None),
        Counter(name for each in volumes for name, volume_ml in each.items() if volume_ml > 0),
        sum(bool(case.foreground_ml) for case in cases),
    )


def _reasons(case: CaseFacts, features: Features, known: _DataSet) -> tuple[Reason, ...]:
    """Return the reasons for suspicion; what one event explains is not said again.

    Mirroring comes first, then noise, then a swap: a later one of the same modality is a
    consequence of the earlier, and so are unusual correlations and contrasts.
    """
    reasons = [*_certain(case), *_rare(case, known)]
    exchange = known.expectations.swap(features, known.limits)
    mirrored, explained = _mirrored(case)
    reasons += mirrored
    noisy = _noisy(features, known, exchange)
    reasons += [_unusual(k, v, features, known) for k, v in noisy.items() if k[1] not in explained]
    explained |= {key[1] for key in noisy}
    if exchange is not None and explained.isdisjoint(exchange.names):
        text = exchange.describe("the other cases")
        reasons.append(Reason("swapped", text, exchange.gain / known.limits["swapped"]))
        features = exchanged(features, *exchange.names)
    judged = {
        key: value
        for key, value in features.items()
        if key[0] not in _NOT_BY_ITSELF
        and (key[0] not in IDENTIFYING or explained.isdisjoint(key[1:]))
    }
    unusual = known.expectations.unusual(judged, known.limits)
    reasons += [_unusual(key, deviation, features, known) for key, deviation in unusual.items()]
    return _worst(sorted(reasons, key=lambda r: -r.score))


def _worst(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """Return the worst reasons, and one that says how many more there are."""
    kept, others = tuple(reasons[:_REASONS]), reasons[_REASONS:]
    if not others:
        return kept
    text = f"and {len(others)} more reason{'s' * (len(others) > 1)} of no higher score"
    return (*kept, Reason("more", text, others[0].score))


def _unusual(key: Key, deviation: float, features: Features, known: _DataSet) -> Reason:
    text = known.expectations.describe(key, features)
    return Reason(key[0], text, abs(deviation) / known.limits[KINDS[key[0]].check])


def _noisy(features: Features, known: _DataSet, exchange: Exchange | None) -> dict[Key, float]:
    """Return noise above its limit, whichever of the two that look swapped a modality is."""
    as_is = other = known.expectations.deviations(features)
    if exchange is not None:
        swapped = known.expectations.deviations(exchanged(features, *exchange.names))
        other = exchanged(swapped, *exchange.names)
    least = {key: min(v, other.get(key, v)) for key, v in as_is.items() if key[0] == "noise"}
    return {key: value for key, value in least.items() if value > known.limits["noise"]}


def _mirrored(case: CaseFacts) -> tuple[list[Reason], frozenset[str]]:
    """Return the reason where an image looks mirrored, and the images that it explains."""
    found = max(case.mirrorings, key=lambda m: m.gain, default=None)
    if found is None or found.gain < _MIRROR_GAIN:
        return [], frozenset()
    names = [m.name for m in case.mirrorings]
    if len(names) > 2:  # of two, nobody can tell which one is mirrored
        names = [found.name]
    code = case.geometry.axis_codes[found.axis] if case.geometry else "?"
    along = dict(zip("RLAPSI", np.repeat(AXES, 2), strict=True)).get(code, "unknown direction")
    others = "the images" if found.name == MASK else "the other modalities"
    text = (
        f"{' or '.join(names)} looks mirrored along {'ijk'[found.axis]} ({along}): correlation "
        f"with {others} is {found.before:.2f}, {found.after:.2f} after mirroring"
    )
    return [Reason("mirrored", text, found.gain / _MIRROR_GAIN)], frozenset(names)


def _certain(case: CaseFacts) -> Iterator[Reason]:
    """Give what is wrong whatever the other cases are like."""
    for problem in case.problems:
        yield Reason("files", problem, CERTAIN)
    if case.volumes_ml is not None and not case.foreground_ml:
        yield Reason("empty mask", f"{MASK} is empty", CERTAIN)
    for name, facts in case.modalities.items():
        if facts.commonest >= _FLAT_SHARE:
            yield Reason("flat", f"{name} is flat: {_who(facts)} have one value", CERTAIN)
            continue
        smallest = ("smallest", facts.minimum, facts.at_minimum)
        for end, value, share in (smallest, ("largest", facts.maximum, facts.at_maximum)):
            # What lies beyond a window, or beyond what tissue has in CT, is limited anyway.
            known = facts.scale.fixed and not facts.scale.low < value < facts.scale.high
            if share >= _CLIPPED_SHARE and not known:
                have = f"{share:.1%} of its voxels have the {end} value, {value:.4g}"
                score = 1 + float(np.log(share / _CLIPPED_SHARE))
                yield Reason("clipped", f"{name} looks clipped: {have}", score)


def _who(facts: ModalityFacts) -> str:
    """Return which voxels have the commonest value."""
    if facts.inside == 0:
        return "all voxels"
    return f"{'all' if facts.deviation == 0 else f'{facts.commonest:.0%} of the'} voxels inside"


def _rare(case: CaseFacts, known: _DataSet) -> Iterator[Reason]:
    """Give orientations and absent classes that few cases share."""
    if case.geometry is not None:
        total, code = known.axis_codes.total(), case.geometry.axis_codes
        ((common, count),) = known.axis_codes.most_common(1)
        if known.axis_codes[code] < count and _is_rare(total - count, total):
            text = f"the axes run {code}; in {count} of {total} cases they run {common}"
            yield Reason("orientation", text, 1.5)
    if case.foreground_ml:
        for name, count in known.classes.items():
            if name in case.unannotated:
                continue
            lacking = known.labelled - count
            if not (case.volumes_ml or {}).get(name) and _is_rare(lacking, known.labelled):
                text = f"{MASK} has no {name}; {count} of {known.labelled} cases have it"
                yield Reason("missing class", text, 1.0)


def _is_rare(count: int, cases: int) -> bool:
    return cases >= FEWEST_CASES and count <= max(_RARE * cases, 1)
