"""Five-fold cross-validation on the Decathlon hippocampus cases, beside nnU-Net and MONAI.

python -m benchmarks.trial_accuracy DATASET [OUTPUT] [--config NAME] [--against NAME] [--folds 5]

A config is a preset or a file. What is done is not done again. `--against` trains a second config
on the same folds and tells the paired difference.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.fold_runs import Contender, difference_table, differences, together
from vol3dseg.config import load_config
from vol3dseg.evaluation.intervals import mean_interval
from vol3dseg.reporting.score_files import PartScores

STRUCTURES = ("anterior", "posterior")
# Five folds of all 260 cases of Task04; theirs with hours of GPU, MONAI's fold by fold.
OTHERS: Mapping[str, tuple[float, float]] = {
    "nnU-Net 3d_fullres": (0.8975, 0.8807),
    "MONAI DynUNet": (0.8983, 0.8816),
}
MONAI_FOLDS = (
    (0.9007, 0.8930, 0.8985, 0.8979, 0.9015),
    (0.8835, 0.8774, 0.8826, 0.8818, 0.8828),
)
ASKED, MOST_MINUTES = (0.898, 0.881), 30


def main(words: argparse.Namespace) -> None:
    """Train all folds, of two configs in turn if there are two, and print the tables."""
    names = [words.config, *([words.against] if words.against else [])]
    found = [Contender(Path(n).stem, load_config(n), words.output / Path(n).stem) for n in names]
    prepared = [each.prepare(words.dataset) for each in found]
    folds = range(1, words.folds + 1)
    for fold in folds:
        for each, folder in zip(found, prepared, strict=True):
            each.complete(folder, each.config.training.seed, fold, words.folds)
    scores = [each.scores([each.config.training.seed], folds) for each in found]
    for each, parts in zip(found, scores, strict=True):
        sys.stdout.write(f"\n{accuracy_table(each.name, list(parts.values()))}\n")
        sys.stdout.write(f"{verdict(list(parts.values()), list(each.minutes().values()))}\n")
    if words.against:
        first, second = (_by_fold(parts) for parts in scores)
        rows = {f"{found[0].name} - {found[1].name}": differences(first, second)}
        sys.stdout.write(f"\n{difference_table(rows)}")


def accuracy_table(name: str, parts: Sequence[PartScores]) -> str:
    """Return the Dice of each fold and of all cases, with intervals, as Markdown."""
    pooled = together(parts)
    lines = [f"| {name} | {' | '.join(STRUCTURES)} | MONAI's fold |", "|---|---:|---:|---:|"]
    for number, part in enumerate(parts):
        cells = [f"{_mean(part, each):.4f}" for each in STRUCTURES]
        theirs = " / ".join(f"{dice[number]:.4f}" for dice in MONAI_FOLDS if number < len(dice))
        lines.append(f"| fold {number + 1} | {' | '.join(cells)} | {theirs} |")
    ends = [mean_interval(list(pooled.dice[each].values())) for each in STRUCTURES]
    cells = [
        f"{_mean(pooled, each):.4f} [{low:.4f}, {high:.4f}]"
        for each, (low, high) in zip(STRUCTURES, ends, strict=True)
    ]
    lines.append(f"| pooled, {len(pooled.cases)} cases | {' | '.join(cells)} | |")
    lines += [f"| {who} | {a:.4f} | {p:.4f} | |" for who, (a, p) in OTHERS.items()]
    return "\n".join(lines)


def verdict(parts: Sequence[PartScores], minutes: Sequence[float]) -> str:
    """Return whether pooled Dice and minutes are what is asked of them."""
    pooled = together(parts)
    said = []
    for name, least in zip(STRUCTURES, ASKED, strict=True):
        reached = "reached" if round(_mean(pooled, name), 4) >= least else "missed"
        said.append(f"{name} {least}: {reached}")
    longest = max(minutes)
    kept = "kept" if longest <= MOST_MINUTES else "missed"
    said.append(
        f"{MOST_MINUTES} minutes a fold: {kept} (mean {statistics.mean(minutes):.1f}, longest "
        f"{longest:.1f}, judging included)"
    )
    return "asked: " + "; ".join(said)


def _mean(part: PartScores, structure: str) -> float:
    return statistics.mean(part.dice[structure].values())


def _by_fold(parts: Mapping[tuple[int, int], PartScores]) -> dict[tuple[int, int], PartScores]:
    """Return scores without their seed, which may be another in each config."""
    return {(0, fold): part for (_, fold), part in parts.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path, nargs="?", default=Path("trials/accuracy"))
    parser.add_argument("--config", default="hippocampus")
    parser.add_argument("--against")
    parser.add_argument("--folds", type=int, default=5)
    main(parser.parse_args())
