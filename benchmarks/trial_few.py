"""A few crops from scratch, and the same from a model of other crops, in equally many steps.

python -m benchmarks.trial_few CROPS_FOLDER [OUTPUT] [--cases 8] [--draws 3] [--hours H]

A quarter of the crops is held out for all. The model to start from learns from the others by the
preset crops32, but for those that are drawn: each draw of a few is trained on by its own, with the
preset's settings from scratch and with those of the preset fine-tune from the model. What is done
stays, so the trial may be stopped and called again.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.fold_runs import difference_table, differences, together
from benchmarks.straight_line import changed_config, run
from vol3dseg.config import load_config
from vol3dseg.config.parsing import dump_config, parse_config
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.layouts.table import write_table
from vol3dseg.datasets.splits import Split
from vol3dseg.files import write_text
from vol3dseg.reporting.score_files import PartScores, read_part

_HELD_OUT = 0.25
_WAYS = ("scratch", "from the model")


def divided(cases: list[str], few: int, draws: int) -> tuple[Split, list[Split]]:
    """Return the split of the model to start from, and those of the draws; all test on the same."""
    shuffled = random.Random(0).sample(cases, len(cases))
    held = round(_HELD_OUT * len(cases))
    test, left = shuffled[:held], shuffled[held:]
    drawn = [left[few * n : few * (n + 1)] for n in range(draws)]
    others = left[few * draws :]
    if len(others) < few:
        raise SystemExit(f"{len(cases)} cases are too few for {draws} draws of {few}")
    return _split(others, test), [_split(each, test) for each in drawn]


def _split(train: list[str], test: list[str]) -> Split:
    return Split(train=tuple(sorted(train)), test=tuple(sorted(test)))


def main(crops: Path, folder: Path, few: int, draws: int, hours: float) -> None:
    """Train what is missing, for so many hours, and print what is known by then."""
    ends = time.monotonic() + 3600 * hours
    cases = {case.id: case for case in find_cases(crops) if case.label is not None}
    whole, parts = divided(list(cases), few, draws)
    model = _trained(cases, folder / "model", "crops32", whole)
    tuned = load_config("fine-tune", lambda: load_config("crops32")).training
    steps = {"epochs": tuned.epochs, "steps_per_epoch": tuned.steps_per_epoch}
    scratch = folder / "scratch.yaml"
    changed_config("crops32", {"training": steps}, scratch)
    scores: dict[str, dict[tuple[int, int], PartScores]] = {way: {} for way in _WAYS}
    for number, part in enumerate(parts, start=1):
        if time.monotonic() > ends:
            sys.stdout.write(f"\n{draws + 1 - number} draws are left; call again\n")
            break
        at = folder / f"draw-{number}"
        made = (
            _trained(cases, at / "scratch", scratch, part),
            _trained(cases, at / "tuned", "fine-tune", part, "--from", model / "run"),
        )
        for way, each in zip(_WAYS, made, strict=True):
            scores[way][0, number] = _scored(each, crops)
    sys.stdout.write(f"\n{report(scores, _scored(model, crops), folder)}")


def report(
    scores: dict[str, dict[tuple[int, int], PartScores]], model: PartScores, folder: Path
) -> str:
    """Return mean Dice of each way and of the model itself, and their difference, as Markdown."""
    rows = {"the model itself": model}
    rows |= {way: together(list(found.values())) for way, found in scores.items() if found}
    names = list(model.structures)
    lines = [f"| mean Dice | {' | '.join(names)} | minutes |", "|---|" + "---:|" * (len(names) + 1)]
    for way, found in rows.items():
        means = (np.nanmean(list(found.dice[name].values())) for name in names)
        minutes = _minutes(folder, way)
        lines.append(f"| {way} | {' | '.join(f'{mean:.3f}' for mean in means)} | {minutes:.1f} |")
    ours, theirs = scores[_WAYS[1]], scores[_WAYS[0]]
    title = f"{_WAYS[1]} - {_WAYS[0]}"
    return "\n".join(lines) + f"\n\n{difference_table({title: differences(ours, theirs)})}"


def _trained(
    cases: Mapping[str, Case], folder: Path, config: str | Path, split: Split, *words: object
) -> Path:
    """Prepare the cases of a split and train a run, unless that is done, and note the minutes."""
    if (folder / "minutes.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    split.write(folder / "split.json")
    write_table([cases[name] for name in split.ids], folder / "cases.csv")
    run("preprocess", folder / "cases.csv", "-o", folder / "prepared", "--config", "crops32")
    base = load_config(config, lambda: load_config("crops32")).model_dump(mode="json")
    base["split"] |= {"file": str((folder / "split.json").resolve())}
    made = parse_config(base, str(config))
    write_text(folder / "config.yaml", dump_config(made))
    resume = ["--resume"] if (folder / "run" / "last.keras").is_file() else []
    spent = run(
        "train",
        folder / "prepared",
        "-o",
        folder / "run",
        "-c",
        folder / "config.yaml",
        *words,
        *resume,
    )
    write_text(folder / "minutes.json", json.dumps(spent / 60))
    return folder


def _scored(folder: Path, crops: Path) -> PartScores:
    """Return the scores of the held-out crops, by the deployed model."""
    report = folder / "report"
    if not (report / "test" / "summary.json").is_file():
        held = ("--split", folder / "split.json")
        run("export-onnx", folder / "run", "-o", folder / "model.onnx")
        run(
            "predict", folder / "model.onnx", crops, "-o", folder / "predictions", *held,
            "--part", "test", "--resume",
        )  # fmt: skip
        run("evaluate", folder / "predictions", crops, "-o", report, *held)
    return read_part(report / "test", "test")


def _minutes(folder: Path, way: str) -> float:
    name = {"the model itself": "model", _WAYS[0]: "draw-*/scratch", _WAYS[1]: "draw-*/tuned"}[way]
    spent = [json.loads(path.read_text()) for path in folder.glob(f"{name}/minutes.json")]
    return float(sum(spent) / len(spent))


if __name__ == "__main__":
    reading = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reading.add_argument("crops", type=Path)
    reading.add_argument("output", type=Path, nargs="?", default=Path("trials/few"))
    reading.add_argument("--cases", type=int, default=8)
    reading.add_argument("--draws", type=int, default=3)
    reading.add_argument("--hours", type=float, default=1000.0, help="after which none is begun")
    words = reading.parse_args()
    main(words.crops, words.output, words.cases, words.draws, words.hours)
