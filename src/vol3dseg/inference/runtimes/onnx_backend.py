"""Networks in onnxruntime: on exactly the provider asked for, never a silent fallback."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import DeviceError, MissingExtraError, ModelError
from vol3dseg.extras import load_extra
from vol3dseg.inference.runtimes.footprint import Footprint
from vol3dseg.inference.runtimes.session import one_line, running
from vol3dseg.machine import usable_cores

OnnxDevice = Literal["cpu", "cuda", "tensorrt"]
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_EXTRAS = {"cpu": "cpu", "cuda": "gpu", "tensorrt": "gpu"}

# Over what must be kept at once, measured by `python -m benchmarks.footprint`: the arena keeps
# freed blocks for the next layer.
_OVERHEAD, _LEAN_OVERHEAD = 1.6, 1.05


class OnnxBackend:
    """A `Session` of onnxruntime; parameters and errors as in `loading.load_predictor`.

    `lean` takes memory from the system for each layer and gives it back, rather than keep it for
    the next: a third less, and a third slower.
    """

    def __init__(
        self, content: bytes, device: OnnxDevice = "cpu", threads: int = 0, lean: bool = False
    ) -> None:
        runtime = load_extra("onnxruntime", "cpu")
        self.provider = _PROVIDERS[device]
        self.on_gpu = device != "cpu"
        available = runtime.get_available_providers()
        if self.provider not in available:
            raise DeviceError(
                f"this onnxruntime has {', '.join(available)}",
                where=f"device {device!r}",
                expected=self.provider,
                remedy=f"install it with: pip install 'vol3dseg[{_EXTRAS[device]}]' (only one "
                "onnxruntime package may be installed)",
            )
        self._overhead = _LEAN_OVERHEAD if lean else _OVERHEAD
        self._session = _open(runtime, content, device, threads, lean)

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, channel, i, j, k) values of the only output."""
        with running(f"onnxruntime ({self.provider})"):
            return np.asarray(self._session.run(None, {"image": patches})[0])

    def bytes_per_voxel(self, taken: Footprint) -> float:
        """Return the memory of a run for each voxel of its input [bytes]."""
        # A quantised network takes hardly less: what was rounded is floats again in between.
        return self._overhead * taken.float_bytes

    def release(self) -> None:
        """Do nothing: a lean session keeps nothing, another keeps it for speed."""


def has_cuda() -> bool:
    """Return whether an onnxruntime with a CUDA provider is installed."""
    try:
        runtime = load_extra("onnxruntime", "cpu")
    except MissingExtraError:
        return False
    return _PROVIDERS["cuda"] in runtime.get_available_providers()


def _open(runtime: Any, content: bytes, device: str, threads: int, lean: bool) -> Any:
    """Return a session on exactly this device."""
    if device != "cpu" and hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()  # CUDA and cuDNN from their wheels, not from the system
    runtime.disable_telemetry_events()  # of Windows; others are told by `vol3dseg/__init__.py`
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4  # what fails is said once, by us
    options.enable_cpu_mem_arena = not lean
    # One block for a whole run is laid out anew for each size of input, and takes a third more.
    options.enable_mem_pattern = False
    wanted = [_PROVIDERS[device]]
    if device == "tensorrt":
        wanted.append(_PROVIDERS["cuda"])  # for the operators that TensorRT lacks
    try:
        session = runtime.InferenceSession(content, sess_options=options, providers=wanted)
    except Exception as error:  # onnxruntime's classes share no base but Exception
        if device == "cpu":
            raise ModelError(f"onnxruntime cannot load the model: {one_line(error)}") from error
        raise _unusable(device, one_line(error)) from error
    taken = session.get_providers()[0]
    if taken != _PROVIDERS[device]:
        raise _unusable(device, f"onnxruntime fell back to {taken}")
    return session


def _unusable(device: str, problem: str) -> DeviceError:
    return DeviceError(
        f"cannot be used ({problem})",
        where=f"device {device!r}",
        expected="a working provider",
        remedy="choose --device cpu, or mend the driver",
    )
