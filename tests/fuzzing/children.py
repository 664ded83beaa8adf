"""Files are read in child processes: whatever a file does to its reader, the fuzzer goes on."""

import multiprocessing
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from tests.fuzzing.families import FAMILIES
from tests.fuzzing.mutations import harmed
from tests.fuzzing.promise import BrokenPromise, judge
from tests.fuzzing.sample import Family

_START = 120.0  # that a child may take to import everything and read whole files [s]
_ROOM = 512 * 2**20  # that a child may take beyond what it has after reading whole files [bytes]
_PER_CHILD = 500  # files, after which a fresh one goes on


@dataclass(frozen=True, slots=True)
class Finding:
    """A file that was neither read right nor refused in one line."""

    family: str
    seed: int
    number: int
    what: str

    def __str__(self) -> str:
        again = f"--only {self.family} --seed {self.seed} --first {self.number} --count 1"
        return f"{self.what}\n  again: python -m tests.fuzzing {again}"


@dataclass(slots=True)
class Result:
    """What became of the files of a family.

    Parameters
    ----------
    outcomes : Counter
        How many were "read", and how many "refused".
    findings : list of Finding
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """Which files one child reads.

    Parameters
    ----------
    family : str
    seed : int
    numbers : range
    keep : Path or None
        Where the files are left, each in a folder of its number.
    seconds : float
        That one file may take.
    """

    family: str
    seed: int
    numbers: range
    keep: Path | None = None
    seconds: float = 10.0

    def after(self, number: int) -> "Job":
        """Return what is left to do behind a number."""
        return replace(self, numbers=range(number + 1, self.numbers.stop))


Work = Callable[[Connection, Job], None]  # says "ready", then after each file how it went


def fuzz(jobs: Iterable[Job], workers: int, work: Work | None = None) -> dict[str, Result]:
    """Read harmed files and return what became of them, by family.

    Parameters
    ----------
    jobs : iterable of Job
    workers : int
        How many children there are at a time.
    work : callable or None
        What a child does, if not this.
    """
    parts = [part for job in jobs for part in _parts(job)]
    results: dict[str, Result] = {part.family: Result() for part in parts}
    with ThreadPoolExecutor(workers) as pool:
        followed = pool.map(partial(_followed, work or _work), parts)
        for part, outcomes in zip(parts, followed, strict=True):
            for number, outcome in outcomes:
                if outcome in ("read", "refused"):
                    results[part.family].outcomes[outcome] += 1
                else:
                    found = Finding(part.family, part.seed, number, outcome)
                    results[part.family].findings.append(found)
    return results


def _parts(job: Job) -> Sequence[Job]:
    starts = range(0, len(job.numbers), _PER_CHILD)
    return [replace(job, numbers=job.numbers[start : start + _PER_CHILD]) for start in starts]


def _followed(work: Work, job: Job) -> list[tuple[int, str]]:
    """Have children read files until all are done; one that dies is followed by another."""
    outcomes: list[tuple[int, str]] = []
    while job.numbers:
        said, end = _one_child(work, job)
        outcomes += said
        if end:
            number = job.numbers.start + len(said)
            outcomes.append((number, end))
            job = job.after(number)
        else:
            job = job.after(job.numbers.stop)
    return outcomes


def _one_child(work: Work, job: Job) -> tuple[list[tuple[int, str]], str]:
    """Return what a child said of its files, and how it ended; empty if it went through."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=work, args=(theirs, job), daemon=True)
    child.start()
    theirs.close()
    said: list[tuple[int, str]] = []
    try:
        _await_start(ours, job)
        for number in job.numbers:
            if not ours.poll(job.seconds):
                return said, f"hangs: more than {job.seconds:g} s"
            said.append((number, ours.recv()))
    except EOFError:
        child.join(10)
        return said, f"kills its process: exit code {child.exitcode}"
    finally:
        child.kill()
        child.join()
    return said, ""


def _await_start(pipe: Connection, job: Job) -> None:
    """Wait until a child has read whole files; if it cannot, it says why on stderr."""
    try:
        if pipe.poll(_START) and pipe.recv() == "ready":
            return
    except EOFError:
        pass
    raise RuntimeError(f"a child for {job.family} cannot read whole files")


def _work(pipe: Connection, job: Job) -> None:
    """Read files, and say after each how it went."""
    family = FAMILIES[job.family]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "file"
        for sample in family.samples:
            _fresh(folder)
            family.read(sample.save(folder))
        errors = _Stderr(Path(temporary) / "stderr")
        _limit_memory()
        pipe.send("ready")
        for number in job.numbers:
            if job.keep is not None:
                folder = job.keep / job.family / str(number)
            pipe.send(_outcome(family, Random(f"{job.seed} {number}"), folder, errors))


def _fresh(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


class _Stderr:
    """What libraries in C++ write on stderr, which Python does not see."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        sys.stderr.flush()
        os.dup2(self._file.fileno(), 2)

    def check(self) -> None:
        """Refuse anything that was written since it was last asked."""
        sys.stderr.flush()
        self._file.seek(0)
        said = self._file.read().decode(errors="replace")
        self._file.truncate(0)
        self._file.seek(0)
        if said:
            raise BrokenPromise(f"writes on stderr: {' '.join(said.split())}")


def _limit_memory() -> None:
    """Let this process take little more than it has, where a system can hold it to that."""
    if sys.platform != "linux":
        return
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _ROOM, taken + _ROOM))


def _outcome(family: Family, rng: Random, folder: Path, errors: _Stderr) -> str:
    _fresh(folder)
    sample = harmed(family, rng)
    try:
        outcome = judge(family.read, sample.save(folder))
        errors.check()
        return outcome
    except BrokenPromise as error:
        return f"{sample.name}: {error}"
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return f"{sample.name}: {type(error).__name__} in {where}: {' '.join(str(error).split())}"
