"""How many threads are worth starting."""

import os

_most: int | None = None


def usable_cores() -> int:
    """Return how many cores this process may use: what the system grants, or what was set."""
    if hasattr(os, "sched_getaffinity"):
        granted = len(os.sched_getaffinity(0))
    else:
        granted = os.cpu_count() or 1
    return min(granted, _most or granted)


def limit_cores(most: int) -> None:
    """Let this process use no more cores from now on, so that several do not share each of them.

    Parameters
    ----------
    most : int
        At least one.
    """
    global _most
    _most = max(1, most)
