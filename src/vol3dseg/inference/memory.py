"""The kernel's account of memory: what this process uses and used, and what is left for it."""

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_SYSTEM = Path("/proc/meminfo")
# What a container may use at most, by cgroup version 2 and 1.
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


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

    The smaller of what the system can give and what the limit of a container leaves.
    """
    system, mine = _field_mb(_SYSTEM, "MemAvailable"), resident_mb()
    if system is None or mine is None:
        return None
    return min([system, *(limit - mine for limit in _container_limits_mb())])


def _container_limits_mb() -> list[float]:
    texts = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    return [int(text) / 2**20 for text in texts if text.isdecimal()]  # "max" is no limit


def _field_mb(path: Path, name: str) -> float | None:
    """Return a field of a file with lines such as "VmRSS:  1024 kB" [MB]."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(li.split()[1]) / 1024 for li in lines if li.startswith(f"{name}:")), None)
