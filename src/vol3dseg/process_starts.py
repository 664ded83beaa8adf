"""How worker processes start: as copies of a server that has imported what they need, where it can.

Never as copies of this process, whose threads a copy would not have.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from threading import Thread

from vol3dseg.machine import require_memory, usable_cores

IMPORT_AHEAD = "VOL3DSEG_IMPORT_AHEAD"  # variable of the environment that names a module
_IMPORTER = "vol3dseg.imported_ahead"


def process_starts() -> BaseContext:
    """Return what starts worker processes."""
    return multiprocessing.get_context("forkserver" if _server_runs() else "spawn")


def import_ahead(module: str) -> None:
    """Let the server import a module while this process goes on, where there is a core for it.

    Without this, each worker imports what it needs for itself when it gets its first work.
    """
    if sys.platform == "win32" or usable_cores() == 1:
        return
    from multiprocessing import forkserver

    os.environ[IMPORT_AHEAD] = module
    forkserver.set_forkserver_preload([_IMPORTER])
    _server_runs()


def _server_runs() -> bool:
    """Start the server unless it runs; it cannot where a socket has no room for its long name."""
    if sys.platform == "win32":
        return False
    from multiprocessing import forkserver

    try:
        with deaf_children():
            forkserver.ensure_running()
    except OSError:
        return False
    return True


@contextmanager
def deaf_children() -> Iterator[None]:
    """Let processes that are started not hear Ctrl-C, which each would answer with a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    _run_tracker()  # which lets signals through again where it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_tracker() -> None:
    """Start what removes semaphores of processes that have died, unless it runs; without a word.

    Where a library ends this process for want of memory, its warning would stand below the cause.
    """
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def end_with_parent() -> None:
    """Let this process end when the one that began it was killed; it would wait for work forever.

    OSError (ENOMEM): there is no room for the thread that watches.
    """
    if (parent := multiprocessing.parent_process()) is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        require_memory()
        Thread(target=watch, daemon=True).start()
