"""A command in a child that has imported what it needs already, so that it may be killed early.

The process that forks must not have started a thread.
"""

import importlib
import multiprocessing.context
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NEEDED = (
    "vol3dseg.cli.main",
    "vol3dseg.preprocessing.prepare_dataset",
    "vol3dseg.training.fit",
    "vol3dseg.training.cross_validation",
    "vol3dseg.export.to_onnx",
    "vol3dseg.inference.predicting",
    "vol3dseg.inference.runtimes.onnx_backend",
    "vol3dseg.reporting.score_predictions",
    "tf2onnx",
)
PATIENCE_S = 600.0  # after which a command hangs


@dataclass(slots=True)
class Child:
    """A command that runs; its process leads a group of its own."""

    pid: int
    said: Path  # what it prints
    code: int | None = None  # once it has ended

    def kill(self, group: bool = True) -> None:
        """Kill it, with its workers or alone."""
        (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = PATIENCE_S) -> int | None:
        """Return its exit code once it has ended, negative if by a signal; None if it has not."""
        deadline = time.monotonic() + seconds
        while self.code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            left = deadline - time.monotonic()
            if ended:
                self.code = os.waitstatus_to_exitcode(status)
            elif left <= 0:
                return None
            else:
                time.sleep(min(0.002, left))
        return self.code

    @property
    def words(self) -> str:
        """What it has printed last."""
        return " | ".join(self.said.read_text("utf-8", "replace").splitlines()[-3:])


def start(
    words: Sequence[str],
    folder: Path,
    first: Callable[[], None] = lambda: None,
    forks: bool = False,
) -> Child:
    """Begin `vol3dseg WORDS` in a folder; `first` is called in the child before.

    With `forks`, its own processes are forked too, since importing TensorFlow takes as long as all
    that they have to do.
    """
    for name in _NEEDED:
        importlib.import_module(name)
    said = folder / "said.txt"
    if pid := os.fork():
        with suppress(OSError):  # the child does the same; whoever comes first
            os.setpgid(pid, pid)
        return Child(pid, said)
    try:
        _become(said, folder, forks)
        first()
        code = _run(words)
    except BaseException:  # noqa: BLE001 - the child must not go on with what the parent does
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _become(said: Path, folder: Path, forks: bool) -> None:
    os.setpgid(0, 0)
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(here, there)
    os.chdir(folder)
    if forks:
        contexts: dict[str, Any] = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
        contexts["spawn"] = contexts["fork"]


def _run(words: Sequence[str]) -> int:
    from vol3dseg.cli.main import main

    sys.argv = ["vol3dseg", *words]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
