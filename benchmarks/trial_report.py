"""The report's four iterations and a fifth run of ours on BraTS 2020 crops, judged alike.

python -m benchmarks.trial_report CROPS_FOLDER [OUTPUT [EPOCHS]]

All five share one prepared store, split, seed, network and limit of epochs. The fifth is
iteration 1 with all four modalities and Dice + cross-entropy. Each is exported, and its test part
is segmented and scored through ONNX. As in the report's table, iteration 1 keeps its best epoch and
the others their last, so 1 against 4 differs in that as well. A run that was finished before is not
trained again.
"""

import sys
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.straight_line import run
from vol3dseg.files import write_text
from vol3dseg.reporting.comparison.paired_differences import Difference, paired_differences
from vol3dseg.reporting.comparison.runs import RunSummary, read_run
from vol3dseg.reporting.score_files import CASE_MEAN

EPOCHS = 20  # the presets keep the report's 50 and 35
# What a crop of 32 voxels needs, and nothing else: alike for all runs.
_CROPS: dict[str, Any] = {
    "recipe": {"crop": "none", "patch_size": [32, 32, 32]},
    "model": {"depth": 3},
    "training": {"foreground": 0, "augment": {"flip_axes": ["i", "j", "k"]}},
}
_OURS: dict[str, Any] = {"modalities": None, "loss": "dice_cross_entropy"}
_ITERATIONS = tuple(f"iteration-{number}" for number in range(1, 5))
_FOUR = "four-modalities"
# The finding of the report, at like batch and epochs: two modalities against T1 alone.
_PAIRS = [
    ("T1ce + FLAIR against T1, batch 1", "iteration-1", "iteration-4"),
    ("T1ce + FLAIR against T1, batch 16 and 32", "iteration-3", "iteration-2"),
    *((f"four modalities against {name}", _FOUR, name) for name in _ITERATIONS),
]


def main(crops: Path, folder: Path, epochs: int) -> None:
    """Run the trial and print what the report found beside what was found here."""
    started = time.perf_counter()
    texts = {name: _config(f"report/{name}", epochs) for name in _ITERATIONS}
    texts[_FOUR] = _config("report/iteration-1", epochs, _OURS)
    configs = [folder / "configs" / f"{name}.yaml" for name in texts]
    for path, text in zip(configs, texts.values(), strict=True):
        write_text(path, text)
    prepared, runs = folder / "prepared", folder / "runs"
    run("preprocess", crops, "-o", prepared, "--config", configs[0])
    choice = [word for config in configs for word in ("--config", config)]
    run("train", prepared, "-o", runs, *choice, "--resume")
    for path in configs:
        _judge(runs / path.stem, crops, folder / "predictions" / path.stem)
    names = [runs / path.stem for path in configs]
    run("compare", *names, "-o", folder / "comparison", "--part", "test")
    summaries = {path.name: read_run(path) for path in names}
    sys.stdout.write(f"\n{findings(summaries)}\n")
    trained = ", ".join(f"{n} {s.manifest.members[0].epochs}" for n, s in summaries.items())
    minutes = (time.perf_counter() - started) / 60
    sys.stdout.write(f"epochs of at most {epochs}: {trained}; {minutes:.0f} minutes\n")


def findings(runs: dict[str, RunSummary]) -> str:
    """Return a Markdown table of the pairs: mean difference in Dice, interval, p and cases."""
    foreground = next(iter(runs.values())).manifest.labels.foreground
    structures = (*foreground, CASE_MEAN)
    lines = [
        "| test part, difference in Dice | " + " | ".join(structures) + " |",
        "|---|" + "---:|" * len(structures),
    ]
    for title, first, second in _PAIRS:
        scores = [runs[name].scores_of("test") for name in (first, second)]
        found = paired_differences(*(each.dice for each in scores), structures)
        lines.append(f"| {title} | " + " | ".join(map(_cell, found)) + " |")
    return "\n".join(lines)


def _cell(found: Difference) -> str:
    low, high, p = found.low, found.high, found.p
    return f"{found.mean:+.3f} [{low:+.3f}, {high:+.3f}], p = {p:.2g}, n = {found.cases}"


def _config(preset: str, epochs: int, training: dict[str, Any] | None = None) -> str:
    own = {**_CROPS["training"], "epochs": epochs, **(training or {})}
    return yaml.safe_dump({"extends": preset, **_CROPS, "training": own}, sort_keys=False)


def _judge(trained: Path, crops: Path, predictions: Path) -> None:
    """Export a run, then segment and score its test part through ONNX."""
    model, split = trained / "model.onnx", trained / "split.json"
    run("export-onnx", trained, "-o", model)
    run("predict", model, crops, "-o", predictions, "--split", split, "--part", "test")
    run("evaluate", predictions, crops, "-o", trained / "scores", "--split", split)


if __name__ == "__main__":
    _, crops, *more = sys.argv
    folder, epochs = [*more, *("trials/report", EPOCHS)[len(more) :]]
    main(Path(crops), Path(folder), int(epochs))
