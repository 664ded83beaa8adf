"""Harm files, read them, and tell what became of them; see the package."""

import argparse
import os
import sys
import time
from pathlib import Path

from tests.fuzzing.children import Job, Result, fuzz
from tests.fuzzing.families import FAMILIES, SHARES


def main(words: list[str]) -> int:
    """Fuzz, print a table, and return 1 if a promise was broken."""
    asked = _parsed(words)
    started = time.perf_counter()
    shares = {name: SHARES[name] for name in asked.only or FAMILIES}
    jobs = [
        Job(name, asked.seed, range(asked.first, asked.first + count), asked.keep, asked.seconds)
        for name, share in shares.items()
        if (count := round(asked.count * share / sum(shares.values())))
    ]
    results = fuzz(jobs, asked.workers)
    for line in _lines(results):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{time.perf_counter() - started:.0f} s, seed {asked.seed}\n")
    return int(any(result.findings for result in results.values()))


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the same one makes the same files")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--count", type=int, default=500, help="files in all")
    parser.add_argument("--only", choices=FAMILIES, action="append", help="may be given again")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=10, help="that a file may take")
    parser.add_argument("--keep", type=Path, help="a folder where the files are left")
    return parser.parse_args(words)


def _lines(results: dict[str, Result]) -> list[str]:
    lines = [f"{'family':8}{'files':>8}{'read':>8}{'refused':>9}{'broken':>8}"]
    for name, result in results.items():
        read, refused = result.outcomes["read"], result.outcomes["refused"]
        broken = len(result.findings)
        files = read + refused + broken
        lines.append(f"{name:8}{files:8}{read:8}{refused:9}{broken:8}")
    return lines + [str(finding) for r in results.values() for finding in r.findings]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
