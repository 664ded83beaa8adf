"""Which cores a process uses, and how others are started on them."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Thread

import pytest

from vol3dseg.machine import limit_cores, on_one_core, usable_cores


@pytest.mark.parametrize(("most", "found"), [(1, 1), (0, 1), (10_000, usable_cores())])
def test_a_limit_is_of_the_process_that_sets_it(most, found):
    with ProcessPoolExecutor(1, get_context("spawn"), limit_cores, (most,)) as pool:
        assert pool.submit(usable_cores).result() == found


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are granted on Linux")
def test_a_thread_and_those_it_starts_stay_on_one_core_for_a_block():
    granted, seen = os.sched_getaffinity(0), []
    with on_one_core():
        thread = Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
        seen.append(os.sched_getaffinity(0))
    assert len(seen[0]) == 1
    assert seen[0] == seen[1] <= granted
    assert os.sched_getaffinity(0) == granted


@pytest.mark.skipif(sys.platform == "win32", reason="there is no server of processes")
def test_workers_have_imported_ahead():
    """A module that this process does not import is there in a worker before its first work."""
    script = """
import sys
from vol3dseg.process_starts import import_ahead, process_starts
from vol3dseg import machine
machine._granted_cores = lambda: 2
import_ahead("wsgiref.simple_server")
with process_starts().Pool(1) as pool:
    there = pool.apply(eval, ["'wsgiref.simple_server' in __import__('sys').modules"])
print(there, "wsgiref.simple_server" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True False\n"), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no server of processes")
def test_what_cannot_be_imported_ahead_is_left_to_the_first_work_that_needs_it(tmp_path):
    (tmp_path / "hungry.py").write_text("raise MemoryError")
    script = """
from vol3dseg.process_starts import import_ahead, process_starts
from vol3dseg import machine
machine._granted_cores = lambda: 2
import_ahead("hungry")
with process_starts().Pool(1) as pool:
    print(pool.apply(abs, [-3]))
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no server of processes")
def test_a_process_that_dies_leaves_no_word_of_semaphores():
    script = """
import os
from vol3dseg.process_starts import process_starts
process_starts().Pool(1).apply(abs, [-3])
os._exit(3)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no server of processes")
def test_workers_start_where_the_name_of_a_socket_would_be_too_long(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    script = """
from vol3dseg.process_starts import import_ahead, process_starts
if __name__ == "__main__":
    import_ahead("wsgiref.simple_server")
    with process_starts().Pool(1) as pool:
        print(pool.apply(abs, [-3]))
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
