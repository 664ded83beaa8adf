"""Optional packages, imported where they are needed and named where they are missing."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from threading import Lock
from typing import Any

from vol3dseg.errors import MissingExtraError


def load_extra(module: str, extra: str) -> Any:
    """Return an optional module.

    Parameters
    ----------
    module : str
        As it is imported, "matplotlib.figure" for example.
    extra : str
        The extra of vol3dseg that brings it.

    Raises
    ------
    MissingExtraError
        Its package is not installed. If something else is missing inside the package, that stays a
        ModuleNotFoundError: installing the extra again would not mend it.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != package:
            raise
        raise MissingExtraError(package, extra) from error


def simpleitk() -> Any:
    """Return the module SimpleITK, which prints no warnings: what it warns of is checked here.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    module = load_extra("SimpleITK", "itk")
    module.ProcessObject.SetGlobalWarningDisplay(False)
    return module


class ProcessSetting(AbstractContextManager[None]):
    """A package's setting for the whole process, changed while any thread is inside.

    Nobody waits: the first thread to enter calls `change`, which tells an ExitStack how to restore
    the setting, and the last thread to leave restores it.
    """

    def __init__(self, change: Callable[[ExitStack], None]) -> None:
        self._change = change
        self._lock = Lock()
        self._threads = 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._threads == 0:
                self._change(self._restore)
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if self._threads == 0:
                self._restore.close()
