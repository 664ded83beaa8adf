"""Every error that vol3dseg raises on purpose.

::

    Vol3dSegError
    ├── ConfigError        (ValueError)   a config file or a preset
    ├── DatasetError       (ValueError)   a folder of cases: layout, modalities, subjects
    ├── FileFormatError    (ValueError)   one file that cannot be read as what it should be
    ├── GridError          (ValueError)   geometry: shapes, affines, spacing
    ├── IntensityError     (ValueError)   voxel values of an image
    ├── LabelError         (ValueError)   voxel values of a label map
    ├── StoreError         (ValueError)   a prepared folder
    │   └── RecipeMismatch                prepared by another recipe
    ├── RunError           (ValueError)   a training run
    ├── ModelError         (ValueError)   an ONNX file or its manifest
    │   ├── ParityError                   the export does not equal the trained model
    │   └── TrustError                    not signed by a key that is trusted
    ├── EvaluationError    (ValueError)   predictions that do not fit their references
    ├── DeviceError        (RuntimeError) a device or provider that is not there
    ├── ClusterError       (RuntimeError) workers on other machines that cannot do the work
    ├── MemoryLimitError   (MemoryError)  what does not fit into the memory that is given
    ├── UnexpectedError    (RuntimeError) what went wrong with one case and nobody foresaw
    ├── OutputError        (OSError)      a place that cannot be written
    └── MissingExtraError  (ImportError)  an optional dependency that is not installed

A message names what happened, what was expected and how to mend it. The command line prints it in
one line and exits with 1; anything else is a bug and keeps its traceback. Where it comes up in one
of many cases, it fails that case, and its traceback goes into the record (`failing_alone`).
"""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

NO_RIGHTS = "work as a user who may, or mend its rights"  # a remedy
LESS_MEMORY = "crop the scan, close other programs, or use a machine with more"
# What is said where there is no memory for a library, a thread or a process, or in some code in C.
_NO_MEMORY = (
    *("failed to map segment", "annot allocate memory", "can't start new thread"),
    *("without setting an exception", "without exception set"),
)
_LISTED = 5  # names in a message; more would bury the remedy


def some_of(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are, for a message."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def encodable(text: str) -> str:
    """Return text that can be written anywhere: what is no UTF-8 in names of files, as escapes."""
    return text.encode(errors="backslashreplace").decode()


class Vol3dSegError(Exception):
    """Base of every error that vol3dseg raises on purpose.

    Parameters
    ----------
    found : str
        What is wrong; or the whole message, where none of the other parts is given.
    where : object
        The file, or what else it is about.
    expected : str
        What should be there instead.
    remedy : str
        How to mend it.
    listed : str
        What headers say of that which is to be chosen from. It is told to whoever stands before the
        screen, and never recorded: headers may name the patient.
    """

    traceback = ""  # of what nobody foresaw; see `UnexpectedError`

    # They stand beside `args`, so that an error comes whole out of a worker process.
    def __init__(
        self,
        found: str,
        *,
        where: object = "",
        expected: str = "",
        remedy: str = "",
        listed: str = "",
    ) -> None:
        self.found, self.where = encodable(found), encodable(str(where))
        self.expected, self.remedy, self.listed = map(encodable, (expected, remedy, listed))
        super().__init__(self.found)

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.recorded, self.listed)))

    @property
    def recorded(self) -> str:
        """The message for records and reports, which hold nothing that headers say."""
        wanted = self.expected and f"expected {self.expected}"
        said = "; ".join(filter(None, (self.found, wanted, self.remedy)))
        return f"{self.where}: {said}" if self.where else said

    def at(self, where: object) -> Self:
        """Return the error with what it is about, which whoever found it did not know."""
        self.where = encodable(str(where))
        return self


class ConfigError(Vol3dSegError, ValueError):
    """A config file or preset is not valid."""


class DatasetError(Vol3dSegError, ValueError):
    """A folder of cases is not in a known layout, or cases are incomplete."""


class FileFormatError(Vol3dSegError, ValueError):
    """A file cannot be read as what it should be."""


class GridError(Vol3dSegError, ValueError):
    """Shapes, affines or spacings do not fit."""


class IntensityError(Vol3dSegError, ValueError):
    """An image holds values that no network can take."""


