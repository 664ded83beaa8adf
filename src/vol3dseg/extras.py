"""Optional packages, imported where they are needed and named where they are missing.

What they would tell others of us while they are imported is not told, and what they would keep of
it outside our outputs is not kept. `vol3dseg/__init__.py` sees to onnxruntime.
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock
from typing import Any

from vol3dseg.errors import MemoryLimitError, MissingExtraError
from vol3dseg.machine import require_memory

# openvino tells Google Analytics of its import through the first; the second opens a socket when it
# is imported, to see whether the system has IPv6, and pydicom takes it for downloads of examples.
_TALKING = ("openvino_telemetry", "requests")
# These cannot be imported without it.
_NEEDING_TALK = {"tensorflow", "keras", "tf2onnx", "mlflow"}


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
        if package == "matplotlib":
            _load_matplotlib()
        with hidden(*(() if package in _NEEDING_TALK else _TALKING)):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != package:
            raise
        raise MissingExtraError(package, extra) from error


@contextmanager
def hidden(*modules: str) -> Iterator[None]:
    """Let modules that are not loaded yet pass for missing, so that others do without them."""
    loaded: dict[str, Any] = sys.modules  # None in it makes an import fail
    new = [name for name in modules if name not in loaded]
    loaded.update(dict.fromkeys(new))
    try:
        yield
    finally:
        for name in new:
            loaded.pop(name, None)


def _load_matplotlib() -> None:
    """Import matplotlib with settings of its own, unless somebody else has imported it already.

    Left to itself it heeds a `matplotlibrc` of the working folder, of the environment or of the
    user, fails if that is damaged, and keeps a list of fonts in the user's folders.
    """
    if "matplotlib" in sys.modules:
        return
    names = ("MATPLOTLIBRC", "MPLCONFIGDIR", "XDG_CACHE_HOME")
    before, exists = {name: os.environ.pop(name, None) for name in names}, os.path.exists
    with tempfile.TemporaryDirectory() as folder:
        # The latter is for fc-list, which matplotlib asks for fonts.
        os.environ |= {"MPLCONFIGDIR": folder, "XDG_CACHE_HOME": folder}
        # The working folder comes first whatever is set, under this name.
        os.path.exists = lambda path: path != "matplotlibrc" and exists(path)
        try:
            importlib.import_module("matplotlib.font_manager")
        finally:
            os.path.exists = exists
            for name, value in before.items():
                os.environ.pop(name, None)
                os.environ |= {} if value is None else {name: value}


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


def require_memory_for_libraries(size: int) -> None:
    """Refuse to import libraries where so many bytes are not left: they may end the process there.

    MemoryLimitError: the system does not grant them.
    """
    try:
        require_memory(size)
    except OSError as error:
        raise MemoryLimitError(
            f"less than {size // 2**20} MB of memory are left",
            expected="enough for the libraries that this needs",
            remedy="raise the limit (ulimit -v), close other programs, or use a machine with more",
        ) from error
