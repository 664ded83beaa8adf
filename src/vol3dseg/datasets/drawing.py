"""Subjects drawn by chance, and where it is asked for evenly over their foreground volumes."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from vol3dseg.errors import DatasetError, some_of


def subject_volumes(
    subjects: Mapping[str, str], volumes_ml: Mapping[str, float]
) -> dict[str, float]:
    """Return the volume of each subject: the exact sum over its cases, in whatever order."""
    missing = sorted(case for case in subjects if case not in volumes_ml)
    if missing:
        raise DatasetError(
            f"the foreground volume of {len(missing)} cases is not known: {some_of(missing)}",
            where="split.stratify",
            remedy="give them label maps, or set split.stratify to false",
        )
    parts: dict[str, list[float]] = {}
    for case, subject in subjects.items():
        parts.setdefault(subject, []).append(volumes_ml[case])
    return {subject: math.fsum(each) for subject, each in parts.items()}


def rounded_share(count: int, fraction: float) -> int:
    """Return a share of so many, rounded up."""
    return math.ceil(count * fraction - 1e-9)  # 0.1 * 30 is a little more than 3 in floats


def stratified(
    shuffled: list[str],
    volumes_ml: Mapping[str, float],
    counts: tuple[int, ...],
    rng: np.random.Generator,
) -> list[str]:
    """Return the subjects anew: so many of all volumes, then so many of the others, then the rest.

    Sorting is stable, so subjects of equal volume stay in the order of chance.
    """
    rest, drawn = sorted(shuffled, key=volumes_ml.__getitem__), []
    for count in counts:
        edges = [len(rest) * block // count for block in range(count + 1)] if count else []
        chosen = [int(rng.integers(start, stop)) for start, stop in pairwise(edges)]
        drawn += [rest[n] for n in chosen]
        rest = [name for n, name in enumerate(rest) if n not in set(chosen)]
    return drawn + rest


def held_out_subjects(
    names: Sequence[str],
    folds: int,
    seed: int,
    volumes_ml: Mapping[str, float] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Divide subjects into folds, whose sizes differ by one at most.

    The outcome depends on the names and the seed, not on their order. With the foreground volume of
    each subject, these are sorted by it, equal ones in random order, and each fold is given one of
    the smallest `folds` subjects, one of the next, and so on: so of the subjects below any volume,
    each fold has its share up to one.
    """
    if len(names) < folds:
        raise DatasetError(
            f"{len(names)} subjects are too few for {folds} folds",
            remedy="add cases, or lower split.folds (--folds)",
        )
    rng, ordered = np.random.default_rng(seed), sorted(names)
    drawn = [ordered[int(n)] for n in rng.permutation(len(ordered))]
    held: list[list[str]] = [[] for _ in range(folds)]
    if volumes_ml is not None:
        drawn = sorted(drawn, key=volumes_ml.__getitem__)
    for start in range(0, len(drawn), folds):
        block = drawn[start : start + folds]
        # In order, unless the order says something: subjects stand in that of chance.
        places = range(folds) if volumes_ml is None else rng.permutation(folds).tolist()
        for name, place in zip(block, places, strict=False):
            held[place].append(name)
    return tuple(tuple(sorted(each)) for each in held)
