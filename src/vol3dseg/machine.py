"""The machine that this runs on: cores that may be used, memory that is used and left."""

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor  # noqa: TID251 - made here for all
from contextlib import contextmanager, suppress
from mmap import mmap
from pathlib import Path
from typing import Any

_M_MMAP_THRESHOLD = -3  # of mallopt(3)
_LARGE = 2**20  # bytes: smaller ones come and go too often
_ROOM = 2**26  # bytes: the stack of a thread, and some for what it begins with
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_SYSTEM = Path("/proc/meminfo")
_GROUPS = Path("/proc/self/cgroup")
_GROUPS_ROOT = Path("/sys/fs/cgroup")
# Limit, use, and the field of memory.stat with what of the use can be given back; version 2 and 1.
_UNIFIED = ("memory.max", "memory.current", "inactive_file")
_LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


_most_cores: int | None = None
_processes = 1  # that share this machine with each other, this one among them


def usable_cores() -> int:
    """Return how many cores this process may use: what the system grants, or what was set."""
    granted = _granted_cores()
    return min(granted, _most_cores or granted)


def limited_cores() -> int | None:
    """Return how many cores this process was limited to; None where it may use all."""
    cores = usable_cores()
    return cores if cores < _granted_cores() else None


def _granted_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_cores(most: int) -> None:
    """Let this process use no more cores from now on, so that several do not share each of them.

    Parameters
    ----------
    most : int
        At least one.
    """
    global _most_cores
    _most_cores = max(1, most)


def share_machine(processes: int, cores: int = 0) -> None:
    """Let this process take its share of the cores, and of free memory, from now on.

    Parameters
    ----------
    processes : int
        How many there are that do the same work on this machine.
    cores : int
        That they share; 0: what the system grants.
    """
    global _processes
    _processes = processes
    limit_cores((cores or _granted_cores()) // processes)


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on the core where it runs, for a short block.

    A thread that waits for one of its own on another core leaves both idle while they hand over.
    """
    try:
        granted = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {ctypes.CDLL(None).sched_getcpu()})
    except (AttributeError, OSError):  # another system or C library
        yield
        return
    try:
        yield
    finally:
        os.sched_setaffinity(0, granted)


def machine_share() -> tuple[int, int]:
    """Return what `share_machine` takes in a child to which this process leaves its share."""
    return _processes, _processes * usable_cores()


def give_back_at_once() -> None:
    """Let the C library give large blocks back to the system as they are freed, where it is glibc.

    Left to itself it keeps freed blocks of up to 32 MB for later, of which a run over many layers
    leaves more than a hundred megabytes behind.
    """
    with suppress(OSError, AttributeError):  # another system or C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Give what the C library keeps of freed memory back to the system, where it is glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def require_memory(size: int = _ROOM) -> None:
    """Raise OSError (ENOMEM) unless the system grants so many bytes, of which none is touched.

    Where even little is refused, libraries end the process, and Python waits forever for a thread
    that has no memory to begin with.
    """
    mmap(-1, size).close()


def thread_pool(most: int | None = None, name: str = "") -> ThreadPoolExecutor:
    """Return a pool of so many threads, or one for each core; OSError (ENOMEM): no room for one.

    The same where a task needs one more thread, and there is no room for that.
    """
    require_memory()
    return _Pool(most or usable_cores(), name)


class _Pool(ThreadPoolExecutor):
    """Asks for room before each thread that it begins."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._begun: list[None] = []  # by each thread, which must not hold its pool
        super().__init__(most, name, initializer=self._begun.append, initargs=(None,))

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Submit a task."""
        if len(self._begun) < self._most:
            require_memory()
        return super().submit(*args, **kwargs)


def reset_peak() -> None:
    """Start a new count of peak memory, where the system can (Linux)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return


def peak_mb() -> float | None:
    """Return the peak resident memory since the last reset [MB]; None where it is not known."""
    return _field_mb(_STATUS, "VmHWM")


def resident_mb() -> float | None:
    """Return the memory that this process has now [MB]; None where it is not known."""
    return _field_mb(_STATUS, "VmRSS")


def available_mb() -> float | None:
    """Return what this process can still take without swapping [MB]; None where it is not known.

    The smallest of what the system can give and what the limits of containers and jobs leave.
    """
    system = _field_mb(_SYSTEM, "MemAvailable")
    return None if system is None else min([system, *_left_by_groups_mb()])


def own_share_mb() -> float | None:
    """Return what of that is this process's own, where others do the same work beside it [MB]."""
    left = available_mb()
    return None if left is None else left / _processes


def _left_by_groups_mb() -> list[float]:
    """Return what each control group that this process is in leaves, its own and all above."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, kinds, group = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = _GROUPS_ROOT / "memory" if kinds else _GROUPS_ROOT
        here = root / group.lstrip("/")
        for folder in (here, *here.parents):
            if folder.is_relative_to(root):
                left += _left_mb(folder, *(_LEGACY if kinds else _UNIFIED))
    return left


def _left_mb(group: Path, limit: str, use: str, reclaimable: str) -> list[float]:
    """Return what one control group leaves; nothing where it has no limit."""
    try:
        most = (group / limit).read_text().strip()
        taken = int((group / use).read_text())
        rows = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        back = next((int(value) for name, value in rows if name == reclaimable), 0)
    except OSError:
        return []
    return [(int(most) - taken + back) / 2**20] if most.isdecimal() else []  # "max" is no limit


def _field_mb(path: Path, name: str) -> float | None:
    """Return a field of a file with lines such as "VmRSS:  1024 kB" [MB]."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(li.split()[1]) / 1024 for li in lines if li.startswith(f"{name}:")), None)
