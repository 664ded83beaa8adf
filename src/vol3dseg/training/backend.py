"""TensorFlow and Keras, imported here and nowhere else: quietly, and with the right backend.

With KERAS_BACKEND=torch there is Keras without TensorFlow: enough to load a network and to export
it, which is the second way to ONNX (docs/export-through-torch.md).
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vol3dseg.errors import DeviceError, MissingExtraError
from vol3dseg.extras import load_extra, require_memory_for_libraries
from vol3dseg.machine import limited_cores

_STDERR = 2
_FOR_TENSORFLOW = 2600 * 2**20  # bytes of addresses: with less it may end the process
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_FATAL_ONLY = "3"
# A line of absl's log, such as "I0000 00:00:1795.97 42 port.cc:153] ...", or the notice before it.
_LOG_LINE = re.compile(rb"[IWE]\d{4} \d\d:|WARNING: All log messages before absl::InitializeLog")
# Backends of Keras, and the extra that brings each.
_EXTRAS = {"tensorflow": "train", "torch": "torch"}
_UNSET = "unset the environment variable KERAS_BACKEND"
_GPU = Path("/dev/nvidia0")


def _load() -> tuple[Any, Any]:
    """Return the modules tensorflow and keras."""
    # Without AVX-512, TensorFlow leaves oneDNN's 3-D convolutions off, which take a quarter of the
    # time and half of the memory. Both settings outrank Keras' own file and yield to the user's.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Keras' own file may ask for channels first, and is written where there is none.
    os.environ.setdefault("KERAS_HOME", os.devnull)
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    _require_known(backend)
    if "tensorflow" not in sys.modules and backend == "tensorflow":
        require_memory_for_libraries(_FOR_TENSORFLOW)
    with suppress(MissingExtraError):  # before Keras does
        load_extra("matplotlib", "report")
    with _quiet():
        loaded = load_extra(backend, _EXTRAS[backend]), load_extra("keras", _EXTRAS[backend])
    name = loaded[1].backend.backend()
    _require_known(name)  # somebody else may have imported it
    if name != "tensorflow":
        return _NoTensorFlow(), loaded[1]
    if (cores := limited_cores()) is not None:
        loaded[0].config.threading.set_intra_op_parallelism_threads(cores)
        loaded[0].config.threading.set_inter_op_parallelism_threads(cores)
    return loaded


def _require_known(name: str) -> None:
    if name not in _EXTRAS:
        raise DeviceError(
            f"KERAS_BACKEND is {name!r}",
            expected="tensorflow, or torch for export-onnx",
            remedy=_UNSET,
        )


class _NoTensorFlow:
    """What stands for TensorFlow where Keras computes by torch."""

    def __getattr__(self, name: str) -> Any:
        raise DeviceError(
            "KERAS_BACKEND is 'torch', by which networks are exported and nothing else",
            expected="tensorflow",
            remedy=_UNSET,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow's log off standard error; show all that was written if the block fails.

    What its libraries log while they are loaded comes before any setting is read, so it is taken
    out of what is written to the file descriptor meanwhile. A user who sets TF_CPP_MIN_LOG_LEVEL
    sees everything.
    """
    if os.environ.setdefault(_LEVEL, _FATAL_ONLY) != _FATAL_ONLY:
        yield
        return
    try:
        kept = os.dup(_STDERR)
    except OSError:  # a program without standard error
        yield
        return
    pattern = _LOG_LINE
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            pattern = re.compile(rb"(?!)")  # nothing
            raise
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(kept, _STDERR)
            os.close(kept)
            file.seek(0)
            os.write(_STDERR, b"".join(line for line in file if not pattern.match(line)))


tf, keras = _load()


def unused_gpu() -> str | None:
    """Return a warning if this machine has a GPU that TensorFlow does not use."""
    if not _GPU.exists() or tf.config.list_physical_devices("GPU"):
        return None
    return (
        "warning: this machine has an NVIDIA GPU, but TensorFlow does not use it and trains on the "
        f"CPU; set {_LEVEL}=0 to see why"
    )
