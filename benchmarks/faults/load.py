"""Two thousand small cases through `preprocess` and `predict`, one in a hundred of them spoilt.

What is held: every spoilt case is named and no other; no file and no thread is left open; the last
hundred cases take no more work than the first, and memory within 5 % of theirs.
"""

import gzip
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from benchmarks.faults.line import OUT, Line
from benchmarks.faults.outcome import Outcome
from vol3dseg.datasets.phantom import make_phantoms
from vol3dseg.process_starts import process_starts

CASES, EVERY = 2000, 100
_SHAPE = (24, 22, 20)
_DIFFERENT = 20  # phantoms that are made; the others are copies
_SPOILT = 37  # of each hundred
MOST_MEMORY, MOST_WORK = 1.05, 1.25  # of the last hundred to the first


@dataclass(slots=True)
class Account:
    """What a process and its children have taken, hundred by hundred of their cases."""

    memory_mb: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    left: str = ""  # open that was not before
    failed: list[str] = field(default_factory=list)


def load(
    line: Line, cases: int = CASES, every: int = EVERY, workers: Sequence[int] = (1, 2)
) -> Iterator[Outcome]:
    """Give the outcome of each command, in one process and with two workers."""
    folder = line.fresh("load")
    spoilt = many_cases(folder / "dataset", cases, every)
    model = line.folder / "export-onnx" / OUT / "model.onnx"
    ways = {"preprocess": line.folder / "config.yaml", "predict": model}
    for command, how in ways.items():
        for number in workers:
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                out = folder / f"{command}-{number}"
                task = alone.submit(
                    account_of, command, folder / "dataset", out, how, number, every
                )
                account = task.result()
            yield judged(f"{cases} cases, workers {number}", command, account, spoilt, cases)


def judged(
    fault: str, command: str, account: Account, spoilt: Sequence[str], cases: int
) -> Outcome:
    """Return what is not as it should be."""
    lost = []
    if sorted(account.failed) != sorted(spoilt):
        lost.append(f"failed {sorted({*account.failed} ^ {*spoilt})} besides or instead")
    for what, found, most in (
        ("memory", account.memory_mb, MOST_MEMORY),
        ("work", account.cpu_s[1:], MOST_WORK),
    ):
        if found[-1] > most * found[0]:
            lost.append(f"{what} of each hundred: {', '.join(f'{n:.1f}' for n in found)}")
    if account.left:
        lost.append(account.left)
    memory, cpu, wall = account.memory_mb, account.cpu_s, account.wall_s
    note = (
        f"{len(account.failed)} of {cases} named; memory {memory[0]:.0f} to {memory[-1]:.0f} MB, "
        f"work {cpu[1]:.2f} to {cpu[-1]:.2f} s a hundred, {wall[1]:.1f} to {wall[-1]:.1f} s by the "
        "clock"
    )
    return Outcome(fault, command, cases, tuple(lost), note)


def many_cases(
    folder: Path, cases: int, every: int, modalities: Sequence[str] = ("flair", "t1ce")
) -> list[str]:
    """Make a data set of copies of a few phantoms; return which were spoilt."""
    few = folder.parent / "few"
    make_phantoms(few, _DIFFERENT, seed=2, shape=_SHAPE)
    spoilt, ways = [], (_cut_off, _with_nan, _of_another_grid)
    for number in range(cases):
        source, name = f"Phantom_{number % _DIFFERENT + 1:03d}", f"Case_{number:05d}"
        for path in [few / source / f"{source}_{kind}.nii.gz" for kind in (*modalities, "seg")]:
            target = folder / name / path.name.replace(source, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if number % every == _SPOILT % every:
            ways[len(spoilt) % len(ways)](folder / name / f"{name}_flair.nii.gz")
            spoilt.append(name)
    return spoilt


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _with_nan(path: Path) -> None:
    import nibabel
    import numpy as np

    image = nibabel.Nifti1Image.from_filename(path)
    array = image.get_fdata(dtype=np.float32)
    array[3, 4, 5] = np.nan
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(array, image.affine).to_bytes(), 1))


def _of_another_grid(path: Path) -> None:
    import nibabel
    import numpy as np

    array = np.ones((8, 9, 10), np.int16)
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(array, np.eye(4)).to_bytes(), 1))


def account_of(
    command: str, dataset: Path, out: Path, how: Path, workers: int, every: int
) -> Account:
    """Run a command in this process, and look at it after every case."""
    account = Account()
    if workers > 1:
        process_starts()  # of worker processes: its server stays until this process ends
    before = _open()
    memory: list[float] = []
    last = [_cpu_s(), time.monotonic()]

    def look() -> None:
        memory.append(_memory_mb())
        if len(memory) == every:
            account.memory_mb.append(statistics.median(memory))
            memory.clear()
            now = [_cpu_s(), time.monotonic()]
            account.cpu_s.append(now[0] - last[0])
            account.wall_s.append(now[1] - last[1])
            last[:] = now

    account.failed = _RUNS[command](dataset, out, how, workers, look)
    after = _open()
    account.left = ", ".join(sorted(after - before))
    return account


def _preprocess(
    dataset: Path, out: Path, how: Path, workers: int, look: Callable[[], None]
) -> list[str]:
    from vol3dseg.preprocessing.prepare_dataset import preprocess

    return list(
        preprocess(dataset, out, how, workers, progress=lambda outcome, total: look()).failed
    )


def _predict(
    dataset: Path, out: Path, how: Path, workers: int, look: Callable[[], None]
) -> list[str]:
    from vol3dseg.inference.loading import load_predictor
    from vol3dseg.inference.predicting import predict

    predictor = load_predictor(how, device="cpu", threads=1)
    made = predict(
        predictor, dataset, out, progress=lambda case_id, record: look(), workers=workers
    )
    return [name for name, record in made.cases.items() if record.error]


_RUNS = {"preprocess": _preprocess, "predict": _predict}


def _processes() -> list[Path]:
    """Return this process and all that have come of it, in /proc."""
    found, more = [], [str(os.getpid())]
    while more:
        process = Path("/proc") / more.pop()
        found.append(process)
        more += (process / "task" / process.name / "children").read_text().split()
    return found


def _memory_mb() -> float:
    pages = sum(int((process / "statm").read_text().split()[1]) for process in _processes())
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _cpu_s() -> float:
    fields = [(process / "stat").read_text().rpartition(")")[2].split() for process in _processes()]
    return sum(int(of[11]) + int(of[12]) for of in fields) / os.sysconf("SC_CLK_TCK")


def _open() -> set[str]:
    """Return what this process has open: files by their names, and its threads and children."""
    files = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    threads = len(list(Path("/proc/self/task").iterdir()))
    return (
        {name for name in files if name.startswith("/") and not name.startswith("/proc")}
        | {f"thread {number}" for number in range(threads)}
        | {f"process {number}" for number in range(len(_processes()))}
    )
