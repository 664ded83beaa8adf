"""Make things fail on purpose and print what was lost.

python -m benchmarks.faults [PART ...] [--folder trials/faults] [--every 1]

A part leaves its outcomes as FOLDER/outcomes/<part>.json, so that parts may be run one at a time;
the table has all that are there. The exit code is 1 if anything was lost.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.faults.full_disk import full_disk
from benchmarks.faults.injecting import inject
from benchmarks.faults.kills import kills
from benchmarks.faults.line import COMMANDS, Line
from benchmarks.faults.load import load as loads
from benchmarks.faults.memory_limit import memory_limit
from benchmarks.faults.outcome import Outcome, load, save, table
from benchmarks.faults.two_processes import two_processes

# Each gives its outcomes as they come.
Part = Callable[[Line], Iterable[Outcome]]
PARTS: Mapping[str, Part] = {
    **{f"calls-{command}": partial(inject, commands=(command,)) for command in COMMANDS},
    "kills": kills,
    "full-disk": full_disk,
    "two-processes": two_processes,
    "memory-limit": memory_limit,
    "load": loads,
}


def main(parts: list[str], folder: Path, every: int = 1) -> int:
    """Run parts, print the table of all that were run, and return the exit code.

    `every` leaves out calls, where somebody has less time: every so many-th is made to fail.
    """
    if unknown := [name for name in parts if name not in PARTS]:
        raise SystemExit(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    line = Line.make(folder / "line")
    for name in parts or PARTS:
        done: list[Outcome] = []
        part = PARTS[name]
        if every > 1 and isinstance(part, partial):
            part = partial(part, every=every)
        for outcome in part(line):
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
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    sys.exit(main(given.parts, given.folder, given.every))
