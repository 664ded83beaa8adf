"""Mapping over cases: how many are handed over at a time, and what a killed worker costs."""

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier, Event

import pytest

from vol3dseg import machine
from vol3dseg.config import Config, ModelConfig
from vol3dseg.datasets import over_cases as module
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.over_cases import Workers, over_cases, worker_processes
from vol3dseg.errors import DatasetError, MemoryLimitError, OutputError
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.reporting.inspection.survey import survey

CASES = [Case(f"{number:03d}", "somebody", {}) for number in range(100)]


class Deadly(str):
    """A name of a series that kills the worker process it arrives in.

    Parameters
    ----------
    marker : Path
        What is made by the first worker that is killed.
    always : bool
        Whether others are killed after it.
    """

    marker: Path
    always: bool

    def __new__(cls, marker, always=False):
        made = super().__new__(cls, "somebody")
        made.marker, made.always = marker, always
        return made

    def __reduce__(self):
        return _arrive, (self.marker, self.always)


def _arrive(marker, always):
    if always or not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def name(case):
    return case.id


def leave(*_):
    os._exit(1)


def died(case, error):
    return f"{case.id} died"


def test_a_worker_that_is_killed_once_costs_no_case(brats_folder, tmp_path, recipe, labels):
    first, *others = find_cases(brats_folder)
    spare = {**first.images, "spare": ImageSource(Path("x"), series=Deadly(tmp_path / "killed"))}
    cases = [replace(first, images=spare), *others]
    with Workers(2) as workers:
        index = preprocess(
            cases,
            tmp_path / "out",
            Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
            workers,
        )
    assert (tmp_path / "killed").exists()
    assert index.failed == {}
    assert [entry.id for entry in index.cases] == [case.id for case in cases]


def test_a_case_that_always_kills_its_worker_is_named_and_the_others_go_on(tmp_path):
    deadly = replace(CASES[1], label_series=Deadly(tmp_path / "killed", always=True))
    errors = []
    with Workers(2) as workers:
        results = over_cases(
            name, [CASES[0], deadly, *CASES[2:20]], workers, lambda c, e: errors.append(str(e))
        )
        assert sorted(filter(None, results)) == [c.id for c in CASES[:20] if c.id != "001"]
    assert errors == [
        "case 001: its worker process was killed, perhaps for want of memory, and again when the "
        "case was tried alone; crop the scan, use a machine with more memory, or leave the case out"
    ]


def test_a_killed_worker_is_a_problem_of_its_case_alone(brats_folder, tmp_path):
    first, *others = find_cases(brats_folder)
    deadly = replace(first, label_series=Deadly(tmp_path / "killed", always=True))
    with Workers(2) as workers:
        found = survey([deadly, *others], executor=workers)
    problems = {facts.case_id: facts.problems for facts in found.cases}
    assert [case_id for case_id, said in problems.items() if said] == ["Case_001"]
    assert "its worker process was killed" in problems["Case_001"][0]


class Dying:
    """An executor whose process dies over a case, and that takes no other then."""

    dead = False

    def submit(self, function, case):
        if self.dead:
            raise BrokenProcessPool("dead")
        self.dead = True
        future = Future()
        future.set_exception(BrokenProcessPool("dead"))
        return future


def test_an_executor_that_stays_broken_costs_no_case():
    assert sorted(over_cases(name, CASES[:3], Dying(), died)) == ["000", "001", "002"]


def test_where_no_worker_can_be_started_that_is_said(monkeypatch):
    monkeypatch.setattr(module, "_begin", leave)
    with Workers(2) as workers, pytest.raises(DatasetError, match=r"end as soon as .*__main__"):
        list(over_cases(name, CASES, workers, died))


class Counting(Workers):
    """Workers that count what they are given."""

    submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)


def test_no_more_is_handed_over_than_keeps_the_workers_busy():
    with Counting(2) as workers:
        results = over_cases(name, CASES, workers, died)
        for received, _ in enumerate(results):
            assert workers.submitted <= received + 2 + 1 + 1  # beside what came: one for this
    assert workers.submitted == len(CASES)


def test_a_slow_case_does_not_hold_up_the_others():
    last = Event()

    def wait_for_last(case):
        return last.wait(60) if case is CASES[0] else last.set() if case is CASES[-1] else None

    with ThreadPoolExecutor(2) as pool:
        assert [r for r in over_cases(wait_for_last, CASES, pool, died) if r is not None] == [True]


@pytest.mark.parametrize(("most", "cases", "processes"), [(3, 9, 3), (3, 2, 2)])
def test_there_are_as_many_processes_as_are_of_use(most, cases, processes):
    with worker_processes(most, cases) as workers:
        assert workers.processes == processes


def test_an_executor_that_is_given_is_used():
    with ThreadPoolExecutor(2) as pool:
        with worker_processes(pool, 1) as used:
            assert used is pool
        assert pool.submit(int).result() == 0


@pytest.mark.parametrize(("most", "cases"), [(1, 9), (3, 1), (None, 1), (None, 0)])
def test_one_process_is_this_one(most, cases):
    with worker_processes(most, cases) as workers:
        assert workers is None
        here = partial(lambda pid, case: os.getpid() == pid, os.getpid())
        assert all(over_cases(here, CASES[:cases], workers, died))


def refuse(case):
    raise OutputError("no place")


def divide(case):
    return 1 / 0 if case is CASES[1] else case.id


def test_errors_of_ours_are_passed_on_and_others_fail_their_case():
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(OutputError):
            list(over_cases(refuse, CASES, pool, died))
        assert sorted(over_cases(divide, CASES[:3], pool, died)) == ["000", "001 died", "002"]


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_workers_end_with_the_process_that_was_killed():
    begins = (
        "import os, signal\n"
        "from vol3dseg.datasets.over_cases import worker_processes\n"
        "if __name__ == '__main__':\n"
        "    with worker_processes(2, 2) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", begins]
    # Its output is open until the last worker, and the server that they come from, have ended.
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    assert int(done.stdout) > 0  # a worker was there


def refuse_memory(file, size):
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def test_a_thread_that_has_no_room_is_not_begun(monkeypatch):
    """Python waits for ever for one that has no memory to begin with."""
    busy = Barrier(2)
    with machine.thread_pool(2) as pool:
        first = pool.submit(busy.wait)
        monkeypatch.setattr(machine, "mmap", refuse_memory)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            pool.submit(busy.wait)
        monkeypatch.undo()
        both = (first, pool.submit(busy.wait))
        assert sorted(one.result(10) for one in both) == [0, 1]
        monkeypatch.setattr(machine, "mmap", refuse_memory)
        assert pool.submit(int).result(10) == 0  # by a thread that is there


def test_where_hardly_any_memory_is_left_no_case_is_begun(monkeypatch):
    """Libraries that get none may end the process, and a thread that gets none is waited for."""

    begun, errors = [], []
    monkeypatch.setattr(machine, "mmap", refuse_memory)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        machine.thread_pool()
    list(over_cases(begun.append, CASES[:2], None, lambda case, error: errors.append(error)))
    assert begun == []
    assert [type(error) for error in errors] == [MemoryLimitError] * 2
    assert str(errors[0]).startswith("case 000: scan and results (the work on it) do not fit into")
