"""The multiplication of two matrices, the fastest that the libraries of an environment have."""

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contestants.protocol import Call, serve

_PACKAGES = ("numpy", "torch", "openvino")
_SIDE = 4096
_TIMES = 3


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Make the matrices; settings : threads."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((_SIDE, _SIDE), dtype=np.float32) for _ in range(2))
    ways: dict[str, Callable[[], Any]] = {"numpy float32": lambda: a @ b}
    if importlib.util.find_spec("torch"):
        ways |= _torch(a, b, settings["threads"])
    if importlib.util.find_spec("openvino"):
        ways |= _openvino(a, b, settings["threads"])

    def run() -> dict[str, Any]:
        return {
            "gflops": {name: max(_gflops(way) for _ in range(_TIMES)) for name, way in ways.items()}
        }

    return {"run": run}


def _gflops(way: Callable[[], Any]) -> float:
    started = time.perf_counter()
    way()
    return 2 * _SIDE**3 / (time.perf_counter() - started) / 1e9


def _torch(a: Any, b: Any, threads: int) -> dict[str, Callable[[], Any]]:
    import torch

    torch.set_num_threads(threads)
    c, d = torch.from_numpy(a), torch.from_numpy(b)
    e, f = c.bfloat16(), d.bfloat16()
    return {"torch float32": lambda: c @ d, "torch bfloat16": lambda: e @ f}


def _openvino(a: Any, b: Any, threads: int) -> dict[str, Callable[[], Any]]:
    import openvino
    from openvino import opset13

    ways: dict[str, Callable[[], Any]] = {}
    for name, hint in (("float32", "f32"), ("bfloat16", "bf16")):
        left = opset13.parameter(a.shape, np.float32)
        graph = openvino.Model([opset13.matmul(left, opset13.constant(b), False, False)], [left])
        options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
        request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()
        ways[f"openvino {name}"] = _run_of(request, a)
    return ways


def _run_of(request: Any, a: Any) -> Callable[[], Any]:
    return lambda: request.infer([a], share_inputs=True, share_outputs=True)


if __name__ == "__main__":
    serve(make, _PACKAGES)
