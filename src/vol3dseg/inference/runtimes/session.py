"""Which runtime and device a network runs on: the one asked for or an error, never another."""

from contextlib import suppress
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import DeviceError
from vol3dseg.inference.runtimes.footprint import Footprint
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend, has_cuda
from vol3dseg.inference.runtimes.openvino_backend import OpenVinoBackend, Precision, is_installed
from vol3dseg.machine import give_back_at_once

Device = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "tensorrt", "openvino")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


class Backend(Protocol):
    """What a predictor needs of a network: patches in, probabilities out."""

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, channel, i, j, k) probabilities.

        The answer is the caller's until the next call.
        """
        ...


class Session(Backend, Protocol):
    """A network that is loaded, and what is known of how it runs.

    Attributes
    ----------
    provider : str
        Runtime and device, for people and records.
    on_gpu : bool
        Whether that is the memory of a GPU, which the kernel's account does not show.
    """

    provider: str
    on_gpu: bool

    def bytes_per_voxel(self, taken: Footprint) -> float:
        """Return the memory of a run for each voxel of its input."""
        ...

    def release(self) -> None:
        """Give back the memory that is kept for the next run."""
        ...


def open_session(
    content: bytes,
    device: Device = "auto",
    threads: int = 0,
    precision: Precision = "float32",
    lean: bool = False,
) -> Session:
    """Load a network.

    Parameters
    ----------
    content : bytes
        The ONNX model.
    device : "auto", "cpu", "cuda", "tensorrt" or "openvino"
        "auto" takes CUDA if onnxruntime has it and it works, else OpenVINO if its package is
        installed, else onnxruntime's CPU provider. `Session.provider` says which.
    threads : int
        Threads on the CPU; 0 takes one for each core that this process may use.
    precision : "float32" or "bfloat16"
        What convolutions compute in. bfloat16 is for OpenVINO, on processors that have it.
    lean : bool
        Keep little memory rather than be quick. This holds for the whole process.

    Raises
    ------
    DeviceError
        The device is not there or lacks the precision, or the runtime fell back to another.
    MissingExtraError
        The runtime is not installed.
    ModelError
        The runtime cannot load the model.
    """
    if lean:
        give_back_at_once()
    if device == "auto":
        if has_cuda() and precision == "float32":
            with suppress(DeviceError):
                return OnnxBackend(content, "cuda", threads)
        device = "openvino" if precision == "bfloat16" or is_installed() else "cpu"
    if device == "openvino":
        return OpenVinoBackend(content, threads, precision)
    if precision != "float32":
        raise DeviceError(
            f"device {device!r} computes in float32 only; use --device openvino for {precision}"
        )
    return OnnxBackend(content, device, threads, lean)
