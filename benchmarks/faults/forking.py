"""A process that has imported what commands need, and runs each command in a child of its own.

python -m benchmarks.faults.forking MODULE ...

It reads a `Request` as a line of JSON from standard input and answers with an exit code, negative
where the child was killed by that signal, or null where it had to be, since it took too long.
"""

import ctypes
import importlib
import json
import multiprocessing.context
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.faults.control import VARIABLE


def serve() -> list[str] | None:
    """Answer requests until there are no more; in a child, return the command that it is to run."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _begin(request)
            return list(request["words"])
        sys.stdout.write(f"{json.dumps(_exit_code(child, request['seconds']))}\n")
        sys.stdout.flush()
    return None


def _begin(request: dict[str, Any]) -> None:
    """Make this process one that was begun for a command alone."""
    os.setsid()
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(here, there)
    os.chdir(request["folder"])
    os.environ["TMPDIR"] = tempfile.tempdir = str(Path(request["folder"]) / "tmp")
    if request["forks"]:
        # Importing TensorFlow takes as long as all that a fold has to do; nothing else differs.
        contexts: dict[str, Any] = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
        contexts["spawn"] = contexts["fork"]
    os.environ[VARIABLE] = request["control"]
    ctypes.CDLL(None).faults_map(os.fsencode(request["control"]))


def _exit_code(child: int, seconds: float) -> int | None:
    deadline, ended, status = time.monotonic() + seconds, 0, 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.005)
    if not ended:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if (words := serve()) is not None:
        from vol3dseg.cli.main import main

        sys.argv = ["vol3dseg", *words]
        main()
