"""Files that are whole or not there, and what a killed process leaves behind."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from vol3dseg import files
from vol3dseg.errors import OutputError, StoreError
from vol3dseg.files import (
    NowAndThen,
    atomic_path,
    forget_absent,
    read_small,
    remove_leftovers,
    remove_ours,
    require_writable,
    set_aside,
    sha256_json,
    trace,
    write_bytes,
    write_json,
    write_text,
)
from vol3dseg.written import LIST_NAME, add_to_list

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


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    final, flushed = tmp_path / "x.txt", []

    def noting(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append((path.name, path.read_text(), final.exists()))

    monkeypatch.setattr(os, "fsync", noting)
    write_text(final, "whole")
    (name, content, named), (lists, listed, named_too) = flushed
    assert (name, content, named) == ("x.txt", "whole", False)
    assert (lists, named_too) == (LIST_NAME, False)
    assert listed.endswith("  x.txt\n")


def test_a_file_of_somebody_else_stays(tmp_path):
    final = tmp_path / "x.txt"
    final.write_text("theirs")
    with pytest.raises(OutputError, match=r"would replace x\.txt, which vol3dseg did not write"):
        write_text(final, "ours")
    assert final.read_text() == "theirs"
    assert names(tmp_path) == ["x.txt"]


def test_folders_are_made(tmp_path):
    write_bytes(tmp_path / "a" / "b" / "x", b"whole")
    write_bytes(tmp_path / "a" / "b" / "x", b"again")
    assert (tmp_path / "a" / "b" / "x").read_bytes() == b"again"


def test_an_error_is_not_hidden_by_what_is_left(tmp_path):
    def write_half():
        with atomic_path(tmp_path / "x") as temporary:
            shutil.rmtree(temporary.parent)
            raise KeyError

    with pytest.raises(KeyError):
        write_half()


def free_descriptor():
    found = os.open(os.devnull, os.O_RDONLY)
    os.close(found)
    return found


def test_locks_are_closed(tmp_path):
    before = free_descriptor()
    for number in range(3):
        write_text(tmp_path / f"{number}", "x")
        with trace(tmp_path, "case"):
            pass
    require_writable(tmp_path)
    assert free_descriptor() == before


def leftover(folder, number=0):
    return folder / f".vol3dseg-tmp-{number:016x}"


def test_what_cannot_be_locked_stays(tmp_path, monkeypatch):
    """As on Windows, where nobody can tell whether its writer lives."""
    leftover(tmp_path).mkdir()
    (leftover(tmp_path) / "case.h5").touch()
    monkeypatch.setattr(sys, "platform", "win32")
    assert remove_leftovers(tmp_path) == set()
    assert leftover(tmp_path).is_dir()
    write_text(tmp_path / "x", "whole")
    monkeypatch.undo()
    assert remove_leftovers(tmp_path) == {"case.h5"}
    assert names(tmp_path) == ["x"]


def test_only_folders_are_leftovers_and_no_link_is_followed(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").touch()
    leftover(tmp_path, 1).symlink_to(theirs)
    os.mkfifo(leftover(tmp_path, 2))  # whoever opens it waits
    leftover(tmp_path, 3).write_text("a file")
    assert remove_leftovers(tmp_path) == set()
    assert len(names(tmp_path)) == 4
    assert (theirs / "file").exists()


def test_what_is_being_done_leaves_a_trace_until_it_is_done(tmp_path):
    with trace(tmp_path, "Case_001") as path:
        assert path.is_file()
        assert remove_leftovers(tmp_path) == set()  # since this process lives
        shutil.copytree(path.parent, leftover(tmp_path))
    assert names(tmp_path) == [leftover(tmp_path).name]
    assert remove_leftovers(tmp_path) == {"Case_001"}
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), trace(tmp_path / "file", "x"):
        pass


def test_what_grows_is_written_in_a_twentieth_of_the_time_at_most(monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    now_and_then = NowAndThen()

    def call(at, takes):
        def write():
            written.append(at)
            now[0] += takes

        now[0] = at
        now_and_then(write)

    for at, takes in ((0.0, 1.0), (20.9, 9.0), (21.0, 0.5), (31.4, 9.0), (31.5, 0.0)):
        call(at, takes)
    assert written == [0.0, 21.0, 31.5]
    call(31.5, 0.0)  # what takes no time is written whenever it is asked for
    assert written[-2:] == [31.5, 31.5]


def test_what_is_set_aside_takes_a_name_that_is_free(tmp_path):
    for number in (1, 2):
        (tmp_path / "run.log").write_text(str(number))
        assert set_aside(tmp_path / "run.log") == tmp_path / f"run.set-aside-{number}.log"
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["1", "2"]
    with pytest.raises(OutputError, match="cannot be written"):
        set_aside(tmp_path / "missing")


def small(path):
    return read_small(path, 10, StoreError, expected="ten bytes", remedy="cut it")


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_small_file_is_read_whole(size, tmp_path):
    (tmp_path / "x").write_bytes(bytes(range(size)))
    assert small(tmp_path / "x") == bytes(range(size))


NO_FILE = "is no file; expected ten bytes; cut it"
OF_NO_SIZE = [
    pytest.param(lambda path: path.write_bytes(bytes(11)), "is too large; expected ten bytes, of "
                 "at most 10 bytes; cut it", id="a byte more"),
    pytest.param(lambda path: path.symlink_to("/dev/zero"), NO_FILE, id="without end"),
    pytest.param(os.mkfifo, NO_FILE, id="pipe"),
    pytest.param(Path.mkdir, NO_FILE, id="folder"),
    pytest.param(lambda path: None, "is missing; expected ten bytes; cut it", id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), OF_NO_SIZE)
def test_what_is_no_small_file_is_refused(make, message, tmp_path):
    make(tmp_path / "x")
    with pytest.raises(StoreError) as caught:
        small(tmp_path / "x")
    assert str(caught.value) == f"{tmp_path / 'x'}: {message}"


def test_json_is_for_people_and_has_no_nan(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"b": 1, "a": ["Ärztin", None]})
    expected = '{\n  "b": 1,\n  "a": [\n    "Ärztin",\n    null\n  ]\n}\n'
    assert path.read_bytes() == expected.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert path.read_bytes() == expected.encode()


def test_names_that_are_no_text_are_written_as_escapes(tmp_path):
    write_text(tmp_path / "x", os.fsdecode(b"\xff"))
    assert (tmp_path / "x").read_bytes() == b"\\udcff"


def test_a_value_has_one_digest_whatever_its_order():
    assert sha256_json({"a": 1, "b": [2.5]}) == sha256_json({"b": [2.5], "a": 1})
    assert sha256_json({"a": 1}) == (  # echo -n '{"a":1}' | sha256sum
        "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        sha256_json(float("inf"))


# ---------------------------------------------------------------- before work that takes long


def test_a_folder_is_made_and_nothing_in_it(tmp_path):
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        assert require_writable(folder, ["sub/deep/z.txt", "sub/y.txt", "x.txt"]) == set()
        assert list(folder.iterdir()) == []


def test_leftovers_are_removed_wherever_something_will_be_written(tmp_path):
    for place in ("", "sub", "other"):
        leftover(tmp_path / place).mkdir(parents=True)
        (leftover(tmp_path / place) / f"of {place}").touch()
    assert require_writable(tmp_path, ["x", "sub/y"]) == {"of ", "of sub"}
    assert names(tmp_path / "other") == [leftover(tmp_path).name]


def test_what_is_there_and_not_ours_is_refused_before_work_begins(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "y").touch()
    require_writable(tmp_path, ["sub/x"])
    with pytest.raises(OutputError, match="would replace y, which vol3dseg did not write"):
        require_writable(tmp_path, ["sub/x", "sub/y"])


def test_a_file_is_removed_if_it_is_as_we_wrote_it(tmp_path):
    write_text(tmp_path / "ours", "x")
    write_text(tmp_path / "changed", "x")
    (tmp_path / "changed").write_text("y")
    (tmp_path / "theirs").write_text("x")
    assert [remove_ours(tmp_path / n) for n in ("ours", "changed", "theirs", "none")] == [
        True, False, False, False
    ]  # fmt: skip
    assert names(tmp_path) == ["changed", "theirs"]


def test_a_list_forgets_what_is_not_there_and_nothing_else(tmp_path, monkeypatch):
    names = ["a.h5", "odd\rname.h5", "gone.h5"]
    for name in names[:2]:
        (tmp_path / name).touch()
    add_to_list(tmp_path, dict.fromkeys(names, "0" * 64))
    lines = (tmp_path / LIST_NAME).read_bytes().split(b"\n")
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_size))
    for _ in range(2):  # the second time there is nothing to forget
        forget_absent(tmp_path)
        kept = (tmp_path / LIST_NAME).read_bytes()
        assert kept.split(b"\n") == [*lines[:3], b""]
        assert flushed == [len(kept)]
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []


def test_whoever_writes_next_removes_what_a_killed_process_left(tmp_path):
    dead = start_writing(tmp_path / "dead.h5")
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    living = start_writing(tmp_path / "living.h5")
    with atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.glob("*/*")] == ["living.h5"]
    living.communicate()
    assert names(tmp_path) == ["living.h5", "x.txt"]


def test_a_folder_that_somebody_else_has_locked_first_is_made_anew(tmp_path, monkeypatch):
    """Whoever takes it for a leftover has it locked, and is about to remove it."""
    fcntl = pytest.importorskip("fcntl")
    locked, opened = [], os.open

    def open_after_another(path, *rest, **named):
        if not locked and ".vol3dseg-tmp-" in str(path):
            locked.append(opened(path, *rest))
            fcntl.flock(locked[0], fcntl.LOCK_EX)
        return opened(path, *rest, **named)

    monkeypatch.setattr(os, "open", open_after_another)
    with atomic_path(tmp_path / "x.txt") as temporary:
        assert len(locked) == 1
        held = os.fstat(locked[0]).st_ino
        assert temporary.parent.stat().st_ino != held or os.fstat(locked[0]).st_nlink == 0
        temporary.write_text("whole")
    os.close(locked[0])
    assert names(tmp_path) == ["x.txt"]
