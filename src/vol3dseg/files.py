"""Files that are either whole or not there, and never somebody else's: atomic writing, JSON."""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from vol3dseg.errors import OutputError, Vol3dSegError, reading
from vol3dseg.written import (
    LIST_NAME,
    add_to_list,
    is_ours,
    lines_of_present,
    reporting,
    require_ours,
    sha256_file,
)

_SHARE = 0.05  # of the time
_UNFINISHED = re.compile(r"\.vol3dseg-tmp-[0-9a-f]{16}")


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Give a temporary path that becomes `final` when the block ends without an error.

    It has the name of `final`, in a folder of its own beside it, because a rename is atomic within
    one file system only; the folder of `final` is made. The file is flushed to the disk before it
    is renamed, and removed when the block raises; what a killed process has left beside it is
    removed as well. OutputError: the folder cannot be made or written, or the file there is not
    ours.
    """
    with reporting(final), _temporary_folder(final.parent) as folder:
        remove_leftovers(final.parent)
        temporary = folder / final.name
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        require_ours([final])
        # Listed first: a process that is killed in between must know its own file again.
        add_to_list(final.parent, {final.name: sha256_file(temporary)})
        temporary.replace(final)


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a new folder, locked as long as this process lives, and remove it in the end."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = parent / f".vol3dseg-tmp-{os.urandom(8).hex()}"
        folder.mkdir()
        try:
            with lock_folder(folder) as locked:
                if locked is False or not folder.exists():  # taken for a leftover before that
                    continue
                try:
                    yield folder
                finally:  # an error here must not hide the one that led here
                    shutil.rmtree(folder, ignore_errors=True)
                return
        finally:  # once more, since what could not be read just now may be readable again
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock_folder(folder: Path, shared: bool = False) -> Iterator[bool | None]:
    """Try to lock a folder for the block; gives whether it is ours, None where nobody can tell.

    The system releases a lock when its process ends, however it ends, and whatever the number of
    the process is. Folders cannot be locked on Windows and most network file systems.
    """
    if sys.platform == "win32":
        yield None
        return
    import fcntl

    descriptor, locked = None, None
    with suppress(FileNotFoundError):  # somebody else may just have removed it
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    if descriptor is None:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            locked = os.path.samestat(os.fstat(descriptor), folder.stat())
        except BlockingIOError:
            locked = False
        except OSError:
            pass
        yield locked
    finally:
        os.close(descriptor)


def is_unfinished(path: Path) -> bool:
    """Tell whether a path is called as what is not finished, or was not before a process died."""
    return _UNFINISHED.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> set[str]:
    """Remove unfinished files of killed processes from a folder, and return their names.

    They are recognised by their name and by a lock, which a process that still writes would hold:
    what is locked or cannot be locked stays.
    """
    names = set[str]()
    for path in folder.iterdir():
        if is_unfinished(path):
            with suppress(OSError), lock_folder(path) as abandoned:
                if abandoned:
                    names |= {left.name for left in path.iterdir()}
                    shutil.rmtree(path)
    return names


@contextmanager
def trace(folder: Path, name: str) -> Iterator[Path]:
    """Give an unfinished file for the block: if it is killed, `remove_leftovers` tells."""
    with ExitStack() as stack:
        with reporting(folder):
            path = stack.enter_context(_temporary_folder(folder)) / name
            path.touch()
        yield path


class NowAndThen:
    """Writes what grows with every case: after each, or less often where that would take long."""

    def __init__(self) -> None:
        self._due = 0.0

    def __call__(self, write: Callable[[], object]) -> None:
        """Write, if that has taken less than a twentieth of the time so far."""
        started = time.monotonic()
        if started >= self._due:
            write()
            ended = time.monotonic()
            self._due = ended + (ended - started) / _SHARE


def set_aside(path: Path) -> Path:
    """Give a file another name in its folder, one that is free, and return it."""
    names = (path.with_name(f"{path.stem}.set-aside-{n}{path.suffix}") for n in count(1))
    with reporting(path):
        aside = next(name for name in names if not name.exists())
        return path.rename(aside)


def read_small(
    path: Path, most: int, error: type[Vol3dSegError], *, expected: str, remedy: str
) -> bytes:
    """Read a file of `most` bytes or fewer; a larger one, or none at all, is an `error`."""
    with reading(path, error, expected=expected, remedy=remedy):
        if path.exists() and not path.is_file():  # opening a pipe would wait
            raise error("is no file", where=path, expected=expected, remedy=remedy)
        with path.open("rb") as file:
            content = file.read(most + 1)
    if len(content) > most:
        wanted = f"{expected}, of at most {most} bytes"
        raise error("is too large", where=path, expected=wanted, remedy=remedy)
    return content


def write_bytes(final: Path, content: bytes | memoryview) -> None:
    """Write `content` to `final` atomically."""
    with atomic_path(final) as temporary:
        temporary.write_bytes(content)


def require_writable(folder: Path, names: Collection[str] = ()) -> set[str]:
    """Make a folder, and try what is to be written into it before work that takes long.

    Leftovers are removed, and their names are returned. OutputError: the folder cannot be made or
    written, a file of one of these names is there and not ours, or two of the names are one there.
    """
    with reporting(folder):
        places = dict.fromkeys([folder, *((folder / name).parent for name in names)])
        left = set().union(*(remove_leftovers(place) for place in places if place.is_dir()))
        with _temporary_folder(folder) as trial:
            _try_names(trial, names)
    require_ours(folder / name for name in names)
    return left


def _try_names(trial: Path, names: Collection[str]) -> None:
    """Refuse names that the file system does not take, or does not tell apart by their case."""
    for name in names:
        with reporting(trial.parent / name):
            (trial / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                (trial / name).touch(exist_ok=False)
            except FileExistsError as error:
                same = next(other for other in names if (trial / other).samefile(trial / name))
                raise OutputError(
                    f"would write {name} twice"
                    if same == name
                    else f"does not tell {same} from {name}",
                    where=trial.parent,
                    expected="a name of its own for each output",
                    remedy="rename one of the inputs, or choose separate output folders",
                ) from error


def remove_ours(path: Path) -> bool:
    """Remove a file if it is byte for byte as we wrote it; returns whether it was."""
    found = is_ours(path)
    if found:
        path.unlink()
    return found


def forget_absent(folder: Path) -> None:
    """Drop from the list of a folder what is not there any more, so that it names it no longer.

    Only where nobody else writes into the folder: a file is listed before it is there.
    """
    path = folder / LIST_NAME
    kept = lines_of_present(folder)
    if kept is not None:
        with reporting(path), _temporary_folder(folder) as trial:
            (trial / LIST_NAME).write_bytes(kept)
            with (trial / LIST_NAME).open("rb") as file:
                os.fsync(file.fileno())
            (trial / LIST_NAME).replace(path)


def write_text(final: Path, content: str) -> None:
    """Write `content` to `final` atomically, as UTF-8.

    Names of files that are not UTF-8 hold lone surrogates; these become backslash escapes.
    """
    write_bytes(final, content.encode(errors="backslashreplace"))


def write_json(final: Path, value: object) -> None:
    """Write `value` to `final` atomically, as indented JSON; NaN is refused: JSON has none."""
    write_text(final, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_json(value: object) -> str:
    """Return the SHA-256 of the one spelling of `value` in JSON, as hexadecimal digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
