"""Which cases look wrong, and why, in words: the most suspicious first.

Every reason has a score: how far it is beyond the limit from which on it counts, 1 at the limit. A
case has the score of its worst reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vol3dseg.quality.facts import MASK, CaseFacts, ModalityFacts
from vol3dseg.quality.mechanisms import (
    LIMITS,
    Reason,
    mirrored,
    noisy,
    swappable,
    swapped,
)
from vol3dseg.quality.outliers import FLOORS, features, joint
from vol3dseg.quality.statistics import FEWEST_CASES, Joint, Key, Usual, usual
from vol3dseg.quality.suspect_words import in_words

CERTAIN = 100.0  # the score of what is wrong whatever the other cases are like
_FLAT_SHARE = 0.5  # of the inside voxels with one value
_CLIPPED_SHARE = 0.01  # of the inside voxels at the very end of the range
_REASONS = 5  # kept for a case; the worst
_RARE = 0.05  # share of cases that may have another orientation, or lack a class


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is thought of a case.

    Parameters
    ----------
    case_id : str
    reasons : tuple of Reason
        The worst first; empty where nothing is suspicious.
    """

    case_id: str
    reasons: tuple[Reason, ...]

    @property
    def score(self) -> float:
        """The score of the worst reason; 0 where there is none."""
        return max((reason.score for reason in self.reasons), default=0.0)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What is known of the set."""

    usual: Usual
    joint: Joint
    axis_codes: Mapping[str, int]
    classes: Mapping[str, int]
    cases: int


def rank(cases: Sequence[CaseFacts]) -> list[Verdict]:
    """Return a verdict on each case, the most suspicious first, equals by name.

    With fewer than eight cases nothing can be called unusual: only what is wrong whatever other
    cases are like is found then.
    """
    numbers = [features(case) for case in cases]
    whole = _whole(cases, numbers)
    verdicts = [
        Verdict(case.case_id, _reasons(case, own, whole))
        for case, own in zip(cases, numbers, strict=True)
    ]
    return sorted(verdicts, key=lambda v: (-v.score, v.case_id))


def _whole(cases: Sequence[CaseFacts], numbers: Sequence[Mapping[Key, float]]) -> _Whole:
    model = joint([swappable(own) for own in numbers])
    codes: dict[str, int] = {}
    classes: dict[str, int] = {}
    for case in cases:
        if case.geometry is not None:
            code = case.geometry.axis_codes
            codes[code] = codes.get(code, 0) + 1
        for name, volume_ml in (case.volumes_ml or {}).items():
            classes[name] = classes.get(name, 0) + (volume_ml > 0)
    labelled = sum(bool(case.foreground_ml) for case in cases)
    return _Whole(usual(numbers, FLOORS), model, codes, classes, labelled)


def _reasons(case: CaseFacts, own: Mapping[Key, float], whole: _Whole) -> tuple[Reason, ...]:
    exchange = swapped(own, whole.joint)
    # A later one that is about the same modality is a consequence of the earlier.
    mechanisms = [mirrored(case), *noisy(own, whole.usual, exchange), exchange]
    explained: set[str] = set()
    reasons = [*_certain(case), *_rare(case, whole)]
    for found in filter(None, mechanisms):
        if not explained & found.names:
            explained |= found.names
            reasons.append(found.reason)
    reasons += _unusual(own, whole.usual, explained)
    return tuple(sorted(reasons, key=lambda r: -r.score)[:_REASONS])


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
        for end, share in (("smallest", facts.at_minimum), ("largest", facts.at_maximum)):
            if share >= _CLIPPED_SHARE:
                value = facts.minimum if end == "smallest" else facts.maximum
                text = f"{name} looks clipped: {share:.1%} of its voxels have the {end} value, "
                yield Reason(
                    "clipped", text + f"{value:.4g}", 1 + float(np.log(share / _CLIPPED_SHARE))
                )


def _who(facts: ModalityFacts) -> str:
    """Return which voxels have the commonest value."""
    if facts.inside == 0:
        return "all voxels"
    return f"{'all' if facts.deviation == 0 else f'{facts.commonest:.0%} of the'} voxels inside"


def _rare(case: CaseFacts, whole: _Whole) -> Iterator[Reason]:
    """Give orientations and absent classes that few cases share."""
    total, usual_codes = sum(whole.axis_codes.values()), max(whole.axis_codes.values(), default=0)
    others = total - usual_codes
    if case.geometry is not None and total >= FEWEST_CASES and others <= max(_RARE * total, 1):
        code = case.geometry.axis_codes
        if whole.axis_codes[code] < usual_codes:
            common = max(whole.axis_codes, key=lambda c: whole.axis_codes[c])
            text = f"axes run {code}; {usual_codes} of {total} cases run {common}"
            yield Reason("orientation", text, 1.5)
    if case.foreground_ml and whole.cases >= FEWEST_CASES:
        for name, count in whole.classes.items():
            lacking = whole.cases - count
            if not (case.volumes_ml or {}).get(name) and lacking <= max(_RARE * whole.cases, 1):
                text = f"{MASK} has no {name}; {count} of {whole.cases} cases have it"
                yield Reason("missing class", text, 1.0)


def _unusual(own: Mapping[Key, float], known: Usual, explained: set[str]) -> Iterator[Reason]:
    for place, (key, median) in enumerate(zip(known.keys, known.location.tolist(), strict=True)):
        if key not in own or key[0] == "noise":
            continue
        if key[0] in ("contrast", "correlation") and explained & set(key[1:]):
            continue
        score = abs(known.far_out_of(place, own[key])) / LIMITS[key[0]]
        if score > 1:
            yield Reason(key[0], in_words(key, own[key], median), score)
