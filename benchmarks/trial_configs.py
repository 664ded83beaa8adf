"""Which config is better at equal minutes: folds or seeds of each in turn, paired over cases.

python -m benchmarks.trial_configs DATASET OUTPUT CONFIG CONFIG... [--folds 5] [--fold K]...
    [--seed S]... [--hours H]

A config is a preset or a file; the first tells the minutes: the others get as many epochs as take
equally long, by their measured steps and by how their patches grow. Configs take turns, so the
trial may be stopped at any moment and called again: what is done stays, and pairs are compared over
what both have done.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from benchmarks.fold_runs import Contender, difference_table, differences
from vol3dseg.config import Config, load_config
from vol3dseg.files import write_text
from vol3dseg.planning.network_size import flops_per_patch
from vol3dseg.planning.step_speed import Measure, measuring
from vol3dseg.planning.workload import growth_share

_PROBES = 3  # of each config, in turn


def trial(configs: dict[str, Config], words: argparse.Namespace) -> None:
    """Train what is missing, for so many hours, and print what is known by then."""
    ends = time.monotonic() + 3600 * words.hours
    require_comparable(configs)
    epochs = _epochs(configs, words.output / "epochs.json")
    found = [
        Contender(name, config.with_epochs(epochs[name]), words.output / name)
        for name, config in configs.items()
    ]
    for each in found:
        each.write_config()
    prepared = found[0].prepare(words.dataset)
    folds, seeds = words.fold or list(range(1, words.folds + 1)), words.seed or [0]
    todo = [
        (each, seed, fold)
        for seed in seeds
        for fold in folds
        for each in found
        if not each.is_done(seed, fold)
    ]
    for number, (each, seed, fold) in enumerate(todo):
        if time.monotonic() > ends:
            sys.stdout.write(f"\n{len(todo) - number} trainings are left; call again\n")
            break
        each.complete(prepared, seed, fold, words.folds)
    sys.stdout.write(f"\n{report(found, seeds, folds)}")


def require_comparable(configs: dict[str, Config]) -> None:
    """Refuse configs that do not learn from the same prepared cases."""
    (first, one), *others = configs.items()
    for name, other in others:
        if one.recipe != other.recipe or one.labels != other.labels:
            raise SystemExit(f"{name}: another recipe or labels than {first}")


def equal_minutes(patch_s: dict[str, float], epochs: int) -> dict[str, int]:
    """Return the epochs of each config that take as long as those of the first."""
    first = next(iter(patch_s.values()))
    return {name: max(1, round(epochs * first / seconds)) for name, seconds in patch_s.items()}


def report(found: Sequence[Contender], seeds: Sequence[int], folds: Sequence[int]) -> str:
    """Return minutes and epochs of each config, and the differences of all pairs, as Markdown."""
    scores = {each.name: each.scores(seeds, folds) for each in found}
    lines = ["| config | epochs | trainings | minutes, mean |", "|---|---:|---:|---:|"]
    for each in found:
        spent = list(each.minutes().values())
        mean = f"{statistics.mean(spent):.1f}" if spent else "-"
        done = len(scores[each.name])
        lines.append(f"| {each.name} | {each.config.training.epochs} | {done} | {mean} |")
    pairs = {
        f"{a.name} - {b.name}": differences(scores[a.name], scores[b.name])
        for a, b in combinations(found, 2)
    }
    return "\n".join(lines) + f"\n\n{difference_table(pairs)}"


def _epochs(configs: dict[str, Config], path: Path) -> dict[str, int]:
    """Return the epochs of each config; those of an earlier call where there was one."""
    known: dict[str, int] = {}
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
    if known.keys() != configs.keys():
        with measuring() as measure:
            times = [
                {name: _patch_s(config, measure) for name, config in configs.items()}
                for _ in range(_PROBES)
            ]
        patch_s = {name: statistics.median(each[name] for each in times) for name in configs}
        known = equal_minutes(patch_s, next(iter(configs.values())).training.epochs)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(known, indent=1) + "\n")
        said = ", ".join(f"{name} {seconds:.4f}" for name, seconds in patch_s.items())
        sys.stdout.write(f"a patch takes in the mean [s]: {said}\n")
    return known


def _patch_s(config: Config, measure: Measure) -> float:
    speed = measure(config)
    if not speed.how.startswith("measured"):
        raise SystemExit(f"steps could not be measured: {speed.how}")
    return flops_per_patch(config) * growth_share(config) / speed.flops_per_s


def parser(about: str | None) -> argparse.ArgumentParser:
    """Return what reads the words that every such trial takes."""
    made = argparse.ArgumentParser(description=str(about).splitlines()[0])
    made.add_argument("dataset", type=Path)
    made.add_argument("output", type=Path)
    made.add_argument("--folds", type=int, default=5)
    made.add_argument("--fold", type=int, action="append", help="only these; all unless given")
    made.add_argument("--seed", type=int, action="append", help="of training; 0 unless given")
    made.add_argument("--hours", type=float, default=1000.0, help="after which none is begun")
    return made


if __name__ == "__main__":
    reading = parser(__doc__)
    reading.add_argument("configs", nargs="+", metavar="CONFIG")
    arguments = reading.parse_args()
    trial({Path(name).stem: load_config(name) for name in arguments.configs}, arguments)
