"""From an address to the workers there, within seconds, or one error on why there are none."""

import asyncio
import logging
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from vol3dseg.datasets.cluster import Cluster
from vol3dseg.errors import ClusterError
from vol3dseg.extras import load_extra
from vol3dseg.process_starts import deaf_children

_ANSWER_S = 10.0  # in which a scheduler answers, and has a worker
_LOCAL = re.compile(r"local:([1-9][0-9]{0,3})")
_ANY_PORT = "127.0.0.1:0"  # for pages of Dask's, which nobody else shall see


@contextmanager
def open_cluster(address: str) -> Iterator[Cluster]:
    """Give the workers of a Dask scheduler, or of one of our own, until the block ends.

    Nothing is connected to but this address; with which certificates, Dask's configuration says.

    Parameters
    ----------
    address : str
        tcp://HOST:PORT or tls://HOST:PORT of a scheduler; local:N starts one here with N workers.

    Raises
    ------
    ClusterError
        It is no address, no scheduler answers there, or it has no workers.
    MissingExtraError
        Dask is not installed.
    """
    local = _LOCAL.fullmatch(address)
    place = None if local else _host_and_port(address)
    distributed = load_extra("distributed", "cluster")
    with _silent(), ExitStack() as stack:
        if place:
            _require_scheduler(distributed, address, place)
        own = stack.enter_context(_started(int(local[1]))) if local else None
        client = stack.enter_context(_connected(distributed, own or address, address))
        yield Cluster(client, address, partial(_kill, own) if own else None)


def _host_and_port(address: str) -> tuple[str, int]:
    with suppress(ValueError):  # of a port that is none
        parts = urlsplit(address)
        if parts.scheme in ("tcp", "tls") and parts.hostname and parts.port:
            return parts.hostname, parts.port
    raise ClusterError(
        "is no address",
        where=f"cluster {address}",
        expected="tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler, or local:N",
        remedy="give what the scheduler prints when it starts",
    )


def _require_scheduler(distributed: Any, address: str, place: tuple[str, int]) -> None:
    """Ask who is there, in bounded time: Dask's client would wait for a silent one for ever."""
    where = f"cluster {address}"
    try:
        socket.create_connection(place, _ANSWER_S).close()
    except OSError as error:
        raise ClusterError(
            f"cannot be reached ({error.strerror or error})",
            where=where,
            expected="a Dask scheduler that listens there",
            remedy="start one, or correct the address",
        ) from error
    try:
        kind = asyncio.run(asyncio.wait_for(_kind(distributed, address), _ANSWER_S))
    except MemoryError:  # of a message as long as others' first letters say, read as a number
        kind = "what answers is not Dask"
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        kind = " ".join(str(error).split()) or f"no answer in {_ANSWER_S:.0f} s"
    if kind != "Scheduler":
        raise ClusterError(
            f"is no scheduler ({kind})",
            where=where,
            expected="a Dask scheduler that listens there, by tls:// if it has certificates",
            remedy="start one, or correct the address or Dask's configuration of TLS",
        )


async def _kind(distributed: Any, address: str) -> str:
    security = distributed.Security().get_connection_args("client")
    async with distributed.rpc(address, connection_args=security) as other:
        return str((await other.identity())["type"])


@contextmanager
def _connected(distributed: Any, there: Any, address: str) -> Iterator[Any]:
    client = distributed.Client(there, timeout=_ANSWER_S, set_as_default=False)
    try:
        try:
            client.wait_for_workers(1, timeout=_ANSWER_S)
        except TimeoutError as error:
            raise ClusterError(
                "has no workers",
                where=f"cluster {address}",
                remedy="start some, or let an adaptive cluster keep one at least",
            ) from error
        yield client
    finally:
        client.close(timeout=_ANSWER_S)


@contextmanager
def _started(workers: int) -> Iterator[Any]:
    """Start a scheduler and workers here; where the block fails, they end at once."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with deaf_children():  # those that come in place of a killed one too
            cluster = load_extra("distributed", "cluster").LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,  # ours
                host="127.0.0.1",
                dashboard_address=_ANY_PORT,
                worker_dashboard_address=_ANY_PORT,
                local_directory=folder,
                silence_logs=logging.CRITICAL,
                scheduler_kwargs={"allowed_failures": 0},  # we try again ourselves
            )
        try:
            yield cluster
        except BaseException:
            _end(cluster)
            raise
        finally:
            cluster.close()


def _end(cluster: Any) -> None:
    """End workers of our own for good, those as well that come in place of killed ones."""
    nannies = list(cluster.workers.values())
    ended = time.monotonic() + _ANSWER_S
    over = "closed", "failed"
    while time.monotonic() < ended and any(each.status.name not in over for each in nannies):
        for nanny in nannies:
            if nanny.status.name in ("init", "starting", "running"):
                nanny.close_gracefully()  # or it starts another worker
        _kill(cluster)
        time.sleep(0.01)


def _kill(cluster: Any) -> None:
    """End workers of our own at once, and not after their cases; see them ended."""
    pids = [nanny.pid for nanny in cluster.workers.values()]
    left = {pid: getattr(signal, "SIGKILL", signal.SIGTERM) for pid in pids if pid}
    ended = time.monotonic() + _ANSWER_S
    while left and time.monotonic() < ended:
        for pid, number in list(left.items()):
            try:
                os.kill(pid, number)
                left[pid] = 0  # which asks whether it is there
            except ProcessLookupError:
                del left[pid]
        time.sleep(0.01)


@contextmanager
def _silent() -> Iterator[None]:
    """Let Dask log nothing meanwhile: what is wrong is said in our words."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict
               if name.partition(".")[0] in ("distributed", "tornado", "asyncio")]  # fmt: skip
    before = {logger: logger.level for logger in loggers}
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