class LabelError(Vol3dSegError, ValueError):
    """A label map holds values that the configured labels do not."""


class StoreError(Vol3dSegError, ValueError):
    """A prepared folder is missing, damaged or unfit."""


class RecipeMismatch(StoreError):  # noqa: N818 - "mismatch" says it all
    """Two recipes that must be equal differ."""


class RunError(Vol3dSegError, ValueError):
    """A training run is missing, incomplete or unfit."""


class ModelError(Vol3dSegError, ValueError):
    """An ONNX file or its manifest is not one of ours."""


class ParityError(ModelError):
    """The exported graph does not equal the trained model."""


class TrustError(ModelError):
    """A model is not signed by a key that is trusted, or a key cannot be used."""


class EvaluationError(Vol3dSegError, ValueError):
    """Predictions do not fit their references."""


class DeviceError(Vol3dSegError, RuntimeError):
    """A device or provider was asked for that is not there."""


class ClusterError(Vol3dSegError, RuntimeError):
    """A cluster cannot be reached, was lost, or its workers do not see what this process sees."""


class MemoryLimitError(Vol3dSegError, MemoryError):
    """What does not fit into the memory that is given."""


def lacks_memory(error: BaseException) -> bool:
    """Tell whether an error comes from a lack of memory: also for a library, thread or process."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


@contextmanager
def in_memory(what: str, where: object = "", remedy: str = "") -> Iterator[None]:
    """Report in our words, as a MemoryLimitError, that the block lacks memory.

    `what` is too large, as "4 images of 240 x 240 x 155 voxels"; `where` is the file or case.
    """
    try:
        yield
    except Vol3dSegError:
        raise
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise MemoryLimitError(
            f"{what} do not fit into memory",
            where=where,
            remedy=remedy or LESS_MEMORY,
        ) from error


class UnexpectedError(Vol3dSegError, RuntimeError):
    """Something that nobody foresaw, while a case was worked on: of a runtime, a disk, or a bug.

    Attributes
    ----------
    traceback : str
        Where it came up, the innermost call last.
    """

    @classmethod
    def of(cls, error: Exception, where: object, doing: str) -> Self:
        """Return what is said of `error`, which came up while something was being done."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split()) or "without a word"
        made = cls(
            f"{doing} failed ({type(error).__name__}: {said}; {Path(place.filename).name}, line "
            f"{place.lineno})",
            where=where,
            remedy="try it again, and if it stays, report it with the traceback in the record",
        )
        made.traceback = encodable("".join(traceback.format_exception(error)))
        return made


@contextmanager
def failing_alone(where: object, doing: str) -> Iterator[None]:
    """Let what goes wrong with one of many cases be an error of ours, so that the others go on.

    Parameters
    ----------
    where : object
        The case.
    doing : str
        What is done with it, as "reading".

    Raises
    ------
    MemoryLimitError
    UnexpectedError
        Instead of anything that is not ours.
    """
    try:
        with in_memory(f"scan and results ({doing})", where):
            yield
    except Vol3dSegError:
        raise
    except Exception as error:
        raise UnexpectedError.of(error, where, doing) from error


@contextmanager
def reading(
    where: object, error: type[Vol3dSegError], *, expected: str = "", remedy: str = ""
) -> Iterator[None]:
    """Report as `error` that a file is missing, or that it cannot be read in the block.

    `remedy` is for a file that is missing or broken, not for one that somebody else may read.
    """
    try:
        yield
    except FileNotFoundError as reason:
        raise error("is missing", where=where, expected=expected, remedy=remedy) from reason
    except PermissionError as reason:
        raise error(
            f"cannot be read ({reason.strerror})",
            where=where,
            expected=expected,
            remedy=NO_RIGHTS,
        ) from reason
    except OSError as reason:
        raise error(
            f"cannot be read ({reason.strerror or reason})",
            where=where,
            expected=expected,
            remedy=remedy,
        ) from reason


class OutputError(Vol3dSegError, OSError):
    """A file or folder cannot be written."""


class MissingExtraError(Vol3dSegError, ImportError):
    """An optional dependency is not installed.

    Parameters
    ----------
    package : str
        What could not be imported.
    extra : str
        The extra of vol3dseg that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed",
            remedy=f"install it with: pip install 'vol3dseg[{extra}]'",
        )
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.package, self.extra)
