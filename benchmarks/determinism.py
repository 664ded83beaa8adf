"""How far labels are the same: over runs, threads, memory, processes, clusters and runtimes.

python -m benchmarks.determinism MODEL DATASET [--cases N] [--max-memory SIZE]...

Segments the first cases of a data set by each runtime and precision that is there, in every way
that docs/determinism.md speaks of, and prints a Markdown table: how many voxels have another label
than the first way gives, the lowest Dice of a class between the two in any case, and by how much a
probability differs at most. Ends with an error where a promise is broken: within one runtime and
precision all must be the same, except that onnxruntime rounds otherwise by other threads.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reaching_cluster import open_cluster
from vol3dseg.datasets.reading import read_volume
from vol3dseg.errors import DeviceError, MissingExtraError
from vol3dseg.formats import open_volume
from vol3dseg.inference import Device, Precision
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.predicting import predict
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import load_record

_RUNTIMES: Sequence[tuple[Device, Precision]] = (
    ("cpu", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("cuda", "float32"),
)
_HEAD = "| {} | labels that differ | lowest Dice of a class | largest difference in probability |\n"
_ROUNDED = 1e-5
_RULE = "|---|---:|---:|---:|\n"
_PROGRAM = "from vol3dseg.cli.main import main; main()"


@dataclass(frozen=True)
class Found:
    """What a network says of a case; probabilities are kept where they are at hand."""

    labels: NDArray[Any]
    probabilities: NDArray[np.float32] | None = None


Row = tuple[str, dict[str, Found], dict[str, Found]]  # a way, what it finds, and what it should


@dataclass
class Agreement:
    """How two ways agree, over all cases."""

    voxels: int = 0
    differing: int = 0
    dice: float = 1.0
    largest: float | None = 0.0

    def add(self, one: Found, other: Found) -> None:
        """Compare a case."""
        self.voxels += one.labels.size
        self.differing += int(np.count_nonzero(one.labels != other.labels))
        for value in np.unique(one.labels):
            ours, theirs = one.labels == value, other.labels == value
            both = 2 * np.count_nonzero(ours & theirs)
            self.dice = min(self.dice, both / (np.count_nonzero(ours) + np.count_nonzero(theirs)))
        if one.probabilities is None or other.probabilities is None:
            self.largest = None
        elif self.largest is not None:
            apart = float(np.abs(one.probabilities - other.probabilities).max())
            self.largest = max(self.largest, apart)

    def keeps_promise(self, runtime: str) -> bool:
        """Whether nothing differs, or in onnxruntime nothing but the rounding of probabilities."""
        rounded = (self.largest or 0.0) < _ROUNDED and runtime == "CPUExecutionProvider"
        return not self.differing and (rounded or not self.largest)

    def __str__(self) -> str:
        share = f"{self.differing} of {self.voxels}" if self.differing else "none"
        largest = "not kept" if self.largest is None else f"{self.largest:.1e}"
        largest = "0" if self.largest == 0 else largest
        return f"{share} | {self.dice:.6f} | {largest}"


@dataclass(frozen=True)
class Trial:
    """A model over cases, by one runtime and precision."""

    model: Path
    cases: Sequence[Case]
    device: Device
    precision: Precision
    folder: Path

    def predictor(self, threads: int = 0, max_memory_mb: float | None = None) -> Predictor:
        """Open the model."""
        return load_predictor(self.model, self.device, threads, self.precision, max_memory_mb)

    def held(self, predictor: Predictor, step: int = 1) -> dict[str, Found]:
        """Segment the cases one by one, from the first or the last, and keep probabilities."""
        found, names = {}, predictor.manifest.recipe.modalities
        for case in self.cases[::step]:
            made = predictor(read_volume(case, names), keep_probabilities=True)
            found[case.id] = Found(made.segmentation.array, made.probabilities)
        return found

    def written(self, name: str, predictor: Predictor, workers: Any = 1) -> dict[str, Found]:
        """Segment the cases into files, and read these."""
        folder = self.folder / f"{self.device}-{self.precision}-{name}"
        record = predict(predictor, list(self.cases), folder, workers=workers)
        for made in record.cases.values():
            if made.error:
                raise SystemExit(made.error)
        files = {case: folder / made.file for case, made in record.cases.items()}
        return {case: Found(open_volume(path).labels()[0]) for case, path in files.items()}

    def limited(self, limit: str) -> tuple[str, dict[str, Found]]:
        """Segment by a process with so much memory; return the plan of the first case as well."""
        folder = self.folder / f"{self.device}-{self.precision}-{limit}"
        inputs = [str(next(iter(case.images.values())).path.parent) for case in self.cases]
        words = ["predict", str(self.model), *inputs, "--output", str(folder)]
        words += ["--device", self.device, "--precision", self.precision, "--max-memory", limit]
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return "refused", {}
        record = load_record(folder)
        plan = next(iter(record.cases.values())).plan.partition(";")[0]
        files = {case: folder / made.file for case, made in record.cases.items()}
        return plan, {case: Found(open_volume(path).labels()[0]) for case, path in files.items()}


def rows(trial: Trial, first: dict[str, Found], limits: Sequence[str]) -> Iterator[Row]:
    """Give each way with how it agrees with the first, all in one runtime and precision."""
    predictor = trial.predictor()
    yield "another predictor, cases from the last to the first", trial.held(predictor, -1), first
    for threads in (1, 2, 4):
        name = "1 thread" if threads == 1 else f"{threads} threads"
        yield name, trial.held(trial.predictor(threads)), first
    files = trial.written("one", predictor)
    yield "two processes", trial.written("two", predictor, 2), files
    with suppress(MissingExtraError), open_cluster("local:2") as cluster:
        yield "two workers of a Dask cluster", trial.written("cluster", predictor, cluster), files
    for limit in limits:
        plan, found = trial.limited(limit)
        if found:
            yield f"--max-memory {limit}: {plan}", found, files


def compared(one: dict[str, Found], other: dict[str, Found]) -> Agreement:
    """Return how two ways agree over all cases."""
    agreement = Agreement()
    for case, found in one.items():
        agreement.add(other[case], found)
    return agreement


def main(model: Path, cases: Sequence[Case], limits: Sequence[str]) -> None:
    """Print the tables; exit with an error where a promise is broken."""
    firsts: dict[str, dict[str, Found]] = {}
    broken = []
    with tempfile.TemporaryDirectory() as name:
        for device, precision in _RUNTIMES:
            trial = Trial(model, cases, device, precision, Path(name))
            try:
                predictor = trial.predictor()
            except (DeviceError, MissingExtraError):
                continue
            runtime = predictor.origin.provider
            firsts[runtime] = first = trial.held(predictor)
            write(_HEAD.format(runtime) + _RULE)
            for title, found, base in rows(trial, first, limits):
                agreement = compared(found, base)
                write(f"| {title} | {agreement} |\n")
                if not agreement.keeps_promise(runtime):
                    broken.append(f"{runtime}, {title}: {agreement}")
            write("\n")
    reference, *others = firsts
    write(_HEAD.format(f"beside {reference}") + _RULE)
    for runtime in others:
        write(f"| {runtime} | {compared(firsts[runtime], firsts[reference])} |\n")
    if broken:
        raise SystemExit("\n".join(["not the same:", *broken]))


def write(text: str) -> None:
    """Print what is known, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--max-memory", action="append", default=[])
    given = parser.parse_args()
    main(given.model, find_cases(given.dataset)[: given.cases], given.max_memory)
