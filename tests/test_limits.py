"""What a whole scan takes: memory within the limit, time mostly the network's."""

import json
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.reading import read_volume
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.manifest import Network
from vol3dseg.model.model_file import with_manifest
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry

pytestmark = pytest.mark.alone
SHAPE = (200, 190, 180)
ROUNDS = 5


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A scan of one modality, as large as a whole head."""
    array = np.random.default_rng(0).integers(1, 2000, SHAPE).astype(np.int16)
    path = tmp_path_factory.mktemp("scan") / "head.nii.gz"
    nifti.write(path, array, Geometry(SHAPE, np.diag([-1.0, -1.0, 1.0, 1.0])))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory, small_unet, manifest_of, labels):
    """A local network of 6 channels, a receptive field of 6 voxels each way."""
    recipe = Recipe(modalities=("m",), normalisation={"method": "zscore"}, patch_size=(64, 64, 64))
    network = Network(architecture={}, divisor=(2, 2, 2), receptive_field=(6, 6, 6), local=True)
    manifest = manifest_of(recipe, labels).model_copy(update={"network": network})
    graph = small_unet(np.random.default_rng(0), width=6)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(with_manifest(graph, manifest))
    return path


@pytest.mark.parametrize("limit_mb", [450, 700])
def test_the_kernel_sees_no_more_memory_than_was_given(limit_mb, model, scan, tmp_path):
    """By the peak that the record holds, which is the kernel's account of the process."""
    command = [sys.executable, "-c", "from vol3dseg.cli.main import main; main()", "predict"]
    words = [model, scan, "-o", tmp_path, "--device", "cpu", f"--max-memory={limit_mb}MiB"]
    subprocess.run([*command, *map(str, words)], check=True, capture_output=True)
    (case,) = json.loads((tmp_path / "predictions.json").read_text())["cases"].values()
    assert " tiles of " in case["plan"]
    assert "equal to one pass" in case["plan"]
    assert case["peak_mb"] <= 1.1 * limit_mb
    assert case["planned_mb"] == pytest.approx(case["peak_mb"], rel=0.25)


def fastest(function):
    """Return the shortest of some times [s]."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def test_reading_takes_no_longer_than_nibabel_does(scan):
    """A ratio within one run; it was 0.9 on noise, which hardly compresses."""
    case = Case("x", "x", {"m": ImageSource(scan)})
    ours = fastest(lambda: read_volume(case, ["m"]))
    theirs = fastest(lambda: np.asarray(nib.load(scan).dataobj, dtype=np.float32))
    assert ours < 1.2 * theirs


def test_what_is_around_a_small_network_takes_less_than_twice_its_time(model, scan):
    """Preparing and bringing home, over one pass of a network far smaller than real ones."""
    predictor = load_predictor(model, "cpu")
    volume = read_volume(Case("x", "x", {"m": ImageSource(scan)}), ["m"])
    found = [predictor(volume).seconds for _ in range(ROUNDS)]
    network = min(seconds["infer"] for seconds in found)
    around = min(seconds["prepare"] + seconds["restore"] for seconds in found)
    assert around < 2 * network
