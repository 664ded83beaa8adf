"""Files that are either whole or not there: atomic writing, hashing, JSON."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vol3dseg.errors import OutputError


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Give a temporary path that becomes `final` when the block ends without an error.

    The temporary file stands beside the final one, because a rename is atomic within one file
    system only; it is flushed to the disk first and removed when the block raises.

    Parameters
    ----------
    final : Path
        Where the finished file shall stand; its folder is made.

    Yields
    ------
    Path
        The temporary path; it keeps the suffixes of `final`, since writers choose by them.

    Raises
    ------
    OutputError
        The folder cannot be made or written.
    """
    temporary = final.with_name(f".tmp-{os.getpid()}-{final.name}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise OutputError(
            f"cannot be written ({error.strerror})",
            where=final,
            expected="a writable place with room",
            remedy="choose another",
        ) from error
    finally:
        with suppress(OSError):  # it must not hide the error that led here
            temporary.unlink()


def write_bytes(final: Path, content: bytes) -> None:
    """Write `content` to `final` atomically."""
    with atomic_path(final) as temporary:
        temporary.write_bytes(content)


def require_writable(folder: Path) -> None:
    """Make a folder and try to write into it: ask before work that takes long, not after it.

    Raises
    ------
    OutputError
        The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror})",
            where=folder,
            expected="a writable place with room",
            remedy="choose another",
        ) from error


def write_text(final: Path, content: str) -> None:
    """Write `content` to `final` atomically, as UTF-8.

    Names of files that are not UTF-8 hold lone surrogates; these become backslash escapes.
    """
    write_bytes(final, content.encode(errors="backslashreplace"))


def write_json(final: Path, value: object) -> None:
    """Write `value` to `final` atomically, as indented JSON; NaN is refused: JSON has none."""
    write_text(final, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def canonical_json(value: object) -> str:
    """Return the one spelling of `value` in JSON that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_text(content: str) -> str:
    """Return the SHA-256 of `content` in UTF-8, as hexadecimal digits."""
    return hashlib.sha256(content.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
