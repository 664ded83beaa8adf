"""How a command may end that was disturbed: with a clear message, and when it is given again."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.children import Child, start
from benchmarks.faults.judging import broken, complaint
from benchmarks.faults.line import OUT, Line

_AGAIN = 3  # times that a command may be given: the first may name a case over which it was killed


def begin(line: Line, command: str, more: Sequence[str], folder: Path) -> Child:
    """Begin a command of the line in a folder, or go on with it."""
    words = line.words(command, folder)
    for option in {*words} & {*more}:  # given otherwise
        place = words.index(option)
        del words[place : place + 2]
    return start([*words, *more], folder, forks=command == "cross-validate")


def unclear(code: int | None, said: str, causes: Sequence[str]) -> str:
    """Say why a failure was not told as it should be, whichever of the causes it was."""
    return "; ".join(min((complaint(code, said, cause) for cause in causes), key=len))


def finish(line: Line, command: str, more: Sequence[str], folder: Path) -> tuple[int, str]:
    """Give the command again until it is done; return how many times, and what was lost."""
    if said := list(broken(folder / OUT)):
        return 0, "; ".join(said)
    for again in range(1, _AGAIN + 1):
        child = begin(line, command, more, folder)
        code = child.wait()
        if code == 0:
            return again, "; ".join(line.differences(command, folder))
        if code is None:
            child.kill()
            child.wait()
            return again, f"given again it hangs: {child.words}"
    return _AGAIN, f"given again it ends with exit code {code}: {child.words}"
