"""What is ours: each folder that we write into keeps a list of it, with the SHA-256 of each file.

A file is replaced or removed only if the list of its folder has it, with the SHA-256 that it has
now. What was there before, or was changed since, is somebody's own. The list has the form of
`sha256sum`; lines are only ever added, since several processes may write into one folder.
"""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vol3dseg.errors import OutputError, Vol3dSegError, reading, some_of

_UNUSABLE = {errno.ENAMETOOLONG, errno.ELOOP}
LIST_NAME = ".vol3dseg-files"
_TITLE = b"# What vol3dseg has written here; it replaces and removes nothing else.\n"


def usable_path(given: str | Path, error: type[Vol3dSegError]) -> Path:
    """Return a path that may be there or not; one that no system takes is an `error`."""
    try:
        Path(given).stat()
    except ValueError:
        said = "no name holds NUL"
    except OSError as reason:
        if reason.errno not in _UNUSABLE:
            return Path(given)
        said = str(reason.strerror)
    else:
        return Path(given)
    raise error(
        f"cannot be the name of a file or folder ({said})",
        where=str(given).replace("\0", "\\0"),
        remedy="choose another",
    )


@contextmanager
def reporting(where: Path) -> Iterator[None]:
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
            remedy="make room there, or choose another",
        ) from error


def is_ours(path: Path) -> bool:
    """Return whether there is a file that is byte for byte as we wrote it.

    OutputError: it cannot be read, so nobody knows.
    """
    if not os.path.lexists(path) or path.is_symlink() or not path.is_file():
        return False
    known = _list_of(path.parent)
    with reading(path, OutputError, expected="a file to replace", remedy="move it elsewhere"):
        return _line(path.name, sha256_file(path)) in known


def require_ours(paths: Iterable[Path], doing: str = "would replace") -> None:
    """Refuse to replace what is there and is not ours, all of it in one OutputError."""
    paths = list(paths)
    for folder in dict.fromkeys(path.parent for path in paths):
        _list_of(folder)
    foreign = [path for path in paths if os.path.lexists(path) and not is_ours(path)]
    if not foreign:
        return
    together = len({path.parent for path in foreign}) == 1
    names = [path.name if together else str(path) for path in foreign]
    raise OutputError(
        f"{doing} {some_of(names)}, which vol3dseg did not write or which changed since",
        where=foreign[0].parent if together else "",
        expected=f"new names, or files as {LIST_NAME} lists them",
        remedy="choose another output, or move what is there elsewhere",
    )


def add_to_list(folder: Path, files: Mapping[str, str]) -> None:
    """Add files to the list of their folder, by name with their SHA-256."""
    known, path = _list_of(folder), folder / LIST_NAME
    lines = b"".join(_line(name, digest) for name, digest in files.items())
    with reporting(path), path.open("ab") as file:
        file.write(_before(known) + lines)  # two that begin at once give two titles
        file.flush()
        os.fsync(file.fileno())


def _before(known: bytes) -> bytes:
    """Return what must stand before a new line: a full disk may have cut off what was last."""
    return _TITLE[len(known) :] or (b"" if known.endswith(b"\n") else b"\n")


def adopt(folder: Path, files: Mapping[str, str]) -> None:
    """List files of a folder that has no list, as one has not that was copied without it.

    `files` are those that a record of ours in it names, with their SHA-256.
    """
    if files and folder.is_dir() and not os.path.lexists(folder / LIST_NAME):
        add_to_list(folder, files)


def list_again(folder: Path, files: Mapping[str, str]) -> None:
    """Add what the list of a folder lost, of files that are ours, by name with their SHA-256.

    Lines that several machines add at once may overwrite each other on a network file system.
    """
    known = _list_of(folder)
    lost = {name: digest for name, digest in files.items() if _line(name, digest) not in known}
    if lost and folder.is_dir():
        add_to_list(folder, lost)


def lines_of_present(folder: Path) -> bytes | None:
    """Return the list of a folder without what is not there; None if that changes nothing."""
    known = _list_of(folder)
    names = {_line(path.name, "")[2:] for path in folder.iterdir()} if known else set()
    lines = [line + b"\n" for line in known.split(b"\n")[:-1]]
    kept = b"".join(line for line in lines if line == _TITLE or line[66:] in names)
    return None if kept == known else kept


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, as hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        error.filename = error.filename or str(path)  # which one that fails to read does not say
        raise


def _list_of(folder: Path) -> bytes:
    """Return the list of a folder; empty, or a part of its title, where it is just begun."""
    path = folder / LIST_NAME
    if not os.path.lexists(path):
        return b""
    foreign = path.is_symlink() or not path.is_file()
    with reporting(path):
        content = b"" if foreign else path.read_bytes()
    if foreign or content[: len(_TITLE)] != _TITLE[: len(content)]:
        raise OutputError(
            "is not of vol3dseg",
            where=path,
            expected="its list of what it has written there",
            remedy="choose another output, or move the file elsewhere",
        )
    return content


def _line(name: str, digest: str) -> bytes:
    # A name with a line break must not stand for two lines.
    return b"%s  %s\n" % (digest.encode(), os.fsencode(name).replace(b"\n", b"\\n"))
