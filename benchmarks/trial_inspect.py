"""Plant four bad cases among forty crops, many times; count how often `inspect` finds them.

python -m benchmarks.trial_inspect CROPS_FOLDER [DRAWS]

Each draw takes forty cases at random and spoils four: T1 and FLAIR swapped; noise of 0.5 to 1
standard deviations in T2; one modality mirrored along one axis; an empty mask. A draw counts where
all four are among the first six suspects; and where each is there for the right reason besides.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from vol3dseg.config import load_config
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.quality.case_facts import CaseFacts, measure_contents
from vol3dseg.quality.contents import Contents, read_contents
from vol3dseg.quality.suspects import Verdict, rank

CASES, FIRST, NOISED = 40, 6, "t2"
SWAPPED = {"t1": "flair", "flair": "t1"}


def main(folder: Path, draws: int) -> None:
    """Run the trial with and without a config, and print what share of draws succeeds."""
    cases = find_cases(folder)
    for preset in ("crops32", None):
        labels = load_config(preset).labels if preset else None
        contents = {c.id: read_contents(c, tuple(c.images), labels) for c in cases}
        good = {c.id: measure_contents(c.id, c.subject, contents[c.id]) for c in cases}
        failures: Counter[str] = Counter()
        found = right = 0
        for draw in range(draws):
            rng = np.random.default_rng(draw)
            chosen = [cases[n] for n in rng.choice(len(cases), CASES, replace=False)]
            planted = plant(chosen, contents, rng)
            verdicts = rank([planted[c.id][0] if c.id in planted else good[c.id] for c in chosen])
            first = {v.case_id: v for v in verdicts[:FIRST] if v.reasons}
            within = [i for i in planted if i in first]
            because = [i for i in within if _is_right(first[i], planted[i][1:])]
            found += len(within) == len(planted)
            right += len(because) == len(planted)
            missed = set(planted) - set(because)
            failures.update(
                planted[i][1] + (", reason" if i in within else ", rank") for i in missed
            )
        sys.stdout.write(
            f"{preset or 'no config'}: {draws} draws, all four among the first {FIRST}: "
            f"{found / draws:.1%}, for the right reasons too: {right / draws:.1%}; "
            f"missed: {dict(failures)}\n"
        )


def plant(
    cases: list[Case], contents: Mapping[str, Contents], rng: np.random.Generator
) -> dict[str, tuple[CaseFacts, str, str]]:
    """Spoil the first four cases; return facts, kind of reason and a word of it, by id."""
    swap, noisy, mirror, empty = cases[:4]
    of = contents[swap.id]
    swapped = replace(of, images={m: of.images[SWAPPED.get(m, m)] for m in of.images})
    of = contents[noisy.id]
    image = of.images[NOISED]
    added = rng.normal(0, rng.uniform(0.5, 1) * image.std(), image.shape)
    spoilt = np.rint(image + added).astype(np.float32)
    noised = replace(of, images={**of.images, NOISED: spoilt})
    of = contents[mirror.id]
    modality, axis = str(rng.choice(list(of.images))), int(rng.integers(3))
    mirrored = replace(of, images={**of.images, modality: np.flip(of.images[modality], axis)})
    of = contents[empty.id]
    emptied = replace(of, classes=np.zeros_like(of.classes))
    spoilt_cases = (
        (swap, swapped, "swapped", "flair and t1"),
        (noisy, noised, "noise", NOISED),
        (mirror, mirrored, "mirrored", f"{modality} looks mirrored along {'ijk'[axis]}"),
        (empty, emptied, "empty mask", "empty"),
    )
    return {
        case.id: (measure_contents(case.id, case.subject, content), kind, words)
        for case, content, kind, words in spoilt_cases
    }


def _is_right(verdict: Verdict, expected: tuple[str, str]) -> bool:
    """Tell whether the first reason is the planted one."""
    kind, words = expected
    return verdict.reasons[0].kind == kind and words in verdict.reasons[0].text


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
