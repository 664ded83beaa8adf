"""Memory and time that plans promise, beside what training takes.

python -m benchmarks.planning OUTPUT DATASET... [--minutes N] [--memory 8GB] [--epochs 3] [--steps]

Each data set is planned, prepared, and trained for a few epochs of its plan, in processes of their
own. What is compared is the plan for so many epochs: start and end weigh more in it than in a whole
training. With --steps an epoch has fewer steps. Needs a quiet machine.
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.straight_line import run
from vol3dseg.cli.options import SizeType
from vol3dseg.config.parsing import dump_config
from vol3dseg.planning.make_plan import MINUTES, Plan, plan

_MEMORY, _TIME = 0.25, 0.30  # tolerances
_HEADER = (
    "| data set | patch | batch | memory planned [MB] | measured | ratio | time planned [s] "
    "| measured | ratio |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n"
)


def main() -> None:
    """Plan and train each data set, and print the table."""
    asked = _arguments()
    shutil.rmtree(asked.output, ignore_errors=True)
    rows, kept = [], True
    for dataset in asked.datasets:
        folder = asked.output / dataset.resolve().name
        made = plan(dataset, folder / "plan.yaml", asked.memory, asked.minutes, workers=None)
        sys.stdout.write(f"{made}\n")
        row, good = _trained(dataset, folder, _shorter(made, asked.epochs, asked.steps))
        rows.append(row)
        kept &= good
        sys.stdout.write(f"\n{_HEADER}{''.join(rows)}")
    if not kept:
        raise SystemExit(f"beyond {_MEMORY:.0%} of memory or {_TIME:.0%} of time")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--memory", type=lambda text: SizeType().convert(text, None, None))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int)
    return parser.parse_args()


def _shorter(made: Plan, epochs: int, steps: int | None) -> Plan:
    changes = {"epochs": epochs} | ({"steps_per_epoch": steps} if steps else {})
    return replace(made, config=made.config.chosen(**changes))


def _trained(dataset: Path, folder: Path, made: Plan) -> tuple[str, bool]:
    """Prepare and train by a plan; return a row, and whether the plan was kept."""
    config = folder / "config.yaml"
    config.write_text(dump_config(made.config), encoding="utf-8")
    run("preprocess", dataset, "-o", folder / "prepared", "-c", config, "-j", os.cpu_count() or 1)
    seconds = run("train", folder / "prepared", "-o", folder / "run")
    text = (folder / "run" / "environment.json").read_text(encoding="utf-8")
    peak = json.loads(text)["memory_mb"]["peak"]
    if peak is None:
        raise SystemExit("this system does not tell the peak of a process; run it on Linux")
    memory, time = made.memory.total_mb / peak, made.seconds / seconds
    sides = "x".join(map(str, made.config.recipe.patch_size))
    row = (
        f"| {folder.name} | {sides} | {made.config.training.batch_size} | "
        f"{made.memory.total_mb:.0f} | {peak} | {memory:.2f} | {made.seconds:.0f} | "
        f"{seconds:.0f} | {time:.2f} |\n"
    )
    return row, abs(memory - 1) <= _MEMORY and abs(time - 1) <= _TIME


if __name__ == "__main__":
    main()
