"""Networks in OpenVINO, several times as fast as onnxruntime on a CPU."""

import importlib.util
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import DeviceError, ModelError
from vol3dseg.extras import load_extra
from vol3dseg.inference import Precision
from vol3dseg.inference.runtimes.footprint import Footprint
from vol3dseg.inference.runtimes.session import one_line, running
from vol3dseg.machine import usable_cores

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
# Over what must be kept at once, measured by `python -m benchmarks.footprint`.
_OVERHEADS = {"float32": 1.25, "bfloat16": 0.65}
_INT8_OVERHEAD = 1.9


class OpenVinoBackend:
    """A `Session` of OpenVINO on the CPU; parameters and errors as in `loading.load_predictor`."""

    on_gpu = False

    def __init__(self, content: bytes, threads: int = 0, precision: Precision = "float32") -> None:
        core = load_extra("openvino", "openvino").Core()
        if precision == "bfloat16":
            able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            if "BF16" not in able:
                raise DeviceError(
                    f"this processor computes in {', '.join(sorted(able))}, not in bfloat16",
                    remedy="use --precision float32",
                )
        options = {
            # Left to itself, OpenVINO would take bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "NUM_STREAMS": 1,
        }
        try:
            model = core.read_model(content)
            self._compile = partial(core.compile_model, model, "CPU", options)
            self._open()
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load the model: {one_line(error)}") from error
        self.provider = f"OpenVINO CPU {precision}"
        self._overhead = _OVERHEADS[precision]

    def _open(self) -> None:
        self._compiled = self._compile()
        self._request = self._compiled.create_infer_request()

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, channel, i, j, k) values of the only output.

        The result is the request's own memory, which the next call writes over.
        """
        with running(self.provider):
            if self._request is None:
                self._open()
            try:
                found = self._request.infer([patches], share_inputs=True, share_outputs=True)
            except RuntimeError:  # once memory ran out, it would fail with smaller inputs too
                self._request = self._compiled = None
                raise
            return np.asarray(found[0])

    def bytes_per_voxel(self, taken: Footprint) -> float:
        """Return the memory of a run for each voxel of its input [bytes]."""
        if taken.rounded_bytes < taken.float_bytes:
            return _INT8_OVERHEAD * taken.rounded_bytes
        return self._overhead * taken.float_bytes

    def release(self) -> None:
        """Give back the memory that is kept for the next run, and the last input and result."""
        if self._compiled is not None:
            self._request = self._compiled.create_infer_request()
            self._compiled.release_memory()


def is_installed() -> bool:
    """Return whether the package is there, without importing it."""
    return importlib.util.find_spec("openvino") is not None
