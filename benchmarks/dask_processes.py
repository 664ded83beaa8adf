"""A Dask scheduler and its workers on loopback, each a process that can be killed."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

_ROOT = Path(__file__).resolve().parent.parent
_LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
_STARTED_S = 60.0


class DaskProcesses:
    """A scheduler, at first without workers.

    Parameters
    ----------
    folder : Path
        Where they stand, and keep what they need.

    Attributes
    ----------
    address : str
    scheduler : Popen
    workers : list of Popen
    """

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address, self.folder = f"tcp://127.0.0.1:{self._port}", folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self._started: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.schedule()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.wait()

    def schedule(self) -> subprocess.Popen[bytes]:
        """Start a scheduler at the address, and wait until it listens."""
        process = self._start("dask_scheduler", "--port", str(self._port))
        ended = time.monotonic() + _STARTED_S
        while time.monotonic() < ended:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return process
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("the scheduler does not listen")

    def work(self, *before: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread; `before` are words before its command."""
        facts = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        self.workers.append(self._start("dask_worker", self.address, *facts, before=before))
        return self.workers[-1]

    def await_workers(self, number: int) -> None:
        """Wait until so many workers have come."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(number, timeout=_STARTED_S)

    def _start(self, name: str, *words: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        command = [*before, sys.executable, "-m", f"distributed.cli.{name}", *words, *_LOOPBACK]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._started.append(process)
        return process
