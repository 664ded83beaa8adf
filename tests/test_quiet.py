"""What TensorFlow says of itself does not reach the user; what fails does."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

# The command line first: it ends for want of a run, when TensorFlow is loaded already.
TRAINS = """
import sys
from vol3dseg.cli.main import main
sys.argv[1:] = ["export-onnx", "MISSING", "-o", "model.onnx"]
try:
    main()
except SystemExit:
    pass
from vol3dseg.training.networks.unet import build_unet
from vol3dseg.config import ModelConfig
from vol3dseg.export.graph import convert
model = build_unet(ModelConfig(depth=1, width=2), 1, 2)
convert(model, (4, 4, 4))
import tensorflow as tf
tf.config.list_physical_devices("GPU")
"""
FAILS = """
import os, sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            os.write(2, b"loader: libtensorflow.so is gone\\n")
            raise OSError("libtensorflow.so")
sys.meta_path.insert(0, Broken())
import vol3dseg.training.losses
"""


def python(code, **environment):
    settings = {k: v for k, v in os.environ.items() if k not in {"TF_CPP_MIN_LOG_LEVEL"}}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env=settings | environment,
    )  # fmt: skip


def test_nothing_but_ours_is_said_while_a_network_is_made_and_converted():
    done = python(TRAINS)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: MISSING: no run")


def test_what_is_said_while_tensorflow_fails_to_load_is_shown():
    done = python(FAILS)
    assert done.returncode != 0
    assert "libtensorflow.so is gone" in done.stderr
    assert "OSError: libtensorflow.so" in done.stderr


def test_a_user_who_wants_to_hear_tensorflow_does():
    assert "oneDNN" in python("import vol3dseg.training.losses", TF_CPP_MIN_LOG_LEVEL="0").stderr


@pytest.mark.parametrize(
    "words", [["train", "P", "-c", "demo", "-o", "R"], ["export-onnx", "R", "-o", "m.onnx"]]
)
def test_another_backend_of_keras_is_named_as_such(words):
    code = f"import sys; sys.argv[1:] = {words}; from vol3dseg.cli.main import main; main()"
    done = python(code, KERAS_BACKEND="jax")
    assert done.returncode == 1
    assert "KERAS_BACKEND is 'jax'; expected tensorflow" in done.stderr
    assert "vol3dseg[train]" not in done.stderr


def test_the_backend_of_the_second_way_out_is_named_with_its_extra():
    code = "import sys; sys.modules['torch'] = None; import vol3dseg.export.to_onnx"
    done = python(code, KERAS_BACKEND="torch")
    assert "MissingExtraError: torch is not installed" in done.stderr
    assert "vol3dseg[torch]" in done.stderr


@pytest.mark.parametrize("package", ["tensorflow", "keras", "tf2onnx"])
def test_a_missing_package_is_named_with_its_extra(package):
    code = f"import sys; sys.modules[{package!r}] = None; import vol3dseg.export.to_onnx"
    done = python(code)
    assert f"MissingExtraError: {package} is not installed" in done.stderr
    assert "vol3dseg[train]" in done.stderr


def test_something_else_that_is_missing_stays_a_bug():
    code = "import sys; sys.modules['yaml'] = None; import vol3dseg.training.fit"
    done = python(code)
    assert "ModuleNotFoundError: import of yaml" in done.stderr
    assert "vol3dseg[train]" not in done.stderr
