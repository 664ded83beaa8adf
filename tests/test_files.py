"""Files that are whole or not there, and what a killed process leaves behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from vol3dseg.errors import OutputError
from vol3dseg.files import atomic_path, require_writable
from vol3dseg.written import LIST_NAME

WRITER = """
import sys
from pathlib import Path
from pathlib import Path
from vol3dseg.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half of it")
    print("writing", flush=True)
    sys.stdin.read()
"""


def start_writing(final):
    """A process that is in the middle of a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(final)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    return process


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != LIST_NAME)


def test_what_a_killed_process_of_the_same_number_left_is_no_obstacle(tmp_path):
    """In containers it often has: the first process of each is number 1."""
    final = tmp_path / "case.h5"
    (tmp_path / f".tmp-{os.getpid()}-case.h5").write_bytes(b"half of it")
    with atomic_path(final) as temporary, h5py.File(temporary, "x") as file:
        file.attrs["whole"] = 1
    with h5py.File(final) as file:
        assert file.attrs["whole"] == 1


def test_two_that_write_one_file_do_not_meet(tmp_path):
    final = tmp_path / "x.txt"
    with atomic_path(final) as ours, atomic_path(final) as theirs:
        ours.write_text("ours")
        theirs.write_text("theirs")
    assert final.read_text() == "ours"
    assert names(tmp_path) == ["x.txt"]


def test_a_block_that_raises_leaves_nothing(tmp_path):
    def write_half():
        with atomic_path(tmp_path / "x") as temporary:
            temporary.write_bytes(b"half of it")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert names(tmp_path) == []


def test_what_is_not_written_is_an_error_of_ours(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"), atomic_path(tmp_path / "x"):
        pass
    assert names(tmp_path) == []


def test_a_folder_that_is_taken_for_a_leftover_before_it_is_locked_is_made_anew(
    tmp_path, monkeypatch
):
    opened = os.open
    taken = []

    def open_too_late(path, *rest, **named):
        if not taken and ".vol3dseg-tmp-" in str(path):
            taken.append(path)
            Path(path).rmdir()
        return opened(path, *rest, **named)

    monkeypatch.setattr(os, "open", open_too_late)
    with atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("whole")
    assert taken
    assert names(tmp_path) == ["x.txt"]


def test_leftovers_of_the_dead_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-1-mine.h5").write_bytes(b"of somebody else")
    (tmp_path / ".vol3dseg-tmp-notes").mkdir()
    living = start_writing(tmp_path / "living.h5")
    dead = start_writing(tmp_path / "dead.h5")
    before = names(tmp_path)
    assert len(before) == 4
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    assert names(tmp_path) == before
    require_writable(tmp_path)
    (left,) = [path for path in tmp_path.iterdir() if (path / "living.h5").is_file()]
    assert names(tmp_path) == sorted([".tmp-1-mine.h5", ".vol3dseg-tmp-notes", left.name])
    living.communicate()
    assert (tmp_path / "living.h5").read_bytes() == b"half of it"
    require_writable(tmp_path)
    assert names(tmp_path) == [".tmp-1-mine.h5", ".vol3dseg-tmp-notes", "living.h5"]
