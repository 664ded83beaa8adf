"""A pair of networks against the second of them alone: time, memory and Dice, files to file.

python -m benchmarks.trial_two_stage CROPS_FOLDER WHOLE_CASES_FOLDER [OUTPUT] [--rounds 3]

Two tasks. The preset crops32 on whole BraTS cases, with a network that finds where to look; that
has learned from these very cases, since there are no others. And a small organ in a CT of 512 x 512
x 600 voxels, with networks that have learned from others. What is trained stays.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bodies import write_body
from benchmarks.straight_line import changed_config, run
from vol3dseg.config.parsing import dump_config, parse_config
from vol3dseg.files import write_text

_ORGAN: dict[str, Any] = {
    "labels": {
        "classes": [
            {"name": "background", "read": [0], "write": 0},
            {"name": "organ", "read": [1], "write": 1},
        ]
    },
    "recipe": {
        "modalities": ["image"],
        "crop": "none",
        "spacing_mm": [1.5, 1.5, 1.5],
        "normalisation": {"method": "window", "low": -160, "high": 240},
        "patch_size": [64, 64, 64],
    },
    "split": {"validation": 0.0, "test": 0.0},
    "model": {"depth": 3, "width": 16},
    "training": {
        "epochs": 10,
        "steps_per_epoch": 30,
        "batch_size": 2,
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup_epochs": 1,
        "ema": 0.99,
        "model_checkpoint": False,
        "augment": {"rotate_degrees": 15, "scale": [0.85, 1.2]},
    },
}
_TRAINED, _TESTED = (160, 160, 190), (512, 512, 600)
_BODIES = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """One way to segment the cases of a task."""

    seconds: float  # of all cases, files to file
    peak_mb: float
    dice: dict[str, float]


def main(crops: Path, whole: Path, folder: Path, rounds: int) -> None:
    """Train what is missing, measure both ways in turn, and print the tables."""
    good = True
    for name, models, cases, references in (
        ("two whole BraTS cases", _brats(crops, whole, folder / "brats"), whole, whole),
        ("a small organ in a CT", *_body(folder / "body")),
    ):
        found = measured(models, cases, references, folder, rounds)
        sys.stdout.write(f"\n{name}:\n\n{report(found)}")
        good &= kept(found)
    if not good:
        raise SystemExit("less than 3 times as fast, more memory, or Dice lower by over 0.005")


def kept(found: dict[str, Measured]) -> bool:
    """Tell whether a pair does what is asked of it."""
    alone, pair = found["alone"], found["pair"]
    loses = max(alone.dice[name] - pair.dice[name] for name in alone.dice)
    return 3 * pair.seconds <= alone.seconds and pair.peak_mb < alone.peak_mb and loses <= 0.005


def report(found: dict[str, Measured]) -> str:
    """Return both ways as a Markdown table."""
    names = list(found["alone"].dice)
    lines = [f"| | s | peak [MB] | {' | '.join(names)} |", "|---|" + "---:|" * (len(names) + 2)]
    for way, each in found.items():
        dice = " | ".join(f"{each.dice[name]:.3f}" for name in names)
        lines.append(f"| {way} | {each.seconds:.1f} | {each.peak_mb:.0f} | {dice} |")
    ratio = found["alone"].seconds / found["pair"].seconds
    return "\n".join(lines) + f"\n\n{ratio:.1f} times as fast\n"


def measured(
    models: dict[str, Path], cases: Path, references: Path, folder: Path, rounds: int
) -> dict[str, Measured]:
    """Segment cases by each model in turn, several times, each time in a process of its own."""
    records: dict[str, list[dict[str, Any]]] = {way: [] for way in models}
    for _ in range(rounds):
        for way, model in models.items():
            output = folder / "predictions" / way
            shutil.rmtree(output, ignore_errors=True)
            run("predict", model, cases, "-o", output)
            records[way].append(json.loads((output / "predictions.json").read_text()))
    found = {}
    for way in models:
        report_folder = folder / "report" / way
        shutil.rmtree(report_folder, ignore_errors=True)
        run("evaluate", folder / "predictions" / way, references, "-o", report_folder)
        scores = json.loads((report_folder / "summary.json").read_text())["structures"]
        found[way] = Measured(
            statistics.median(_seconds(each) for each in records[way]),
            statistics.median(_peak_mb(each) for each in records[way]),
            {name: each["dice"]["mean"] for name, each in scores.items()},
        )
    return found


def _seconds(record: dict[str, Any]) -> float:
    return sum(sum(case["seconds"].values()) for case in record["cases"].values())


def _peak_mb(record: dict[str, Any]) -> float:
    return max(case["peak_mb"] for case in record["cases"].values())


def _brats(crops: Path, whole: Path, folder: Path) -> dict[str, Path]:
    """Return the preset's network alone, and as a pair."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    changed_config("crops32", {"split": {"validation": 0.0, "test": 0.0}}, config)
    if not (folder / "run" / "manifest.json").is_file():
        run("preprocess", crops, "-o", folder / "prepared", "--config", "crops32")
        run("train", folder / "prepared", "-o", folder / "run")
    return _pair(whole, config, folder)


def _body(folder: Path) -> tuple[dict[str, Path], Path, Path]:
    """Return networks for the organ, the CT, and where it is labelled."""
    data, config = folder / "data", folder / "config.yaml"
    for number in range(_BODIES):
        name = f"body_{number:02}.nii.gz"
        write_body(data / "images" / name, data / "labels" / name, _TRAINED, 2.5, number)
    test = folder / "test"
    image, label = (test / kind / "ct.nii.gz" for kind in ("images", "labels"))
    write_body(image, label, _TESTED, 0.8, 100)
    write_text(config, dump_config(parse_config(_ORGAN, "the trial")))
    if not (folder / "run" / "manifest.json").is_file():
        run("preprocess", data, "-o", folder / "prepared", "--config", config)
        run("train", folder / "prepared", "-o", folder / "run")
    return _pair(data, config, folder), test, test


def _pair(data: Path, config: Path, folder: Path) -> dict[str, Path]:
    """Train the network that finds where to look from a data set, and export both ways."""
    files = {way: folder / f"{way}.onnx" for way in ("alone", "pair")}
    if not files["pair"].is_file():
        locator, whole = folder / "locator", folder / "prepared-whole"
        run("preprocess", data, "-o", whole, "--config", config)
        if not (locator / "locating.json").is_file():
            run("train", whole, "-o", locator, "--locate", "-c", config)
        run("export-onnx", folder / "run", "-o", files["alone"])
        run("export-onnx", folder / "run", "-o", files["pair"], "--locator", locator)
    return files


def _words(given: Sequence[str] | None = None) -> argparse.Namespace:
    reading = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reading.add_argument("crops", type=Path)
    reading.add_argument("whole", type=Path)
    reading.add_argument("output", type=Path, nargs="?", default=Path("trials/two-stage"))
    reading.add_argument("--rounds", type=int, default=3)
    return reading.parse_args(given)


if __name__ == "__main__":
    words = _words()
    main(words.crops, words.whole, words.output, words.rounds)
