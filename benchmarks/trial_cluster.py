"""Prepare 200 small cases on two workers of which one is killed; then two workers against one.

python -m benchmarks.trial_cluster [CASES] [--only preparing|scoring]

All prepared cases must be those of one process, byte for byte. What is timed is scoring with
surface distances, which the disk does not bound; each worker has a core of its own, as a machine
has. That alone needs a quiet machine.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from benchmarks.dask_processes import DaskProcesses
from vol3dseg.config import load_config
from vol3dseg.datasets.phantom import make_phantoms
from vol3dseg.datasets.reaching_cluster import open_cluster
from vol3dseg.preprocessing.index import load_index, verify
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.reporting.score_predictions import evaluate

CASES, SHAPE = 200, (32, 36, 28)
SCORED, DIFFERENT, SCORED_SHAPE = 60, 6, (160, 180, 140)


def main(cases: int, only: str | None) -> None:
    """Run the trial, or a part of it, and print its table."""
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if only != "scoring":
            rows.append(prepare(folder / "preparing", cases))
        if only != "preparing":
            rows += score(folder / "scoring", min(cases, SCORED))
    lines = [["", "result"], ["---", "---"], *rows]
    sys.stdout.write("".join(f"| {' | '.join(line)} |\n" for line in lines))


def prepare(folder: Path, cases: int) -> list[str]:
    """Prepare in one process, and on two workers of which one is killed half-way."""
    make_phantoms(folder / "data", cases=cases, seed=0, shape=SHAPE)
    config = load_config("brats2020")
    preprocess(folder / "data", folder / "here", config)
    told: list[str] = []
    with _workers(folder, 2) as dask, open_cluster(dask.address) as cluster:

        def kill(outcome: object, total: int) -> None:
            told.append(str(outcome))
            if len(told) == total // 2:
                dask.workers[0].kill()

        index = preprocess(folder / "data", folder / "there", config, cluster, progress=kill)
    one, two = (_digests(folder / name) for name in ("here", "there"))
    if one != two or len(index.cases) != cases or len(told) != cases:
        raise SystemExit(f"not the same: {len(index.cases)} of {cases} cases, told {len(told)}")
    return [f"{cases} cases on two workers, one killed half-way", "the bytes of one process"]


def score(folder: Path, cases: int) -> list[list[str]]:
    """Score on one worker and on two, in turn, twice; return the times and their ratio."""
    _pairs(folder / "all", cases)
    _pairs(folder / "few", 2)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for number in (1, 2, 2, 1):
        with _workers(folder, number) as dask, open_cluster(dask.address) as cluster:
            _score(folder / "few", cluster)  # workers import what they need
            started = time.perf_counter()
            _score(folder / "all", cluster)
            seconds[number].append(time.perf_counter() - started)
    one, two = (min(seconds[number]) for number in (1, 2))
    return [
        [f"{cases} cases scored on one worker", f"{one:.1f} s"],
        ["on two", f"{two:.1f} s, {one / two:.2f} times as fast"],
    ]


def _pairs(folder: Path, cases: int) -> None:
    """Make references, and predictions that equal them: a few phantoms under many names."""
    few = folder / "few"
    make_phantoms(few, cases=min(cases, DIFFERENT), seed=1, shape=SCORED_SHAPE)
    known = sorted(few.iterdir())
    (folder / "predictions").mkdir()
    for number in range(cases):
        source, name = known[number % len(known)], f"Case_{number:03d}"
        (folder / "data" / name).mkdir(parents=True)
        for path in source.iterdir():
            (folder / "data" / name / path.name.replace(source.name, name)).hardlink_to(path)
        label = source / f"{source.name}_seg.nii.gz"
        (folder / "predictions" / f"{name}.nii.gz").hardlink_to(label)


def _score(folder: Path, workers: Executor) -> None:
    evaluate(folder / "predictions", folder / "data", config="brats2020", workers=workers)


def _workers(folder: Path, number: int) -> DaskProcesses:
    """Start so many workers, each on a core of its own where there are as many."""
    (folder / "dask").mkdir(exist_ok=True)
    dask, cores = DaskProcesses(folder / "dask"), sorted(os.sched_getaffinity(0))
    for core in _repeated(cores, number):
        dask.work("taskset", "--cpu-list", str(core))
    dask.await_workers(number)
    return dask


def _repeated(values: Sequence[int], number: int) -> list[int]:
    return [values[n % len(values)] for n in range(number)]


def _digests(folder: Path) -> dict[str, str]:
    """Return the digest of each case, whose file is as the index says."""
    index = load_index(folder)
    for entry in index.cases:
        verify(folder, entry)
    return {entry.id: entry.sha256 for entry in index.cases}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=CASES)
    parser.add_argument("--only", choices=("preparing", "scoring"))
    given = parser.parse_args()
    main(given.cases, given.only)
