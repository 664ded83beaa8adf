"""What a worker process hears and says: one JSON object a line, on stdin and stdout.

A worker is started with its settings as a JSON object, loads what it needs, and says

    {"ready": true, "versions": {"torch": "2.13.0"}, "peak_mb": 310.0}

Each line that it hears names a call and its arguments, and is answered before the next is heard:

    {"call": "run"}
    {"seconds": 1.21, "peak_mb": 1412.0, "facts": {"plan": "one pass"}}

or {"error": "..."}. It ends when stdin does. This file needs the standard library only, since every
environment runs it.
"""

import gc
import importlib.metadata
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

Call = Callable[..., dict[str, Any]]


def serve(make: Callable[[dict[str, Any]], Mapping[str, Call]], packages: Iterable[str]) -> None:
    """Load a contestant and let it be called until stdin ends.

    Parameters
    ----------
    make : callable
        Takes the settings; returns what can be called, by name. Each call returns facts that JSON
        can hold.
    packages : iterable of str
        Whose versions are told.
    """
    replies = _keep_stdout_for_replies()
    calls = make(json.loads(sys.argv[1]))
    _say(replies, {"ready": True, "versions": _versions(packages), "peak_mb": _peak_mb()})
    for line in sys.stdin:
        _say(replies, _answer(calls, json.loads(line)))


def _keep_stdout_for_replies() -> TextIO:
    """Return what leads to the listener; whatever else is printed goes to stderr from now on."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _say(replies: TextIO, what: Mapping[str, Any]) -> None:
    replies.write(json.dumps(what) + "\n")
    replies.flush()


def _answer(calls: Mapping[str, Call], command: dict[str, Any]) -> dict[str, Any]:
    name = command.pop("call")
    if name not in calls:
        return {"error": f"no call {name!r}; this worker has {', '.join(calls)}"}
    gc.collect()
    _reset_peaks()
    started = time.perf_counter()
    try:
        facts = calls[name](**command)
    except Exception as error:  # noqa: BLE001 - whatever it is, the listener must hear of it
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": _peak_mb(), "facts": facts}


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _processes() -> list[int]:
    """Return this process and its children."""
    found = [os.getpid()]
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return found


def _reset_peaks() -> None:
    for process in _processes():
        with suppress(OSError):
            Path(f"/proc/{process}/clear_refs").write_text("5")


def _peak_mb() -> float | None:
    """Return the peak since the last reset, of this process and its children together [MB].

    The kernel's own account (VmHWM). Pages that processes share are counted in each.
    """
    total = 0.0
    for process in _processes():
        with suppress(OSError):
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
            total += sum(int(li.split()[1]) / 1024 for li in lines if li.startswith("VmHWM:"))
    return total or None
