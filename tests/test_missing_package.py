"""A package that is missing is told once, before work is done, and not of every case."""

import subprocess
import sys

import numpy as np
import pytest

CODE = "import sys; sys.modules[sys.argv.pop(1)] = None; from vol3dseg.cli.main import main; main()"


def without(package, *words):
    command = [sys.executable, "-c", CODE, package, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def table(dicom_series, tmp_path):
    """Three cases of two DICOM series each."""
    rng = np.random.default_rng(0)
    rows = ["id,flair,t1"]
    for number in range(6):
        folder = tmp_path / "dicom" / str(number)
        folder.mkdir(parents=True)
        array = rng.integers(0, 900, (8, 8, 4)).astype(np.int16)
        for k, image in enumerate(dicom_series(array, SeriesInstanceUID=f"1.2.{number}")):
            image.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    rows += [f"case{n},dicom/{n},dicom/{n + 3}" for n in range(3)]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "t.csv"


@pytest.mark.parametrize("command", ["preprocess", "check", "inspect", "predict", "explain"])
def test_what_reads_the_cases_is_missing(command, table, config_path, model_path, tmp_path):
    words = {
        "preprocess": (table, "-o", tmp_path / "P", "-c", config_path, "-j", 1),
        "check": (table, "-j", 1),
        "inspect": (table, "-o", tmp_path / "I", "-j", 1),
        "predict": (model_path, table, "-o", tmp_path / "O", "--device", "cpu"),
        "explain": (model_path, table, "-o", tmp_path / "O", "--device", "cpu", "--explain"),
    }[command]
    done = without("pydicom", command.replace("explain", "predict"), *words)
    assert done.returncode == 1
    assert done.stderr == (
        "error: pydicom is not installed; install it with: pip install 'vol3dseg[dicom]'\n"
    )
    assert "case0" not in done.stdout


@pytest.mark.parametrize("package", ["tensorboard", "mlflow"])
@pytest.mark.parametrize("configs", [(), ("-c", "hippocampus", "-c", "brats2020")])
def test_what_logs_a_training_is_missing(package, configs, tmp_path):
    words = ("train", tmp_path / "P", "-o", tmp_path / "R", f"--{package}", *configs)
    done = without(package, *words)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {package} is not installed; install it with: pip install 'vol3dseg[{package}]'\n"
    )
    assert not (tmp_path / "R").exists()


@pytest.mark.train
@pytest.mark.parametrize("package", ["tf2onnx", "onnxruntime"])
def test_what_an_export_needs_is_missing(package, tmp_path):
    done = without(package, "export-onnx", tmp_path / "R", "-o", tmp_path / "m.onnx")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {package} is not installed; install it with: ")


@pytest.mark.train
@pytest.mark.parametrize(
    "package",
    [
        "tensorflow",
        "matplotlib",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("tf2onnx", "onnxruntime")),
    ],
)
def test_demo_makes_nothing_without_what_it_needs(package, tmp_path):
    done = without(package, "demo", "-o", tmp_path / "demo")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {package} is not installed; install it with: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "demo").exists()
