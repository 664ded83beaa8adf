"""Worker processes, kept alive and asked one at a time; see `contestants/protocol.py`."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

ENVIRONMENTS = Path(".bench")
OURS = "../.venv"  # the environment of `make setup`, which trains
_ROOT = Path(__file__).resolve().parent.parent
# Set on some machines to tame OpenBLAS; here every library takes what suits the processor.
_UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "nnUNet_def_n_proc",
)
_TAIL = 5  # lines of a worker's stderr that are shown when it ends


class WorkerError(RuntimeError):
    """A worker could not be started, failed at what it was asked, or is gone."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker says of one call.

    Parameters
    ----------
    seconds : float
        Of the call alone [s].
    peak_mb : float or None
        Peak memory of worker and children during the call [MB]; None where it is not known.
    facts : dict
    """

    seconds: float
    peak_mb: float | None
    facts: dict[str, Any]


class Worker:
    """One process of one contestant.

    Parameters
    ----------
    python : Path
        Of the contestant's environment.
    module : str
        That is run.
    settings : mapping
        Passed to it as JSON.
    log : Path
        Gets what the worker prints.
    threads : int
        That libraries are told to use.

    Attributes
    ----------
    versions : mapping from package to version
    loading : Reply
        Of starting the process and loading what it needs.

    Raises
    ------
    WorkerError
        It ended before it was ready.
    """

    def __init__(
        self, python: Path, module: str, settings: Mapping[str, Any], log: Path, threads: int
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._module, self._log = module, log
        started = time.perf_counter()
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [str(python), "-m", module, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                cwd=_ROOT,
                env=environment(threads),
            )
        self._stdin = cast("IO[str]", self._process.stdin)
        self._stdout = cast("IO[str]", self._process.stdout)
        ready = self._hear()
        self.versions: dict[str, str] = ready["versions"]
        self.loading = Reply(time.perf_counter() - started, ready["peak_mb"], {})

    def ask(self, call: str, **arguments: Any) -> Reply:
        """Let the worker do something, and wait for it.

        Raises
        ------
        WorkerError
            It says that it failed, or it is gone.
        """
        try:
            self._stdin.write(json.dumps({"call": call, **arguments}) + "\n")
            self._stdin.flush()
        except (BrokenPipeError, ValueError) as error:  # gone, or closed since it is gone
            raise self._gone() from error
        said = self._hear()
        if "error" in said:
            raise WorkerError(f"{self._module}: {call}: {said['error']}; see {self._log}")
        return Reply(said["seconds"], said["peak_mb"], said["facts"])

    def close(self) -> None:
        """End the process and wait for it."""
        for pipe in (self._stdin, self._stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _hear(self) -> dict[str, Any]:
        """Return the next object that the worker says; imports may print other things before."""
        for line in self._stdout:
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                return said
        raise self._gone()

    def _gone(self) -> WorkerError:
        self.close()
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = " | ".join(lines[-_TAIL:]) or "nothing"
        return WorkerError(
            f"{self._module} ended with code {self._process.returncode}; its last words: {said}"
        )


def environment(threads: int) -> dict[str, str]:
    """Return this process's variables, with those set that decide about threads."""
    kept = {name: value for name, value in os.environ.items() if name not in _UNSET}
    return {**kept, **dict.fromkeys(_THREADS, str(threads))}


def python_of(name: str) -> Path | None:
    """Return the interpreter of an environment of `make`, if it is there."""
    path = _ROOT / ENVIRONMENTS / name / "bin" / "python"
    return path if path.exists() else None
