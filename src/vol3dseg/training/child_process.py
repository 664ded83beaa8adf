"""A training in a process of its own, so that what one breaks or leaves ends with it."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from traceback import print_exception
from typing import Any

from vol3dseg.config import Config
from vol3dseg.datasets.cluster import is_awaited
from vol3dseg.errors import Vol3dSegError
from vol3dseg.machine import limit_cores, machine_share, share_machine
from vol3dseg.model.manifest import Manifest
from vol3dseg.process_starts import end_with_parent
from vol3dseg.training.timing import Step
from vol3dseg.training.watching import Progress, Show

_LOOK_S = 1.0  # between two looks whether anybody still waits for it
_END_S = 5.0  # that a process may take to end by itself, where Ctrl-C was meant for it too


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run, in words.

    `manifest` is that of a run that was finished now; `config` one with what a machine chose.
    """

    said: str
    finished: bool = False
    manifest: Manifest | None = None
    config: Config | None = None


Work = Callable[..., Outcome]
_Given = tuple[Work, tuple[object, ...], int | None, bool]  # what `_main` gets
KILLED = Outcome(
    "failed: its process was killed, perhaps for want of memory, and again when it was tried "
    "again; free some and go on with --resume, or train in another folder with a smaller "
    "training.micro_batch"
)


def apart(
    work: Work,
    *arguments: object,
    threads: int | None = None,
    progress: Progress,
    show: Show,
) -> Outcome:
    """Do work in a process of its own; that it was killed, or met a bug, is its outcome too.

    It gets `progress` and `show`, which are called here, and whether it is done `again`, since its
    process was killed: once. `threads` is the most that it takes, by default all cores that this
    process may use.
    """
    given = (work, arguments, threads)
    for again in (False, True):
        if again:
            progress("its process was killed, perhaps for want of memory; it is tried again")
        outcome = _once((*given, again), progress, show)
        if outcome is not None:
            return outcome
    return KILLED


def as_outcome(
    work: Work, *arguments: object, again: bool = False, progress: Progress, show: Show
) -> Outcome:
    """Do work here; an error is its outcome, in words."""
    try:
        return work(*arguments, again=again, progress=progress, show=show)
    except Vol3dSegError as error:
        return Outcome(f"failed: {' '.join(str(error).split())}")


def _once(given: _Given, progress: Progress, show: Show) -> Outcome | None:
    """Do work in a process; None if that was killed."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    current_process().daemon = False  # what Dask's workers are, who could start none
    child = spawn.Process(target=_main, args=(theirs, machine_share(), *given))
    child.start()
    theirs.close()
    try:
        outcome = _heard(ours, progress, show)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            child.join(_END_S)
        child.kill()
        raise
    finally:
        ours.close()
        child.join()
    return outcome


def _heard(pipe: Connection, progress: Progress, show: Show) -> Outcome | None:
    """Pass on what a process says, until it says what became of its work; None if it is gone."""
    next_look = 0.0
    while True:
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + _LOOK_S
            if not is_awaited():
                raise InterruptedError("whoever gave this training has gone")
        if not pipe.poll(_LOOK_S):
            continue
        try:
            said: Any = pipe.recv()
        except EOFError:
            return None
        if isinstance(said, Outcome):
            return said
        if isinstance(said, Step):
            show(said)
        else:
            progress(said)


def _main(
    pipe: Connection,
    share: tuple[int, int],
    work: Work,
    arguments: tuple[object, ...],
    threads: int | None,
    again: bool,
) -> None:
    end_with_parent()  # two must not write one run
    share_machine(*share)
    if threads is not None:
        limit_cores(threads)
    if hasattr(signal, "pthread_sigmask"):  # workers do not hear Ctrl-C, but a training tells of it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        outcome = as_outcome(work, *arguments, again=again, progress=pipe.send, show=pipe.send)
    except KeyboardInterrupt:
        return
    except Exception as error:  # noqa: BLE001 - a bug: the traceback is kept, other runs go on
        print_exception(error)
        outcome = Outcome(f"failed: {type(error).__name__}: {error}")
    pipe.send(outcome)
