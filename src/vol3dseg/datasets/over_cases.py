"""One function over many cases, or trainings: here, in other processes, on other machines."""

import os
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent import futures
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from vol3dseg.datasets.cluster import Cluster, Item, as_cluster, was_killed
from vol3dseg.errors import (
    DatasetError,
    MemoryLimitError,
    UnexpectedError,
    Vol3dSegError,
    failing_alone,
)
from vol3dseg.machine import require_memory, share_machine, usable_cores
from vol3dseg.process_starts import deaf_children, end_with_parent, process_starts

Result = TypeVar("Result")
_Work = Callable[[Item], Result]
_Failed = Callable[[Item, Vol3dSegError], Result]
_Submit = Callable[[Item], futures.Future[Result]]
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
        with deaf_children():
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
        shared = self.processes, usable_cores()
        return futures.ProcessPoolExecutor(self.processes, process_starts(), _begin, shared)


def _begin(processes: int, cores: int) -> None:
    """Begin a worker."""
    end_with_parent()
    share_machine(processes, cores)


@contextmanager
def worker_processes(
    workers: int | futures.Executor | None, cases: int
) -> Iterator[futures.Executor | None]:
    """Give an executor for a number of cases; None where this process alone is enough.

    `workers` is the most processes to start, by default one per core, or an executor to be used.
    """
    if isinstance(workers, futures.Executor):
        try:
            yield workers
        except BaseException:
            if isinstance(workers, Cluster):  # before others clear up what its workers leave
                workers.kill()
            raise
    elif (processes := min(workers or usable_cores(), cases)) > 1:
        with Workers(processes) as pool:
            yield pool
    else:
        yield None


@contextmanager
def heard_here(
    executor: futures.Executor, progress: Callable[[str], None]
) -> Iterator[Callable[[str], None]]:
    """Give what workers call in place of `progress`: its lines come here from other machines."""
    pool = as_cluster(executor)
    if isinstance(pool, Cluster):
        with pool.hearing(progress) as say:
            yield say
    else:
        yield progress


def over_cases(
    function: _Work[Item, Result],
    cases: Sequence[Item],
    executor: futures.Executor | None,
    failed: _Failed[Item, Result],
    reads: Sequence[Path] = (),
    writes: Path | None = None,
    ahead: bool = True,
    kind: str = "case",
) -> Generator[Result]:
    """Give the result for each case, in the order in which they are ready.

    Without `executor`, one case follows the other here. Only as many are handed over at a time as
    keep the workers busy; with `ahead` some wait, so that none is idle between two. Where a worker
    is killed, the cases that were being worked on are tried again, each alone in a fresh process,
    before the others go on. `failed` gives what stands for the result of one whose worker was
    killed again, that lacked memory, or that ended in what is no error of ours: the others go on.
    `reads` is what the function reads beside the files of a case, `writes` the folder that it
    writes into: workers elsewhere must see both. `kind` is what a case is called in errors.
    Raises what the function raises of ours, DatasetError where no worker process can be started,
    ClusterError where those elsewhere are lost or do not see the files.
    """
    work, pool = _Guarded(function, kind), None if executor is None else as_cluster(executor)
    results: Generator[Result | _Failure[Item]]
    with ExitStack() as stack:
        if pool is None:
            results = (work(case) for case in cases)
        elif isinstance(pool, Cluster):
            submit = stack.enter_context(pool.serving(work, reads, writes))
            results = _trying_again(submit, cases, pool, ahead, partial(_alone_there, pool, submit))
        else:
            workers = pool
            results = _trying_again(
                lambda case: workers.submit(work, case), cases, pool, ahead, partial(_alone, work)
            )
        for result in stack.enter_context(closing(results)):
            yield failed(result.case, result.error) if isinstance(result, _Failure) else result


@dataclass(frozen=True, slots=True)
class _Failure(Generic[Item]):
    """What stands for the result of a case that has none."""

    case: Item
    error: Vol3dSegError


@dataclass(frozen=True, slots=True)
class _Guarded(Generic[Item, Result]):
    """A function, of which no case is the end of the others."""

    function: _Work[Item, Result]
    kind: str

    def __call__(self, case: Item) -> Result | _Failure[Item]:
        try:
            with failing_alone(f"{self.kind} {case.id}", "the work on it"):
                require_memory()
                return self.function(case)
        except (MemoryLimitError, UnexpectedError) as error:
            return _Failure(case, error)


def _trying_again(
    submit: _Submit[Item, Result],
    cases: Sequence[Item],
    executor: futures.Executor,
    ahead: bool,
    alone: _Work[Item, Result],
) -> Generator[Result | _Failure[Item]]:
    left = iter(cases)
    while True:
        killed: list[Item] = []
        yield from _until_one_is_killed(submit, left, executor, ahead, killed)
        if not killed:
            return
        for case in killed:
            try:
                yield alone(case)
            except futures.BrokenExecutor:
                error = DatasetError(
                    "its worker process was killed, perhaps for want of memory, and again when the "
                    "case was tried alone",
                    where=f"case {case.id}",
                    remedy="crop the scan, use a machine with more memory, or leave the case out",
                )
                yield _Failure(case, error)


def _until_one_is_killed(
    hand_over: _Submit[Item, Result],
    left: Iterator[Item],
    executor: futures.Executor,
    ahead: bool,
    killed: list[Item],
) -> Generator[Result]:
    """Take cases from `left` and give their results; `killed` gets those that must be retried."""
    running: dict[futures.Future[Result], Item] = {}

    def submit() -> None:
        room = _room(executor, ahead) - len(running)
        for case in islice(left, 0 if killed else max(0, room)):
            try:
                running[hand_over(case)] = case
            except futures.BrokenExecutor:
                killed.append(case)
                return

    try:
        submit()
        while running:
            for future in _finished(running, executor):
                case = running.pop(future)
                if was_killed(future.exception()):
                    killed.append(case)
                else:
                    submit()
                    yield future.result()
    finally:
        for future in running:
            future.cancel()


def _room(executor: futures.Executor, ahead: bool) -> int:
    if isinstance(executor, Cluster):
        return executor.processes * (1 + ahead)
    return executor.processes + ahead if isinstance(executor, Workers) else _OUTSTANDING


def _finished(
    running: Collection[futures.Future[Result]], executor: futures.Executor
) -> set[futures.Future[Result]]:
    if isinstance(executor, Cluster):
        return executor.finished(running)
    return futures.wait(running, return_when=futures.FIRST_COMPLETED).done


def _alone_there(executor: Cluster, submit: _Submit[Item, Result], case: Item) -> Result:
    future = submit(case)
    try:
        executor.finished([future])
    finally:
        future.cancel()  # where it is not done
    if was_killed(future.exception()):
        raise futures.BrokenExecutor from future.exception()
    return future.result()


def _alone(function: _Work[Item, Result], case: Item) -> Result:
    with Workers(1) as worker:
        try:
            worker.submit(os.getpid).result()
        except futures.BrokenExecutor as error:
            raise DatasetError(
                "worker processes end as soon as they are started",
                expected="a script that starts work under `if __name__ == '__main__':` only",
                remedy="correct the script, or use one process",
            ) from error
        return worker.submit(function, case).result()
