"""The straight line as commands, one after the other, timed."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from vol3dseg.config import Config, load_config, parse_config


def changed_config(preset: str, changes: dict[str, dict[str, Any]], path: Path) -> Config:
    """Write a preset with some fields replaced to `path`, and return it."""
    data = load_config(preset).model_dump(mode="json")
    for section, fields in changes.items():
        data[section].update(fields)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return parse_config(data, str(path))


def run(*arguments: object) -> float:
    """Run `vol3dseg` with these arguments in front of the user; return the time it took [s]."""
    command = [sys.executable, "-c", "from vol3dseg.cli.main import main; main()"]
    words = [str(argument) for argument in arguments]
    sys.stdout.write(f"\n$ vol3dseg {' '.join(words)}\n")
    sys.stdout.flush()
    started = time.perf_counter()
    subprocess.run([*command, *words], check=True)
    return time.perf_counter() - started


def learn(dataset: Path, config: Path, folder: Path) -> dict[str, float]:
    """Run preprocess, train and export-onnx into `folder`; return their times [s]."""
    prepared, trained, model = folder / "prepared", folder / "run", folder / "model.onnx"
    return {
        "preprocess": run("preprocess", dataset, "-o", prepared, "--config", config),
        "train": run("train", prepared, "-o", trained),
        "export-onnx": run("export-onnx", trained, "-o", model),
    }


def judge(folder: Path, dataset: Path, name: str, *selection: object) -> dict[str, Any]:
    """Predict and evaluate `dataset` with the model in `folder`; return summary.json."""
    predictions, report = folder / f"predictions-{name}", folder / f"report-{name}"
    run("predict", folder / "model.onnx", dataset, "-o", predictions, *selection)
    run("evaluate", predictions, dataset, "-o", report)
    result: dict[str, Any] = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    return result
