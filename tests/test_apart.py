"""Work in a process of its own: what becomes of it when either process is killed."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from vol3dseg.errors import RunError
from vol3dseg.machine import limited_cores, usable_cores
from vol3dseg.training import child_process
from vol3dseg.training.child_process import KILLED, Outcome
from vol3dseg.training.timing import Step
from vol3dseg.training.watching import quiet

apart = partial(child_process.apart, progress=quiet, show=quiet)


def own_id(**_):
    return Outcome(str(os.getpid()))


def refused(**_):
    raise RunError("no room", remedy="make some")


def wrong(**_):
    raise ZeroDivisionError("nothing")


def killed(times, again, **_):
    if times == 2 or not again:
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome("done", finished=True)


def cores(**_):
    return Outcome(f"{usable_cores()}, limited to {limited_cores()}")


def talking(progress, show, **_):
    progress("a line")
    show(Step(1, 2, "train", 3, 4, 0.5, None))
    progress("another")
    return Outcome("done", finished=True)


def wait_long(path, **_):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def test_it_is_another_process_and_tells_what_it_refuses(capfd):
    assert apart(own_id).said != str(os.getpid())
    assert apart(refused) == Outcome("failed: no room; make some")
    assert apart(wrong) == Outcome("failed: ZeroDivisionError: nothing")
    assert "Traceback" in capfd.readouterr().err


def test_what_is_killed_is_done_again_once():
    said = []
    told = partial(child_process.apart, progress=said.append, show=quiet)
    assert told(killed, 1).finished
    assert said == ["its process was killed, perhaps for want of memory; it is tried again"]
    assert told(killed, 2) == KILLED


def test_what_it_says_and_shows_comes_here():
    said, shown = [], []
    child_process.apart(talking, progress=said.append, show=shown.append)
    assert said == ["a line", "another"]
    assert shown == [Step(1, 2, "train", 3, 4, 0.5, None)]


def test_it_uses_the_cores_of_this_process_or_as_many_as_are_given():
    assert apart(cores).said == f"{usable_cores()}, limited to {limited_cores()}"
    if usable_cores() > 1:
        assert apart(cores, threads=1).said == "1, limited to 1"


def test_what_is_no_longer_waited_for_ends(monkeypatch, tmp_path):
    monkeypatch.setattr(child_process, "is_awaited", lambda: not (tmp_path / "pid").exists())
    with pytest.raises(InterruptedError):
        apart(wait_long, tmp_path / "pid")
    pid = (tmp_path / "pid").read_text()
    assert not pid or not runs(int(pid))


def test_it_ends_when_the_process_that_began_it_is_killed(tmp_path):
    """Or it would go on writing into a run that somebody resumes."""
    script = tmp_path / "begin.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_apart import apart, wait_long\n"
        "if __name__ == '__main__':\n"
        "    apart(wait_long, sys.argv[1])\n"
    )
    told = tmp_path / "pid"
    command = [sys.executable, str(script), str(told)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: told.exists() and told.read_text())
        process.kill()
    wait_for(lambda: not runs(int(told.read_text())))


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def wait_for(condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
