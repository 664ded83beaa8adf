"""A file system that is full: a small one in memory, at several sizes; then with room enough."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.ending import begin, finish, unclear
from benchmarks.faults.line import COMMANDS, OUT, Line
from benchmarks.faults.outcome import Outcome

SHARES = (0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)  # of what the command writes
_PAGE = 4096  # bytes
_FULL = ("No space left on device",)
_ROOM = "256m"


def full_disk(
    line: Line, commands: Sequence[str] = tuple(COMMANDS), shares: Sequence[float] = SHARES
) -> Iterator[Outcome]:
    """Give the outcome of each command."""
    for command in commands:
        if not may_mount(line.fresh("mount")):
            yield Outcome("full disk", command, 0, note="left out: no right to mount")
            continue
        used = _used(line.folder / command / OUT)
        lost, filled = [], 0
        for size in [max(_PAGE, int(used * share)) for share in shares]:
            said = _filled(line, command, size)
            filled += said is not None
            if said:
                lost.append(f"{size / 1024:.0f} KiB: {said}")
        yield Outcome("full disk", command, filled, tuple(lost))


def _filled(line: Line, command: str, size: int) -> str | None:
    """Run a command where there are only so many bytes, then with room.

    Return what was lost, if anything; None where it had room enough.
    """
    folder = line.fresh(f"full-{command}")
    with mounted(folder / OUT, str(size)):
        child = begin(line, command, (), folder)
        code = child.wait()
        if code == 0:
            return None
        said = unclear(code, child.said.read_text("utf-8", "replace"), _FULL)
        if said:
            return said
        _mount("-o", f"remount,size={_ROOM}", folder / OUT)
        return finish(line, command, (), folder)[1]


def may_mount(folder: Path) -> bool:
    """Return whether this process may mount a file system."""
    try:
        with mounted(folder / "trial", str(_PAGE)):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system of this size on a folder, which is made, for the block."""
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def _used(folder: Path) -> int:
    """Return what the files of a folder take in whole pages [bytes]."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // _PAGE) * _PAGE for size in sizes)
