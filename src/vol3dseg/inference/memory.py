"""The kernel's account of how much memory this process has used."""

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Start a new count of peak memory, where the system can (Linux)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return


def peak_mb() -> float | None:
    """Return the peak resident memory since the last reset [MB]; None where it is not known."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(li.split()[1]) / 1024 for li in lines if li.startswith("VmHWM")), None)
