"""One function over many cases, here or in other processes; results come as they are ready."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from vol3dseg.datasets.case import Case
from vol3dseg.errors import DatasetError
from vol3dseg.machine import limit_cores, usable_cores

Result = TypeVar("Result")
_Work = Callable[[Case], Result]
_Failed = Callable[[Case, DatasetError], Result]
_OUTSTANDING = 64  # cases handed to an executor of unknown size and not yet answered


class Workers(futures.Executor):
    """Worker processes that share the cores; where one is killed, all are replaced by new ones."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._pool = self._start()

    def submit(
        self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any
    ) -> futures.Future[Result]:
        """Hand over a call; the function and its arguments are pickled."""
        with _deaf_children():
            try:
                return self._pool.submit(fn, *args, **kwargs)
            except futures.BrokenExecutor:  # a pool with a killed process takes nothing more
                self._pool.shutdown()
                self._pool = self._start()
                return self._pool.submit(fn, *args, **kwargs)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the processes; where an error ends the block, at once and not after their cases."""
        if kind is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
        self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; see `concurrent.futures.Executor.shutdown`."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def _start(self) -> futures.ProcessPoolExecutor:
        shared = (usable_cores() // self.processes,)
        spawn = get_context("spawn")
        return futures.ProcessPoolExecutor(self.processes, spawn, limit_cores, shared)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes that are started not hear Ctrl-C, which each would answer with a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def worker_processes(
    workers: int | futures.Executor | None, cases: int
) -> Iterator[futures.Executor | None]:
    """Give an executor for a number of cases; None where this process alone is enough.

    `workers` is the most processes to start, by default one per core, or an executor to be used.
    """
    if isinstance(workers, futures.Executor):
        yield workers
    elif (processes := min(workers or usable_cores(), cases)) > 1:
        with Workers(processes) as pool:
            yield pool
    else:
        yield None


def over_cases(
    function: _Work[Result],
    cases: Sequence[Case],
    executor: futures.Executor | None,
    failed: _Failed[Result],
) -> Iterator[Result]:
    """Give the result for each case, in the order in which they are ready.

    Without `executor`, one case follows the other here. Only as many are handed over at a time as
    keep the workers busy. Where a worker is killed, the cases that were being worked on are tried
    again, each alone in a fresh process, before the others go on; `failed` gives what stands for
    the result of one whose worker was killed again. Raises DatasetError where no worker process
    can be started.
    """
    if executor is None:
        yield from map(function, cases)
        return
    left = iter(cases)
    while True:
        killed: list[Case] = []
        yield from _until_one_is_killed(function, left, executor, killed)
        if not killed:
            return
        for case in killed:
            yield _alone(function, case, failed)


def _until_one_is_killed(
    function: _Work[Result], left: Iterator[Case], executor: futures.Executor, killed: list[Case]
) -> Iterator[Result]:
    """Take cases from `left` and give their results; `killed` gets those that must be retried."""
    running: dict[futures.Future[Result], Case] = {}

    def submit(most: int) -> None:
        for case in islice(left, 0 if killed else most):
            try:
                running[executor.submit(function, case)] = case
            except futures.BrokenExecutor:
                killed.append(case)
                return

    try:
        # One more than there are workers, so that none is idle while a result is looked at.
        submit(executor.processes + 1 if isinstance(executor, Workers) else _OUTSTANDING)
        while running:
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                case = running.pop(future)
                if isinstance(future.exception(), futures.BrokenExecutor):
                    killed.append(case)
                else:
                    submit(1)
                    yield future.result()
    finally:
        for future in running:
            future.cancel()


def _alone(function: _Work[Result], case: Case, failed: _Failed[Result]) -> Result:
    with Workers(1) as worker:
        try:
            worker.submit(os.getpid).result()
        except futures.BrokenExecutor as error:
            raise DatasetError(
                "worker processes end as soon as they are started",
                expected="a script that starts work under `if __name__ == '__main__':` only",
                remedy="correct the script, or use one process",
            ) from error
        try:
            return worker.submit(function, case).result()
        except futures.BrokenExecutor:
            killed = DatasetError(
                "its worker process was killed, perhaps for want of memory, and again when the "
                "case was tried alone",
                where=f"case {case.id}",
                remedy="crop the scan, use a machine with more memory, or leave the case out",
            )
            return failed(case, killed)
