"""Our training step against those of nnU-Net and MONAI: seconds, samples, arithmetic, starvation.

python -m benchmarks.training [CONFIG=DATASET]... [--precision P]... [--rounds N] [--json FILE]

A CONFIG is a preset or a file. Needs .venv and `make bench-environments`; rows of an environment
that is missing are left out, by name. What each row is stands in docs/bench.md.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, usable_cores
from benchmarks.measuring import Host, Measured, measure
from benchmarks.rows import Contestant
from benchmarks.straight_line import run
from benchmarks.training_table import Loop, peaks, training_table
from benchmarks.workers import OURS
from vol3dseg.config import Config, load_config
from vol3dseg.config.parsing import dump_config
from vol3dseg.files import write_text

_SHARED = Path("../shared/data")
_DATA = (f"hippocampus={_SHARED / 'hippocampus'}", f"crops32={_SHARED / 'brats20-crops'}")
_OTHERS = (("nnU-Net", "nnunet_training"), ("MONAI", "monai_training"))
BASELINES = tuple(f"{name}, float32" for name, _ in _OTHERS)


def main(words: argparse.Namespace) -> None:
    """Measure each config, print its table, write everything."""
    machine, done, versions = describe_machine(), {}, {}
    sys.stdout.write(f"{machine}; {words.threads} threads, {words.rounds} rounds\n")
    for pair in words.configs or _DATA:
        name, _, data = pair.partition("=")
        config = whole_steps(name)
        folder = words.work.resolve() / Path(name).stem
        prepared, path = _prepared(config, Path(data), folder)
        entries = measure(
            [
                each
                for each in contestants(config, prepared, path, words)
                if words.only in each.name
            ],
            words.rounds,
            Host(words.threads, folder / "logs"),
        )
        loops = [Loop.of(entry, config.training.batch_size) for entry in entries]
        sys.stdout.write(f"\n{training_table(_title(name, config), loops, BASELINES)}")
        sys.stdout.write(f"\n{peaks(loops)}")
        done[name] = [asdict(loop) for loop in loops]
        versions |= _versions(entries)
        if words.json:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            facts = {"made": now, "machine": machine, "versions": versions, "configs": done}
            write_text(words.json, json.dumps(facts, indent=1) + "\n")


def whole_steps(name: str) -> Config:
    """Return a config whose every step sees whole patches, as those of the others do."""
    return load_config(name).chosen(grow_patch=None)


def contestants(
    config: Config, prepared: Path, path: Path, words: argparse.Namespace
) -> list[Contestant]:
    """Return who takes part: ours in each precision, the others in both layouts as well."""
    model = config.model
    shared = {"threads": words.threads, "steps": words.steps}
    ours = {**shared, "config": str(path), "prepared": str(prepared)}
    channels = len(config.model_recipe.modalities)
    theirs = {
        **shared,
        "shape": [config.training.batch_size, *config.recipe.patch_size, channels],
        "classes": len(config.labels.classes),
        "widths": list(model.widths),
        "kernels": [list(kernel) for kernel in model.level_kernels],
        "strides": [[1, 1, 1], *(list(stride) for stride in model.level_strides)],
    }
    found = [
        Contestant(f"ours, {p}", OURS, "ours_training", {**ours, "precision": p})
        for p in words.precision
    ]
    for name, module in _OTHERS:
        for p in ("float32", "bfloat16"):
            for layout, last in (("", False), (", channels last", True)):
                settings = {**theirs, "precision": p, "channels_last": last}
                found.append(Contestant(f"{name}, {p}{layout}", "torch", module, settings))
    return found


def _prepared(config: Config, data: Path, folder: Path) -> tuple[Path, Path]:
    """Prepare a data set, unless that was done before with this config; return both paths."""
    path, prepared, text = folder / "config.yaml", folder / "prepared", dump_config(config)
    if not (prepared / "index.json").is_file() or path.read_text(encoding="utf-8") != text:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        run("preprocess", data, "-o", prepared, "--config", path)
    return prepared, path


def _title(name: str, config: Config) -> str:
    sides = " x ".join(map(str, config.recipe.patch_size))
    model = config.model
    return (
        f"{name}: batch {config.training.batch_size} of {sides}, base {model.width}, depth "
        f"{model.depth}, {model.norm} norm"
    )


def _versions(entries: Sequence[Measured]) -> dict[str, Any]:
    return {entry.contestant.environment: dict(entry.versions) for entry in entries}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("configs", nargs="*", metavar="CONFIG=DATASET")
    parser.add_argument("--precision", action="append", help="of ours; may be said again")
    parser.add_argument("--only", default="", help="contestants whose names hold this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="that are timed in a round")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--work", type=Path, default=Path(".bench/training"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.precision = arguments.precision or ["float32", "bfloat16"]
    main(arguments)
