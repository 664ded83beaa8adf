"""Make things fail on purpose and print what was lost.

python -m benchmarks.faults [PART ...] [--folder trials/faults]

A part leaves its outcomes as FOLDER/outcomes/<part>.json, so that parts may be run one at a time;
the table has all that are there. The exit code is 1 if anything was lost.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks.faults.injecting import inject
from benchmarks.faults.line import Line
from benchmarks.faults.outcome import Outcome, load, save, table

# Each gives its outcomes as they come.
Part = Callable[[Line], Iterable[Outcome]]
PARTS: Mapping[str, Part] = {"calls": inject}


def main(parts: list[str], folder: Path) -> int:
    """Run parts, print the table of all that were run, and return the exit code."""
    if unknown := [name for name in parts if name not in PARTS]:
        raise SystemExit(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    line = Line.make(folder / "line")
    for name in parts or PARTS:
        done: list[Outcome] = []
        for outcome in PARTS[name](line):
            sys.stderr.write(table([outcome]))
            done.append(outcome)
            save(done, folder / "outcomes" / f"{name}.json")
    known = [folder / "outcomes" / f"{name}.json" for name in PARTS]
    outcomes = [outcome for path in known if path.exists() for outcome in load(path)]
    sys.stdout.write(table(outcomes))
    return int(any(outcome.lost for outcome in outcomes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--folder", type=Path, default=Path("trials/faults"))
    given = parser.parse_args()
    sys.exit(main(given.parts, given.folder))
