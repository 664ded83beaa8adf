"""Contestants in turn: one worker runs while the others wait, round after round."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rows import Contestant
from benchmarks.table import Row
from benchmarks.workers import Reply, Worker, WorkerError, python_of

# Threads of a library spin for a while after their work, and would take it from the next.
_REST = 0.5

# Asks a worker for more once all rounds are over; returns facts.
Finish = Callable[[Contestant, Worker], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Host:
    """Where workers run.

    Parameters
    ----------
    threads : int
        For each contestant.
    logs : Path
        Folder for what workers print.
    """

    threads: int
    logs: Path


@dataclass(slots=True)
class Measured:
    """One contestant and what it said; filled in as it runs.

    Attributes
    ----------
    contestant : Contestant
    loading, first : Reply or None
        Of starting, and of the first run.
    replies : list of Reply
        Of every round.
    facts : dict
        Of the end.
    versions : mapping from package to version
    problem : str
        Why it takes no part, or no longer does.
    """

    contestant: Contestant
    loading: Reply | None = None
    first: Reply | None = None
    replies: list[Reply] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def peak_mb(self) -> float | None:
        """Return the largest peak, loading and first run included [MB]."""
        told = [self.loading, self.first, *self.replies]
        peaks = [reply.peak_mb for reply in told if reply and reply.peak_mb is not None]
        return max(peaks, default=None)

    def row(self, agreement: float | None = None, **facts: Any) -> Row:
        """Return what goes into the table."""
        who, last = self.contestant, self.replies[-1].facts if self.replies else {}
        known = {"how": who.how, **last, **self.facts, **facts}
        if self.problem:
            failed = python_of(who.environment) is not None
            return Row(who.name, who.environment, problem=self.problem, failed=failed)
        return Row(
            name=who.name,
            environment=who.environment,
            seconds=tuple(reply.seconds for reply in self.replies),
            first=self.first.seconds if self.first else None,
            peak_mb=self.peak_mb,
            agreement=agreement,
            asked=who.asked,
            facts={**known, "loading": self.loading.seconds if self.loading else None},
        )


def measure(
    contestants: Sequence[Contestant],
    rounds: int,
    host: Host,
    finish: Finish | None = None,
    warming: Mapping[str, Any] | None = None,
) -> list[Measured]:
    """Start all contestants, let each run once, then `rounds` times in turn.

    Every second round goes backwards, so that nobody always runs after the same other. A
    contestant that fails is told of and the others go on.

    Parameters
    ----------
    contestants : sequence of Contestant
    rounds : int
    host : Host
    finish : callable or None
    warming : mapping or None
        Arguments of the first run, if it shall do less.
    """
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        entries = [Measured(contestant) for contestant in contestants]
        for entry in entries:
            worker = _start(entry, host)
            if worker is not None:
                stack.callback(worker.close)
                workers[entry.contestant.name] = worker
        for entry in _able(entries):
            entry.first = _ask(entry, workers, **(warming or {}))
        for number in range(rounds):
            able = _able(entries)
            for entry in able if number % 2 == 0 else reversed(able):
                reply = _ask(entry, workers)
                if reply is not None:
                    entry.replies.append(reply)
        for entry in _able(entries) if finish else []:
            _finish(entry, workers[entry.contestant.name], finish)
    return entries


def _able(entries: Sequence[Measured]) -> list[Measured]:
    return [entry for entry in entries if not entry.problem]


def _start(entry: Measured, host: Host) -> Worker | None:
    who = entry.contestant
    python = python_of(who.environment)
    if python is None:
        entry.problem = f"there is no .bench/{who.environment}; make it with: make bench"
        return None
    log = host.logs / f"{who.name.replace(' ', '-')}.log"
    try:
        worker = Worker(python, who.path, who.settings, log, max(1, host.threads // who.processes))
    except WorkerError as error:
        entry.problem = str(error)
        return None
    entry.loading, entry.versions = worker.loading, worker.versions
    return worker


def _ask(entry: Measured, workers: Mapping[str, Worker], **arguments: Any) -> Reply | None:
    name = entry.contestant.name
    time.sleep(_REST)
    try:
        reply = workers[name].ask("run", **arguments)
    except WorkerError as error:
        entry.problem = str(error)
        return None
    peak = f", {reply.peak_mb:.0f} MB" if reply.peak_mb else ""
    sys.stderr.write(f"{name}: {reply.seconds:.2f} s{peak}\n")
    return reply


def _finish(entry: Measured, worker: Worker, finish: Finish | None) -> None:
    try:
        entry.facts |= finish(entry.contestant, worker) if finish else {}
    except WorkerError as error:
        entry.problem = str(error)
