"""The second way out: the same checkpoint through Keras' torch backend and torch.onnx.

It runs in the environment of `make test-torch`, beside the one that trains.
"""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vol3dseg.config import Config, load_config
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.model.model_file import read_model
from vol3dseg.preprocessing.prepare_dataset import preprocess

pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")
ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ROOT / ".bench" / "torch-export" / "bin"
pytestmark = [
    pytest.mark.train,
    pytest.mark.slow,
    pytest.mark.skipif(
        not COMMANDS.is_dir(), reason="no .bench/torch-export; make it with: make test-torch"
    ),
]

from vol3dseg.export.to_onnx import TOLERANCE, export_onnx  # noqa: E402 - after the skip
from vol3dseg.training.fit import train  # noqa: E402

SIZES = ((16, 16, 16), (8, 24, 12))  # the patch, and one that differs along every axis


def through_torch(line, folder):
    """Run a line of a shell in the environment that has torch and no TensorFlow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KERAS")}
    variables = {**kept, "PATH": f"{COMMANDS}:{kept['PATH']}"}
    command = ["bash", "-ec", line]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


@pytest.fixture(
    scope="module", params=[("batch", "bfloat16"), ("instance", "float32")], ids="-".join
)
def folder(request, shared_brats_folder, tmp_path_factory, recipe):
    """A folder with RUN, and with what the way through TensorFlow makes of it."""
    norm, precision = request.param
    data = load_config("crops32").model_dump(mode="json")
    data["recipe"] = recipe.model_dump(mode="json")
    data["split"] = {"validation": 0.3, "test": 0.0}
    data["model"] = {"depth": 2, "width": 4, "norm": norm}
    data["training"] = {
        "epochs": 1, "batch_size": 2, "steps_per_epoch": 4, "precision": precision, "ema": 0.9,
    }  # fmt: skip
    config, folder = Config.model_validate(data), tmp_path_factory.mktemp("torch")
    preprocess(shared_brats_folder, folder / "prepared", config)
    train(folder / "prepared", folder / "RUN", config)
    export_onnx(folder / "RUN", folder / "tensorflow.onnx")
    return folder


def test_both_ways_out_give_the_same_outputs(folder):
    page = (ROOT / "docs/export-through-torch.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^KERAS_BACKEND=torch .*$", page, re.MULTILINE)
    done = through_torch(line, folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    ours, other = (read_model(folder / name) for name in ("tensorflow.onnx", "model.onnx"))
    assert (
        other.manifest.model_copy(
            update={"provenance": ours.manifest.provenance, "parity": ours.manifest.parity}
        )
        == ours.manifest
    )
    assert other.manifest.parity.max_abs_difference <= TOLERANCE
    assert {"torch", "keras"} <= other.manifest.provenance.versions.keys()
    assert "tensorflow" not in other.manifest.provenance.versions
    sessions = [
        OnnxBackend((folder / n).read_bytes(), "cpu") for n in ("tensorflow.onnx", "model.onnx")
    ]
    rng = np.random.default_rng(0)
    for size in SIZES:
        image = rng.normal(size=(2, 2, *size)).astype(np.float32)
        one, two = (session(image) for session in sessions)
        np.testing.assert_allclose(two, one, rtol=0, atol=TOLERANCE)


def test_the_rest_of_an_export_follows(folder):
    """A standalone graph needs the operator set that its own steps are written in."""
    done = through_torch(
        "KERAS_BACKEND=torch vol3dseg export-onnx RUN --standalone -o alone.onnx", folder
    )
    local = read_model(folder / "tensorflow.onnx").manifest.network.local
    assert done.returncode == (0 if local else 1), done.stderr
    assert (folder / "alone.onnx").exists() == local


def test_what_trains_is_refused(folder):
    done = through_torch(
        "KERAS_BACKEND=torch python -c 'from vol3dseg.training.backend import tf; tf.function'",
        folder,
    )
    assert "DeviceError: KERAS_BACKEND is 'torch', by which networks are exported" in done.stderr


def test_no_tensorflow_is_there(folder):
    done = through_torch("python -c 'import tensorflow'", folder)
    assert "ModuleNotFoundError" in done.stderr
