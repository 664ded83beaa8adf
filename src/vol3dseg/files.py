"""Files that are either whole or not there: atomic writing, hashing, JSON."""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from vol3dseg.errors import OutputError

_UNFINISHED = re.compile(r"\.vol3dseg-tmp-[0-9a-f]{16}")


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Give a temporary path that becomes `final` when the block ends without an error.

    It has the name of `final`, in a folder of its own beside it, because a rename is atomic within
    one file system only; the folder of `final` is made. The file is flushed to the disk before it
    is renamed, and removed when the block raises. `remove_leftovers` removes what a killed process
    leaves. OutputError: the folder cannot be made or written.
    """
    with _reporting(final), _temporary_folder(final.parent) as folder:
        temporary = folder / final.name
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(final)


@contextmanager
def _reporting(where: Path) -> Iterator[None]:
    """Report an error of the system as ours."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise OutputError(
            f"cannot be written ({error.strerror})",
            where=where,
            expected="a writable place with room",
            remedy="choose another",
        ) from error


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a new folder, locked as long as this process lives, and remove it in the end."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = parent / f".vol3dseg-tmp-{os.urandom(8).hex()}"
        folder.mkdir()
        with _lock(folder):
            if not folder.exists():  # taken for a leftover before it was locked
                continue
            try:
                yield folder
            finally:  # an error here must not hide the one that led here
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Try to lock a folder for the block; gives whether it is ours.

    The system releases a lock when its process ends, however it ends. Folders cannot be locked on
    Windows and most network file systems.
    """
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    descriptor, locked = None, False
    with suppress(FileNotFoundError):  # somebody else may just have removed it
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    if descriptor is None:
        yield False
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        yield locked
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove unfinished files of killed processes from a folder.

    They are recognised by their name and by a lock, which a process that still writes would hold:
    what is locked or cannot be locked stays.
    """
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            with suppress(OSError), _lock(path) as abandoned:
                if abandoned:
                    shutil.rmtree(path)


def set_aside(path: Path) -> Path:
    """Give a file another name in its folder, one that is free, and return it."""
    names = (path.with_name(f"{path.stem}.set-aside-{n}{path.suffix}") for n in count(1))
    aside = next(name for name in names if not name.exists())
    with _reporting(path):
        return path.rename(aside)


def write_bytes(final: Path, content: bytes) -> None:
    """Write `content` to `final` atomically."""
    with atomic_path(final) as temporary:
        temporary.write_bytes(content)


def require_writable(folder: Path) -> None:
    """Make a folder, try to write into it before work that takes long, and remove leftovers.

    OutputError: the folder cannot be made or written.
    """
    with _reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        remove_leftovers(folder)


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


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
