"""Workers on other machines, of a Dask cluster: reached, given cases, and watched meanwhile."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent import futures
from contextlib import ExitStack, chdir, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from vol3dseg import __version__
from vol3dseg.errors import ClusterError
from vol3dseg.files import trace
from vol3dseg.machine import share_machine


class HasPaths(Protocol):
    """A piece of work: a case, or a training."""

    @property
    def id(self) -> str:
        """Names it in messages."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that a worker must see for it."""


Result = TypeVar("Result")
Item = TypeVar("Item", bound=HasPaths)
_LOOK_S = 5.0  # between two looks whether a cluster is still there
_WITHOUT_S = 60.0  # for which work waits for a worker where all are gone
_SHARED = "shared"  # the name of a file that proves that a folder is the same elsewhere
_one_at_a_time = Lock()  # cases in a worker, however many threads it has


class Cluster(futures.Executor):
    """The workers of a Dask cluster; each works on one case at a time.

    Parameters
    ----------
    client : distributed.Client
    name : str
        Of the cluster, for messages: its address.
    kill : callable or None
        Ends the workers, where they are ours to end.
    """

    def __init__(self, client: Any, name: str, kill: Callable[[], None] | None = None) -> None:
        self.kill = kill or (lambda: None)
        self._client = client
        self._executor = client.get_executor(pure=False)
        self._where = f"cluster {name}"
        self._last_worker = time.monotonic()

    def submit(
        self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any
    ) -> futures.Future[Result]:
        """Hand over a call; the function and its arguments are pickled."""
        future: futures.Future[Result] = self._executor.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Hand over nothing more; see `concurrent.futures.Executor.shutdown`."""
        self._executor.shutdown(wait and not cancel_futures)

    @property
    def processes(self) -> int:
        """How many workers there are now, or one that may come."""
        return max(1, sum(self._workers().values()))

    @contextmanager
    def hearing(self, progress: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
        """Give what workers can call in place of `progress`, which is called here then."""
        topic = f"vol3dseg-{os.urandom(8).hex()}"
        self._client.subscribe_topic(topic, lambda event: progress(event[1]))
        try:
            yield partial(_log, topic)
        finally:
            self._client.unsubscribe_topic(topic)

    @contextmanager
    def serving(
        self, function: Callable[[Item], Result], reads: Sequence[Path], writes: Path | None
    ) -> Iterator[Callable[[Item], futures.Future[Result]]]:
        """Give what hands a case to a worker, who must see the same files as this process."""
        with ExitStack() as stack:
            proof = [stack.enter_context(trace(writes, _SHARED))] if writes else []

            def submit(case: Item) -> futures.Future[Result]:
                seen = tuple(p for p in (*proof, *reads, *case.paths) if os.path.lexists(p))
                here = None if all(path.is_absolute() for path in seen) else Path.cwd()
                errand = _Errand(function, seen, here, self._workers())
                return self.submit(errand, case)

            yield submit

    def finished(self, running: Collection[futures.Future[Any]]) -> set[futures.Future[Any]]:
        """Wait for some, and return those that are done.

        ClusterError: the scheduler is lost, has been without workers for long, or has unfit ones.
        """
        while True:
            done, _ = futures.wait(running, _LOOK_S, futures.FIRST_COMPLETED)
            for future in done:
                if future.cancelled():  # by nobody here
                    raise self._lost()
                error = future.exception()
                if isinstance(error, ModuleNotFoundError) and error.name == "vol3dseg":
                    raise ClusterError(
                        "has workers without vol3dseg",
                        where=self._where,
                        remedy="install it on all machines, in the environment of the workers",
                    ) from error
            if done:
                return done
            self._look()

    def _look(self) -> None:
        if self._workers():
            self._last_worker = time.monotonic()
        elif time.monotonic() - self._last_worker > _WITHOUT_S:
            raise ClusterError(
                f"has had no worker for {_WITHOUT_S:.0f} s; what is done is kept",
                where=self._where,
                remedy="start workers, and run the same command again",
            )

    def _lost(self) -> ClusterError:
        """Return the error that says that the scheduler is gone."""
        return ClusterError(
            "its scheduler was lost or restarted, and all that it had been given; what is done is "
            "kept",
            where=self._where,
            remedy="see that it runs and has workers, and run the same command again",
        )

    def _workers(self) -> dict[str, int]:
        """Return how many workers each machine has."""
        try:
            if self._client.status == "running":
                return dict(Counter(map(_machine, self._client.nthreads())))
        except OSError:
            pass
        raise self._lost()


@dataclass(frozen=True, slots=True)
class _Errand(Generic[Item, Result]):
    """What a worker does with a case, once it is seen that it can."""

    function: Callable[[Item], Result]
    seen: Sequence[Path]
    here: Path | None  # what paths are relative to, where some are
    processes: dict[str, int]
    version: str = __version__

    def __call__(self, case: Item) -> Result:
        from distributed import get_worker

        address = get_worker().address
        with _one_at_a_time:
            if self.version != __version__:
                raise ClusterError(
                    f"has vol3dseg {__version__}",
                    where=f"worker {address}",
                    expected=f"{self.version}, which gives it work",
                    remedy="install the same version on all machines",
                )
            _require_seen([self.here] if self.here else [], address)
            with chdir(self.here) if self.here else nullcontext():
                _require_seen(self.seen, address)
                share_machine(self.processes.get(_machine(address), 1))
                return self.function(case)


def _machine(address: str) -> str:
    return urlsplit(address).hostname or address


def _require_seen(paths: Sequence[Path], address: str) -> None:
    """Refuse work on paths that the worker of this address does not see."""
    for path in paths:
        if not os.path.lexists(path):
            proof = path.name == _SHARED and path.parent.name.startswith(".vol3dseg-tmp-")
            raise ClusterError(
                f"does not see {path.parent.parent if proof else path}",
                where=f"worker {address}",
                expected="a file system that all workers share, under the same path",
                remedy="mount it there, or start workers where it is",
            )


def _log(topic: str, text: str) -> None:
    from distributed import get_worker

    get_worker().log_event(topic, text)


def is_awaited() -> bool:
    """Tell whether somebody waits for what this thread does: not if its cluster took that back."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return True
    try:
        worker = distributed.get_worker()
    except ValueError:  # no thread of a worker
        return True
    task = worker.state.tasks.get(worker.get_current_task())
    at_work = (distributed.Status.running, distributed.Status.paused)
    return task is not None and task.state == "executing" and worker.status in at_work


def as_cluster(executor: futures.Executor) -> futures.Executor:
    """Return Dask's own executor as a Cluster, any other as it is."""
    distributed = sys.modules.get("distributed")
    if distributed and isinstance(executor, distributed.cfexecutor.ClientExecutor):
        return Cluster(executor._client, executor._client.scheduler.address)
    return executor


def was_killed(error: BaseException | None) -> bool:
    """Tell whether an error of a future means that its worker died over it."""
    distributed = sys.modules.get("distributed")
    return isinstance(error, futures.BrokenExecutor) or (
        distributed is not None and isinstance(error, distributed.KilledWorker)
    )
