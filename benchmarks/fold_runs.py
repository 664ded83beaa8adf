"""Folds of several configs, trained one after the other, timed, and compared case by case.

What is done stays: whoever calls again goes on. A training is one call of `vol3dseg cross-validate`
for one fold, so it can be stopped at any moment.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.straight_line import run
from vol3dseg.config import Config
from vol3dseg.config.parsing import dump_config
from vol3dseg.files import write_text
from vol3dseg.reporting.comparison.paired_differences import Difference, paired_differences
from vol3dseg.reporting.score_files import CASE_MEAN, PartScores, read_part


@dataclass(frozen=True, slots=True)
class Contender:
    """One config in a trial.

    Parameters
    ----------
    name : str
    config : Config
    folder : Path
        Gets config.yaml, prepared/ unless another's is used, cv-<seed>/ and minutes.json.
    """

    name: str
    config: Config
    folder: Path

    @property
    def config_path(self) -> Path:
        """Where the config is written."""
        return self.folder / "config.yaml"

    def prepare(self, dataset: Path) -> Path:
        """Prepare a data set by the config, unless that is done; return the prepared folder."""
        self.write_config()
        prepared = self.folder / "prepared"
        if not (prepared / "index.json").is_file():
            run("preprocess", dataset, "-o", prepared, "--config", self.config_path)
        return prepared

    def write_config(self) -> None:
        """Write the config; one that a trial was begun with stays as it is."""
        text, path = dump_config(self.config), self.config_path
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise SystemExit(
                f"{path}: the trial was begun with another config; remove {self.folder}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)

    def cross_validation(self, seed: int) -> Path:
        """Return the folder of the folds that are trained with a seed."""
        return self.folder / f"cv-{seed}"

    def scores_folder(self, seed: int, fold: int) -> Path:
        """Return where the scores of a fold's held-out cases are."""
        return self.cross_validation(seed) / f"fold-{fold}" / "scores" / "test"

    def is_done(self, seed: int, fold: int) -> bool:
        """Tell whether a fold is trained, judged and timed."""
        scored = (self.scores_folder(seed, fold) / "summary.json").is_file()
        return scored and _key(seed, fold) in self.minutes()

    def complete(self, prepared: Path, seed: int, fold: int, folds: int) -> None:
        """Train a fold and judge it, or go on where that was interrupted."""
        if self.is_done(seed, fold):
            return
        words = ("-c", self.config_path, "--folds", folds, "--seed", seed, "--fold", fold)
        started = time.perf_counter()
        try:
            run("cross-validate", prepared, "-o", self.cross_validation(seed), *words, "--resume")
        finally:
            self._add(_key(seed, fold), (time.perf_counter() - started) / 60)

    def minutes(self) -> dict[str, float]:
        """Return how long each fold took so far, by seed and fold."""
        path = self.folder / "minutes.json"
        if not path.is_file():
            return {}
        found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def scores(
        self, seeds: Iterable[int], folds: Iterable[int]
    ) -> dict[tuple[int, int], PartScores]:
        """Return the scores of what is done, by seed and fold."""
        every = [(seed, fold) for seed in seeds for fold in folds]
        return {
            pair: read_part(self.scores_folder(*pair), "test")
            for pair in every
            if self.is_done(*pair)
        }

    def _add(self, key: str, minutes: float) -> None:
        known = self.minutes()
        known[key] = known.get(key, 0.0) + minutes
        write_text(self.folder / "minutes.json", json.dumps(known, indent=1) + "\n")


def together(parts: Sequence[PartScores]) -> PartScores:
    """Return all cases of several parts; the mean of a case that is in more than one.

    A mean over seeds is undefined where one of them is.
    """
    first = parts[0]
    dice: dict[str, dict[str, float]] = {}
    for name in first.structures:
        found: dict[str, list[float]] = {}
        for part in parts:
            for case, value in part.dice[name].items():
                found.setdefault(case, []).append(value)
        dice[name] = {case: float(np.mean(values)) for case, values in found.items()}
    return PartScores(first.part, dice, {}, first.empty)


def differences(
    first: Mapping[tuple[int, int], PartScores], second: Mapping[tuple[int, int], PartScores]
) -> tuple[Difference, ...]:
    """Return how two configs differ, first minus second, over what both have done; none if nothing.

    A case counts once: by its mean over seeds.
    """
    both = [pair for pair in first if pair in second]
    if not both:
        return ()
    ours, theirs = (together([scores[pair] for pair in both]) for scores in (first, second))
    return paired_differences(ours.dice, theirs.dice, (*ours.structures, CASE_MEAN))


def difference_table(rows: Mapping[str, Sequence[Difference]]) -> str:
    """Return differences as a Markdown table, a row for each pair of configs; empty if none is."""
    if not any(rows.values()):
        return ""
    names = list(dict.fromkeys(found.structure for every in rows.values() for found in every))
    lines = [f"| difference in Dice | {' | '.join(names)} | cases |"]
    lines.append("|---|" + "---:|" * (len(names) + 1))
    for title, every in rows.items():
        if every:
            cells = [f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]" for d in every]
            lines.append(f"| {title} | {' | '.join(cells)} | {every[-1].cases} |")
    return "\n".join(lines) + "\n"


def _key(seed: int, fold: int) -> str:
    return f"seed {seed}, fold {fold}"
