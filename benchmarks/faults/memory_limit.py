"""Memory that the kernel limits: address space refused, and workers killed by a control group."""

import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from benchmarks.faults.ending import finish, unclear
from benchmarks.faults.line import OUT, Line
from benchmarks.faults.outcome import Outcome
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.geometry import Geometry

# Of each command, the limits of its address space [MB]: from too little to import NumPy on.
LIMITS: Mapping[str, Sequence[int]] = {
    "preprocess": range(40, 361, 8),
    "predict": range(40, 481, 8),
    "evaluate": range(40, 361, 8),
    "train": range(100, 4001, 150),
    "export-onnx": range(100, 4001, 150),
}
_GROUPS = Path("/sys/fs/cgroup/memory")
_GROUP_MB = 600
_LARGE = (512, 512, 420)  # voxels: 420 MB as float32, and as much again for what is made of them
_SECONDS = 300.0


def memory_limit(line: Line, limits: Mapping[str, Sequence[int]] = LIMITS) -> Iterator[Outcome]:
    """Give the outcome of each command in little address space, then of workers in a group."""
    for command, each in limits.items():
        lost, struck = [], 0
        for most_mb in each:
            said = _limited(line, command, most_mb)
            struck += said is not None
            if said:
                lost.append(f"{most_mb} MB: {said}")
        yield Outcome("address space limited", command, struck, tuple(lost))
    yield killed_workers(line)


def _limited(line: Line, command: str, most_mb: int) -> str | None:
    """Run a command in so much address space, then again; None where that is enough."""
    folder = line.fresh(f"limit-{command}")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (most_mb * 2**20,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    code, said = _run(line.words(command, folder), folder, limit)
    if code == 0:
        return None
    # However it ended, nothing may be lost by it.
    found = (unclear(code, said, ("memory",)), finish(line, command, (), folder)[1])
    return "; ".join(filter(None, found))


def killed_workers(line: Line) -> Outcome:
    """Prepare small cases and a large one by two workers in a group that has no room for it."""
    name, folder = "control group, --workers 2", line.fresh("group")
    data = shutil.copytree(line.folder / "dataset", folder / "data")
    grid, rng = Geometry(_LARGE, np.eye(4)), np.random.default_rng(0)
    for modality in ("flair", "t1ce"):
        voxels = rng.integers(1, 900, _LARGE, np.int16)
        nifti.write(data / "Large" / f"Large_{modality}.nii.gz", voxels, grid)
    words = ["preprocess", str(data), "-o", OUT, "--config", str(line.folder / "config.yaml")]
    try:
        with group(_GROUP_MB) as join:
            code, said = _run([*words, "--workers", "2"], folder, join)
    except OSError as error:
        return Outcome(name, "preprocess", 0, note=f"left out: {error}")
    lost = unclear(code, said, ("memory",))
    for wanted in ("case Large: ", "3 cases prepared"):
        if not lost and wanted not in said:
            lost = f"does not say {wanted!r}: {said}"
    return Outcome(name, "preprocess", 1, (lost,) if lost else ())


@contextmanager
def group(most_mb: int) -> Iterator[Callable[[], None]]:
    """Give what puts a process into a new control group (version 1) with so much memory."""
    made = _GROUPS / "vol3dseg-trial"
    made.mkdir()
    try:
        (made / "memory.limit_in_bytes").write_text(str(most_mb * 2**20))
        with suppress(OSError):  # a kernel without swap has no such limit
            (made / "memory.memsw.limit_in_bytes").write_text(str(most_mb * 2**20))
        yield lambda: (made / "cgroup.procs").write_text("0") and None
    finally:
        while True:  # the last of its processes may still be ending
            with suppress(OSError):
                made.rmdir()
                break
            time.sleep(0.1)


def _run(words: Sequence[str], folder: Path, first: Callable[[], None]) -> tuple[int | None, str]:
    """Run a command from the beginning; return its exit code, None if it hangs, and its words."""
    code = "from vol3dseg.cli.main import main; main()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=folder, preexec_fn=first, timeout=_SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout
