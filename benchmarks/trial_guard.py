"""Count how often a model's guard notices what is wrong with a scan, and how often it errs.

python -m benchmarks.trial_guard PRESET FOLDER [SPLITS]

Takes the split of a config that says nothing of it: expectations are learnt from its train part,
limits from its validation part, and the table is of its test part. Then the same over SPLITS random
splits (ten by default), since a few dozen test cases leave wide intervals. Trains no network.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import sqrt
from pathlib import Path

import numpy as np

from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.splits import Split, SplitConfig, make_split
from vol3dseg.quality.appearance import AXES, Appearance, measure_appearance
from vol3dseg.quality.background import Array
from vol3dseg.quality.expectations import Expectations
from vol3dseg.quality.features import Features, exchanged, features_of
from vol3dseg.quality.guard import make_guard, percentile
from vol3dseg.space.resampling import reoriented
from vol3dseg.space.volume import Volume

Z95, SPLITS = 1.96, 10
Images = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Mishap:
    """Something done to a case, and words that name it in a warning."""

    name: str
    words: str
    spoil: Callable[[Images, np.random.Generator], Images]


def mishaps(modalities: Sequence[str]) -> Iterator[Mishap]:
    """Give what is done to the test cases."""
    first, last = modalities[0], modalities[-1]
    yield Mishap("nothing", "", lambda images, rng: images)
    for a, b in combinations(sorted(modalities), 2):
        yield Mishap(f"{a} and {b} swapped", f"{a} and {b} look swapped", _swapping(a, b))
    if first != last:
        twice = f"{first} given as {last} too"
        yield Mishap(twice, "unlike", lambda images, rng: {**images, last: images[first]})
        yield Mishap(f"{first} mirrored", "unlike", _with(first, lambda a, rng: a[::-1]))
    yield Mishap(
        f"{first} times 1000",
        f"{first} has an unusually wide range",
        _with(first, lambda a, rng: a * 1000),
    )
    noise = f"noise of 0.5 to 1 s.d. in {last}"
    yield Mishap(noise, f"{last} is unusually rough", _with(last, _noisy))
    for axis, name in enumerate(AXES):
        yield Mishap(f"all mirrored {name}", f"mirrored {name}", _all(partial(np.flip, axis=axis)))
    yield Mishap("all but a third masked", "is not background", _all(_masked))


def _swapping(a: str, b: str) -> Callable[[Images, np.random.Generator], Images]:
    return lambda images, rng: {**images, a: images[b], b: images[a]}


def _with(
    name: str, change: Callable[[Array, np.random.Generator], Array]
) -> Callable[[Images, np.random.Generator], Images]:
    return lambda images, rng: {**images, name: change(images[name], rng)}


def _all(change: Callable[[Array], Array]) -> Callable[[Images, np.random.Generator], Images]:
    return lambda images, rng: {name: change(array) for name, array in images.items()}


def _noisy(array: Array, rng: np.random.Generator) -> Array:
    added = rng.normal(0, rng.uniform(0.5, 1) * array.std(), array.shape)
    return np.rint(array + added).astype(np.float32)


def _masked(array: Array) -> Array:
    third = array.copy()
    third[array.shape[0] // 3 :] = 0
    return third


Looks = Mapping[str, Mapping[str, Appearance]]


def look_at_all(volumes: Mapping[str, Volume]) -> tuple[list[Mishap], Looks]:
    """Measure every case, as it is and spoilt in each way."""
    first = next(iter(volumes.values()))
    done, looks = list(mishaps(first.modalities)), defaultdict(dict)
    for number, (case_id, volume) in enumerate(sorted(volumes.items())):
        rng, grid = np.random.default_rng(number), volume.geometry
        images = _canonical(volume)
        for mishap in done:
            looks[mishap.name][case_id] = measure_appearance(mishap.spoil(images, rng), grid)
    return done, looks


def _canonical(volume: Volume) -> Images:
    canonical = volume.geometry.canonical()
    return {
        name: reoriented(volume.array[..., channel], volume.geometry, canonical)
        for channel, name in enumerate(volume.modalities)
    }


def judge(split: Split, done: Sequence[Mishap], looks: Looks) -> Counter[tuple[str, str]]:
    """Count on the test part in how many cases each mishap leads to a warning, and is named."""
    good, found = looks["nothing"], Counter[tuple[str, str]]()
    guard = make_guard([good[i] for i in split.train], [good[i] for i in split.validation])
    assert guard is not None
    for mishap in done:
        for case_id in split.test:
            warnings = guard.warnings(looks[mishap.name][case_id])
            found[mishap.name, "cases"] += 1
            found[mishap.name, "warned"] += bool(warnings)
            found[mishap.name, "named"] += any(mishap.words in each for each in warnings)
            # What was set is the alarm over a swap, apart from all other alarms.
            found[mishap.name, "swap"] += any("look swapped" in each for each in warnings)
    return found


def compare_kinds(splits: Sequence[Split], good: Mapping[str, Appearance]) -> None:
    """Print how well each kind of feature alone, and all together, tell a swap from none."""
    first = next(iter(good.values()))
    pairs = list(combinations(sorted(first.modalities), 2))
    head = " | ".join(f"{a}, {b}" for a, b in pairs)
    sys.stdout.write(f"\n| features | false alarm | {head} |\n|---|---:{'|---:' * len(pairs)}|\n")
    pairwise = ("correlation", "edge correlation")
    shape = ("median", "lower quartile", "upper quartile")
    for name, kinds in {
        "correlation": pairwise[:1],
        "edge correlation": pairwise[1:],
        "shape": shape,
        "roughness": ("roughness",),
        "correlations of both": pairwise,
        "all four": (*pairwise, *shape, "roughness"),
    }.items():
        features = {i: _of_kinds(features_of(each), kinds) for i, each in good.items()}
        found: Counter[tuple[str, ...]] = Counter()
        for split in splits:
            expectations = Expectations.learn([features[i] for i in split.train])
            limit = percentile([_gain(expectations, features[i], pairs) for i in split.validation])
            for pair in ((), *pairs):
                for i in split.test:
                    case = exchanged(features[i], *pair) if pair else features[i]
                    found[pair] += _gain(expectations, case, pairs) > limit
        cases = sum(len(split.test) for split in splits)
        cells = " | ".join(f"{found[what] / cases:.1%}" for what in ((), *pairs))
        sys.stdout.write(f"| {name} | {cells} |\n")


def _of_kinds(features: Features, kinds: Sequence[str]) -> Features:
    return {key: value for key, value in features.items() if key[0] in kinds}


def _gain(
    expectations: Expectations, features: Features, pairs: Sequence[tuple[str, str]]
) -> float:
    """Return by how much the squared distance falls after the best exchange."""
    tried = (expectations.distance(exchanged(features, *pair)) ** 2 for pair in pairs)
    return expectations.distance(features) ** 2 - min(tried)


def show(title: str, done: Sequence[Mishap], found: Counter[tuple[str, str]]) -> None:
    """Print a table of shares, with counts and 95 % intervals."""
    sys.stdout.write(f"\n{title}\n\n| done to a case | warned | named |\n|---|---:|---:|\n")
    for mishap in done:
        cases, cells = found[mishap.name, "cases"], []
        for what in ("warned", "named" if mishap.words else "swap"):
            cells.append(_share(found[mishap.name, what], cases))
        if not mishap.words:
            cells[1] = f"a swap: {cells[1]}"
        sys.stdout.write(f"| {mishap.name} | {cells[0]} | {cells[1]} |\n")


def _share(count: int, cases: int) -> str:
    """Return a share with its count and Wilson's 95 % interval."""
    p, z2 = count / cases, Z95**2
    middle = (p + z2 / (2 * cases)) / (1 + z2 / cases)
    half = Z95 * sqrt(p * (1 - p) / cases + z2 / (4 * cases**2)) / (1 + z2 / cases)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{p:.1%} ({count}/{cases}) [{low:.1%}, {high:.1%}]"


def main(preset: str, folder: Path, splits: int) -> None:
    """Run the trial."""
    config = load_config(preset)
    cases = find_cases(folder)
    volumes = {c.id: read_volume(c, config.recipe.modalities) for c in cases}
    subjects = {c.id: c.subject for c in cases}
    done, looks = look_at_all(volumes)
    volumes_ml = dict.fromkeys(subjects, 1.0)  # of no account: nothing is stratified
    split = make_split(subjects, SplitConfig(), volumes_ml)
    parts = f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test"
    show(f"{preset}: {parts}", done, judge(split, done, looks))
    others = [
        make_split(subjects, SplitConfig(seed=seed), volumes_ml) for seed in range(1, splits + 1)
    ]
    total = sum((judge(other, done, looks) for other in others), Counter[tuple[str, str]]())
    show(f"{splits} random splits together (cases are in several of them)", done, total)
    if len(config.recipe.modalities) > 1:
        compare_kinds(others, looks["nothing"])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else SPLITS)
