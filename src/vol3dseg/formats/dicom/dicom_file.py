"""One DICOM file, through pydicom, with the checks that pydicom leaves to its caller.

Warnings and logs of pydicom and highdicom quote headers, patients' names among it; both are silent
while they work for us. A DICOMDIR is never followed, and no value of a tag becomes part of a path.
"""

import io
import logging
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from vol3dseg.errors import FileFormatError, Vol3dSegError, in_memory
from vol3dseg.extras import ProcessSetting, load_extra
from vol3dseg.formats.dicom.beginning import PREAMBLE, require_preamble
from vol3dseg.formats.limits import MAX_RATIO, MOST_INFLATED
from vol3dseg.formats.streams import PORTION, damaged, unreadable

_LONGEST = 64  # characters of DICOM's long strings
_HEADER = 2**16  # bytes that most headers fit into, read at once


def _silence(restore: ExitStack) -> None:
    restore.enter_context(warnings.catch_warnings(action="ignore"))
    for logger in map(logging.getLogger, ("pydicom", "highdicom")):
        restore.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)


_SILENCE = ProcessSetting(_silence)


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Keep pydicom silent, and turn what it raises into a FileFormatError or MemoryLimitError."""
    try:
        with _SILENCE, in_memory("its contents", path):
            yield
    except Vol3dSegError:
        raise
    except OSError as error:
        raise unreadable(error, path) from error
    except Exception as error:  # damage shows as any exception, deep inside pydicom
        truncated = isinstance(error, EOFError)
        found = "truncated" if truncated else f"damaged DICOM file ({type(error).__name__})"
        raise damaged(found, path, "one that pydicom can parse") from error


class _Bounded(io.BufferedReader):
    """A file that is never asked for more than it holds, whatever its headers claim."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes without setting room aside for more than there are."""
        if size is not None and size > PORTION:
            size = min(size, max(os.fstat(self.fileno()).st_size - self.tell(), 0))
        return super().read(size)


def read_dataset(path: Path, voxels: bool = True) -> Any:
    """Return pydicom's FileDataset of a file, or of its header alone.

    Its values are parsed when they are asked for: do that inside `parsing` as well. Raises the
    errors of that, and MissingExtraError.
    """
    pydicom = load_extra("pydicom", "dicom")
    with parsing(path), _Bounded(io.FileIO(path), _HEADER) as file:
        require_preamble(file.read(PREAMBLE), path)
        _check_inflated(file, path)
        file.seek(0)
        return pydicom.dcmread(file, stop_before_pixels=not voxels)


def _check_inflated(file: io.BufferedReader, path: Path) -> None:
    """Refuse a deflated file that would fill the memory."""
    from pydicom import filereader
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    file.seek(PREAMBLE)
    meta = filereader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
    small = os.fstat(file.fileno()).st_size * MAX_RATIO <= MOST_INFLATED
    if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian or small:
        return
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    file.seek(PREAMBLE + 12 + int(meta.FileMetaInformationGroupLength))
    while content := file.read(PORTION):
        while content and size <= MOST_INFLATED:
            size += len(inflate.decompress(content, PORTION))
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
