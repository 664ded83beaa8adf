"""One function over many cases, here or in other processes; results come as they are ready."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from vol3dseg.datasets.case import Case
from vol3dseg.errors import DatasetError

Result = TypeVar("Result")
_WAITING = 64  # cases handed over and not yet answered; thousands of results would pile up


def over_cases(
    function: Callable[[Case], Result],
    cases: Sequence[Case],
    executor: Executor | None,
) -> Iterator[Result]:
    """Give the result for each case, in the order in which they are ready.

    Parameters
    ----------
    function : callable
        Can be pickled where `executor` uses processes.
    cases : sequence of Case
    executor : Executor or None
        None works here, one case after the other.

    Raises
    ------
    DatasetError
        A worker process was killed. That breaks the whole pool, and is no fault of the cases that
        come after, so nothing is said of them.
    """
    if executor is None:
        yield from map(function, cases)
        return
    for start in range(0, len(cases), _WAITING):
        yield from _part(function, cases[start : start + _WAITING], executor)


def _part(
    function: Callable[[Case], Result], cases: Iterable[Case], executor: Executor
) -> Iterator[Result]:
    futures = {}
    try:
        for case in cases:
            futures[executor.submit(function, case)] = case
        for future in as_completed(futures):
            case = futures[future]
            yield future.result()
    except BrokenProcessPool as error:
        raise DatasetError(
            f"case {case.id}: the worker process of this case or of one beside it was killed, "
            "perhaps for want of memory; try again with fewer --workers"
        ) from error
