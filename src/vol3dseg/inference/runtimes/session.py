"""The interface of a runtime, and its failures as errors of ours."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import (
    DeviceError,
    MemoryLimitError,
    ModelError,
    Vol3dSegError,
    in_memory,
)
from vol3dseg.inference.runtimes.footprint import Footprint
from vol3dseg.inference.uncertainty import SURE, Uncertainty
from vol3dseg.model.manifest import Manifest

_TRIAL = 16  # voxels a side, or more
_ROUNDED = 0.05  # by which probabilities in bfloat16 or int8 may miss their sum
_LESS_MEMORY = "give less to the network with --max-memory, or close other programs"


class Backend(Protocol):
    """A network as a predictor needs it: patches in, values out."""

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, channel, i, j, k) values, as its manifest says.

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


def finite(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a network gives, unless it is not finite: labels would be made of that, too.

    Raises
    ------
    ModelError
    """
    if not np.isfinite(found.sum()):
        raise ModelError(
            "the network gives values that are not finite",
            expected="numbers",
            remedy="look at the scan and the model's training; or try another --device",
        )
    return found


def require_values(
    session: Session,
    manifest: Manifest,
    features: int | None = None,
    uncertainty: Uncertainty = SURE,
) -> None:
    """Run a network once on the smallest input that it takes, of noise.

    So many `features` are expected of one whose last layer has been taken off, and of `uncertainty`
    the networks that are told apart.

    Raises
    ------
    ModelError
        It does not run, or what it gives is not what its manifest says.
    """
    channels, outputs = len(manifest.recipe.modalities), manifest.outputs
    sides = [n * math.ceil(_TRIAL / n) for n in manifest.network.divisor]
    noise = np.random.default_rng(0).standard_normal((1, channels, *sides), dtype=np.float32)
    try:
        found = finite(session(noise))
    except DeviceError as error:
        raise ModelError(error.found, expected=f"a network of {channels} channels") from error
    shape = (1, features or uncertainty.graph_channels(manifest), *sides)
    if found.shape != shape or found.dtype != np.float32:
        raise ModelError(f"gives {found.dtype} of {found.shape}", expected=f"float32 of {shape}")
    if outputs.values == "logits":
        return
    low, high = found.min(), found.max()
    each = found.reshape(-1, len(outputs.channels), *sides)
    sums = each.sum(axis=1) if outputs.kind == "softmax" else np.ones(1)
    if low < -_ROUNDED or high > 1 + _ROUNDED or np.abs(sums - 1).max() > _ROUNDED:
        raise ModelError(
            f"gives {low:.3g} to {high:.3g}, in sum {sums.min():.3g} to {sums.max():.3g}",
            expected=f"probabilities of a {outputs.kind}, as its manifest says",
        )


def one_line(error: Exception) -> str:
    """Return the message of an error without line breaks."""
    return " ".join(str(error).split())
