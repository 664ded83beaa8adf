"""The interface of a runtime, and its failures as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import DeviceError, MemoryLimitError, Vol3dSegError, in_memory
from vol3dseg.inference.runtimes.footprint import Footprint

_LESS_MEMORY = "give less to the network with --max-memory, or close other programs"


class Backend(Protocol):
    """A network as a predictor needs it: patches in, probabilities out."""

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, channel, i, j, k) probabilities.

        The answer is the caller's until the next call.
        """


class Session(Backend, Protocol):
    """A network that is loaded into a runtime."""

    provider: str  # runtime and device, for people and records
    on_gpu: bool  # takes the memory of a GPU, which the kernel does not account for

    def bytes_per_voxel(self, taken: Footprint) -> float:
        """Return the memory of a run for each voxel of its input [bytes]."""

    def release(self) -> None:
        """Give back the memory that is kept for the next run."""


@contextmanager
def running(provider: str) -> Iterator[None]:
    """Turn what a runtime raises into a MemoryLimitError or DeviceError; bugs pass through."""
    try:
        with in_memory(f"the layers of the network in {provider}", remedy=_LESS_MEMORY):
            yield
    except Vol3dSegError:
        raise
    except Exception as error:
        # onnxruntime's classes share no base but Exception.
        if not isinstance(error, RuntimeError) and "onnxruntime" not in type(error).__module__:
            raise
        if "allocate" in str(error):
            raise MemoryLimitError(
                f"{provider} ran out of memory ({one_line(error)})", remedy=_LESS_MEMORY
            ) from error
        raise DeviceError(
            f"{provider} failed ({one_line(error)})", remedy="try another --device, such as cpu"
        ) from error


def one_line(error: Exception) -> str:
    """Return the message of an error without line breaks."""
    return " ".join(str(error).split())
