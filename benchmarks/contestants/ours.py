"""Our predictor, on whatever runtime this environment has."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.inference import DEVICES, PRECISIONS
from vol3dseg.inference.loading import make_predictor, open_session
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.runtimes.footprint import Footprint
from vol3dseg.inference.runtimes.session import Session
from vol3dseg.model.model_file import ModelFile, read_model

PACKAGES = (
    "vol3dseg",
    "onnxruntime",
    "onnxruntime-openvino",
    "openvino",
    "numpy",
    "nibabel",
    "h5py",
    "isal",
)
_PROVIDER = "OpenVINOExecutionProvider"
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def load(settings: dict[str, Any]) -> tuple[ModelFile, Predictor, Session]:
    """Load a model.

    Parameters
    ----------
    settings : dict
        model : path of the ONNX file; device : of `vol3dseg predict`, or "onnxruntime-openvino";
        precision; threads; max_memory_mb : number or None.
    """
    model = read_model(Path(settings["model"]))
    session = _open(model.content, settings)
    limit, threads = settings.get("max_memory_mb"), settings["threads"]
    return model, make_predictor(model, session, limit, threads), session


def _open(content: bytes, settings: dict[str, Any]) -> Session:
    threads, precision = settings["threads"], settings.get("precision", "float32")
    if settings["device"] == "onnxruntime-openvino":
        return OnnxruntimeOpenVino(content, threads, precision)
    device = next(d for d in DEVICES if d == settings["device"])
    lean = settings.get("max_memory_mb") is not None
    found = next(p for p in PRECISIONS if p == precision)
    return open_session(content, device, threads, found, lean)


class OnnxruntimeOpenVino:
    """OpenVINO by way of onnxruntime, as the package onnxruntime-openvino has it.

    The toolkit uses the package openvino instead, which is newer; here both are measured.
    """

    on_gpu = False

    def __init__(self, content: bytes, threads: int, precision: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        config = {
            "CPU": {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "INFERENCE_NUM_THREADS": str(threads),
                "NUM_STREAMS": "1",
            }
        }
        choice = {"device_type": "CPU", "load_config": json.dumps(config)}
        self._session = onnxruntime.InferenceSession(
            content, sess_options=options, providers=[(_PROVIDER, choice)]
        )
        taken = self._session.get_providers()[0]
        if taken != _PROVIDER:
            raise RuntimeError(f"onnxruntime fell back to {taken}; expected {_PROVIDER}")
        self.provider = f"{_PROVIDER} {precision}"

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (n, c, i, j, k) patches to (n, class, i, j, k) probabilities."""
        return np.asarray(self._session.run(["probabilities"], {"image": patches})[0])

    def bytes_per_voxel(self, taken: Footprint) -> float:
        """Return what planning counts with: onnxruntime's own."""
        return 1.6 * taken.float_bytes

    def release(self) -> None:
        """Keep everything: this runtime offers no way to give memory back."""
