"""Memory of a run over that of the tensors that must be kept at once: what planning multiplies by.

python -m benchmarks.footprint
python -m benchmarks.footprint MODEL cpu|lean|openvino float32|bfloat16 I J K

For networks of several widths, depths and norms, each runtime runs two sizes of input in a process
of its own; printed is the peak over the count of `vol3dseg.inference.runtimes.footprint`. The
second form measures one model, an int8 one for instance, on one size of input.
"""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from vol3dseg.config import ModelConfig
from vol3dseg.inference import DEVICES, PRECISIONS
from vol3dseg.inference.loading import open_session
from vol3dseg.inference.runtimes.footprint import footprint
from vol3dseg.machine import peak_mb, reset_peak, resident_mb

_NETWORKS: list[dict[str, Any]] = [
    {"width": 16, "depth": 4, "norm": "batch"},
    {"width": 8, "depth": 3, "norm": "batch"},
    {"width": 32, "depth": 4, "norm": "batch"},
    {"width": 16, "depth": 3, "norm": "instance"},
]
_RUNTIMES = [
    ("cpu", "float32"),
    ("lean", "float32"),  # cpu as it is under --max-memory
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
]
_SIZES = [(96, 96, 96), (144, 176, 144)]
_CHANNELS, _CLASSES = 4, 4


def main() -> None:
    """Print one line for each network, runtime and size."""
    with tempfile.TemporaryDirectory() as folder:
        for number, settings in enumerate(_NETWORKS):
            path = Path(folder) / f"{number}.onnx"
            _write(settings, path)
            for (device, precision), size in itertools.product(_RUNTIMES, _SIZES):
                words = [str(path), device, precision, *map(str, size)]
                command = [sys.executable, "-m", "benchmarks.footprint", *words]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                what = " ".join(f"{key} {value}" for key, value in settings.items())
                sys.stdout.write(f"{what}, {device} {precision}, {size}: {done.stdout}")
                sys.stdout.flush()


def measure(path: Path, device: str, precision: str, size: list[int]) -> None:
    """Run once in this process; print the peak over the count."""
    model = onnx.load(path)
    taken = footprint(model, (16, 16, 16))
    session = open_session(
        path.read_bytes(),
        "cpu" if device == "lean" else next(d for d in DEVICES if d == device),
        precision=next(p for p in PRECISIONS if p == precision),
        lean=device == "lean",
    )
    patch = np.zeros((1, _CHANNELS, *size), dtype=np.float32)
    before = resident_mb() or 0.0
    reset_peak()
    for _ in range(2):
        session(patch)
    counted = taken.rounded_bytes if device == "openvino" else taken.float_bytes
    counted_mb = counted * np.prod(size) / 2**20
    taken_mb = (peak_mb() or 0.0) - before
    sys.stdout.write(f"{taken_mb:.0f} MB, {taken_mb / counted_mb:.2f} of what is counted\n")


def _write(settings: dict[str, Any], path: Path) -> None:
    from vol3dseg.export.graph import convert
    from vol3dseg.training.networks.unet import build_unet

    network = build_unet(ModelConfig(**settings), _CHANNELS, _CLASSES)
    path.write_bytes(convert(network, (32, 32, 32)).SerializeToString())


if __name__ == "__main__":
    if sys.argv[1:]:
        file, device, precision, *size = sys.argv[1:]
        measure(Path(file), device, precision, [int(n) for n in size])
    else:
        main()
