"""DICOM files, through pydicom, with the checks that pydicom leaves to its caller.

Warnings and logs of pydicom and highdicom quote what headers hold, names of patients among it; both
are silent while they work for us. A DICOMDIR is never followed, and no value of a tag becomes part
of a path.
"""

import io
import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from vol3dseg.errors import (
    FileFormatError,
    MemoryLimitError,
    MissingExtraError,
    Vol3dSegError,
)

_LONGEST = 64  # characters of DICOM's long strings
_LIBRARIES = ("pydicom", "highdicom")
_LOCK = RLock()  # warnings and levels of logs belong to the whole process
_PORTION = 2**20
_PREAMBLE = 132  # bytes, `DICM` the last of them
MOST_INFLATED = 2**30  # bytes of a deflated file, which pydicom unpacks in one go


class _Bounded(io.BufferedReader):
    """A file that is never asked for more than it holds, whatever its headers claim."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes without setting room aside for more than there are."""
        if size is not None and size > _PORTION:
            here = self.tell()
            size = min(size, max(self.seek(0, io.SEEK_END) - here, 0))
            self.seek(here)
        return super().read(size)


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn what pydicom raises on a damaged file into one error of ours, and keep it silent.

    Raises
    ------
    FileFormatError
        The file is truncated, damaged or not readable.
    MemoryLimitError
        It does not fit into memory.
    """
    with _silence():
        try:
            yield
        except Vol3dSegError:
            raise
        except MemoryError as error:
            raise MemoryLimitError(
                "does not fit into memory", where=path, remedy="use a machine with more"
            ) from error
        except EOFError as error:
            raise FileFormatError(
                "truncated", where=path, expected="the whole file", remedy="copy or export it again"
            ) from error
        except OSError as error:
            raise FileFormatError(
                f"cannot be read ({error.strerror or 'damaged'})",
                where=path,
                expected="a readable file",
                remedy="mend its permissions, or copy it again",
            ) from error
        except Exception as error:  # damage shows as any exception, deep inside pydicom
            raise FileFormatError(
                f"damaged DICOM file ({type(error).__name__})",
                where=path,
                expected="one that pydicom can parse",
                remedy="copy or export it again",
            ) from error


@contextmanager
def _silence() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def require_pydicom() -> None:
    """Say how to install pydicom where it is absent.

    Raises
    ------
    MissingExtraError
    """
    try:
        import pydicom  # noqa: F401 - heavy, and not everyone's
    except ImportError as error:
        raise MissingExtraError("pydicom", "dicom") from error


def is_dicom(start: bytes) -> bool:
    """Tell whether a file that starts so is DICOM: `DICM` stands behind 128 bytes."""
    return start[_PREAMBLE - 4 : _PREAMBLE] == b"DICM"


def is_dicom_file(path: Path) -> bool:
    """Tell whether there is a file that starts as DICOM does."""
    if not path.is_file():
        return False
    with parsing(path), path.open("rb") as file:
        return is_dicom(file.read(_PREAMBLE))


def read_dataset(path: Path, tags: Sequence[str | int] | None = None) -> Any:
    """Read a DICOM file: some tags of its header, or all of it.

    Parameters
    ----------
    path : Path
    tags : sequence of keywords and numbers, or None
        None reads all, voxels included.

    Returns
    -------
    pydicom.FileDataset
        Its values are parsed when they are asked for: do that inside `parsing` as well.

    Raises
    ------
    FileFormatError, MemoryLimitError
        See `parsing`.
    MissingExtraError
        pydicom is not installed.
    """
    require_pydicom()
    import pydicom

    with parsing(path):
        _check_inflated(path)
        with _Bounded(io.FileIO(path)) as file:
            wanted = None if tags is None else list(tags)
            return pydicom.dcmread(file, stop_before_pixels=tags is not None, specific_tags=wanted)


def _check_inflated(path: Path) -> None:
    """Refuse a deflated file that would fill the memory."""
    from pydicom import filereader
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with _Bounded(io.FileIO(path)) as file:
        file.seek(_PREAMBLE)
        meta = filereader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
    if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        return
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(144 + int(meta.FileMetaInformationGroupLength))
        while content := file.read(_PORTION):
            while content and size <= MOST_INFLATED:
                size += len(inflate.decompress(content, _PORTION))
                content = inflate.unconsumed_tail
            if size > MOST_INFLATED:
                raise FileFormatError(
                    f"inflates to more than {MOST_INFLATED} bytes",
                    where=path,
                    expected="at most that many",
                    remedy="store it uncompressed",
                )


def long_string(text: str) -> str:
    """Return text as DICOM can hold it: short, and without what separates values."""
    return text.replace("\\", "/")[:_LONGEST]


def printable(text: Any) -> str:
    """Return text of a header fit for one line: a message must not be forged by it."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()[:_LONGEST]
