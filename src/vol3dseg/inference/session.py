"""onnxruntime sessions: the right device or an error, never a silent fallback."""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import DeviceError, MissingExtraError, ModelError

Device = Literal["auto", "cpu", "cuda", "openvino"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "openvino")

_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_PACKAGES = {"cuda": "gpu", "openvino": "openvino", "cpu": "cpu"}


class Backend(Protocol):
    """What a predictor needs of a network: patches in, probabilities out."""

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, class, i, j, k) probabilities."""
        ...


class OnnxBackend:
    """A network in an onnxruntime session.

    Parameters
    ----------
    content : bytes
        The ONNX model.
    device : "auto", "cpu", "cuda" or "openvino"
        "auto" takes the first of CUDA, OpenVINO and CPU that works; `provider` says which.
    threads : int
        Threads of the CPU provider; 0 leaves the number to onnxruntime.

    Raises
    ------
    DeviceError
        The device is not there, or onnxruntime fell back to another.
    MissingExtraError
        No onnxruntime is installed.
    ModelError
        onnxruntime cannot load the model.
    """

    def __init__(self, content: bytes, device: Device = "auto", threads: int = 0) -> None:
        runtime = _onnxruntime()
        candidates = _candidates(device, runtime.get_available_providers())
        problems: list[str] = []
        for name in candidates:
            session, problem = _open(runtime, content, name, threads)
            if session is not None:
                self._session = session
                self.provider = _PROVIDERS[name]
                return
            problems.append(f"{name}: {problem}")
        raise DeviceError(
            f"device {device!r} cannot be used ({'; '.join(problems)}); expected a working "
            "provider; choose --device cpu, or mend the driver"
        )

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, class, i, j, k) probabilities."""
        return np.asarray(self._session.run(["probabilities"], {"image": patches})[0])


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "cpu") from error
    return onnxruntime


def _candidates(device: Device, available: list[str]) -> list[str]:
    """Return the devices to try, best first."""
    if device == "auto":
        return [name for name, provider in _PROVIDERS.items() if provider in available]
    if _PROVIDERS[device] not in available:
        raise DeviceError(
            f"device {device!r} needs {_PROVIDERS[device]}, this onnxruntime has "
            f"{', '.join(available)}; install it with: pip install "
            f"'vol3dseg[{_PACKAGES[device]}]' (only one onnxruntime package may be installed)"
        )
    return [device]


def _open(runtime: Any, content: bytes, name: str, threads: int) -> tuple[Any, str]:
    """Return a session on exactly this device, or None and the reason."""
    if name == "cuda" and hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()  # CUDA and cuDNN from their wheels, not from the system
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(
            content, sess_options=options, providers=[_PROVIDERS[name]]
        )
    except Exception as error:  # onnxruntime's classes share no base but Exception
        if name == "cpu":
            detail = " ".join(str(error).split())
            raise ModelError(f"onnxruntime cannot load the model: {detail}") from error
        return None, " ".join(str(error).split())
    taken = session.get_providers()[0]
    if taken != _PROVIDERS[name]:
        return None, f"onnxruntime fell back to {taken}"
    return session, ""
