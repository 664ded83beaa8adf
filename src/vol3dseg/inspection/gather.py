"""One function over many cases, here or in other processes; results come as they are ready."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from vol3dseg.datasets.case import Case

Result = TypeVar("Result")
_WAITING = 64  # cases handed over and not yet answered; thousands of results would pile up


def over_cases(
    function: Callable[[Case], Result],
    cases: Sequence[Case],
    executor: Executor | None,
    lost: Callable[[Case, str], Result],
) -> Iterator[Result]:
    """Give the result for each case, in the order in which they are ready.

    Parameters
    ----------
    function : callable
        Can be pickled where `executor` uses processes.
    cases : sequence of Case
    executor : Executor or None
        None works here, one case after the other.
    lost : callable
        Gives the result for a case, and the reason in words, whose process was killed.
    """
    if executor is None:
        yield from map(function, cases)
        return
    for start in range(0, len(cases), _WAITING):
        part = cases[start : start + _WAITING]
        yield from _part(function, part, executor, lost)


def _part(
    function: Callable[[Case], Result],
    cases: Sequence[Case],
    executor: Executor,
    lost: Callable[[Case, str], Result],
) -> Iterator[Result]:
    reason = "a worker process was killed, perhaps for want of memory; use fewer workers"
    try:
        futures = {executor.submit(function, case): case for case in cases}
    except BrokenProcessPool:
        yield from (lost(case, reason) for case in cases)
        return
    for future in as_completed(futures):
        try:
            yield future.result()
        except BrokenProcessPool:
            yield lost(futures[future], reason)
