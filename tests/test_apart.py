"""Work in a process of its own: what becomes of it when either process is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from vol3dseg.errors import RunError
from vol3dseg.training.several import Outcome, apart, as_outcome


def own_id():
    return Outcome(str(os.getpid()))


@as_outcome
def refused():
    raise RunError("no room", remedy="make some")


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def wait_long(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def test_it_is_another_process_and_tells_what_it_refuses():
    assert apart(own_id).said != str(os.getpid())
    assert apart(refused) == Outcome("failed: no room; make some")
    assert "its process was killed" in apart(killed).said


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
