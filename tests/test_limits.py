"""What a whole scan takes: memory within the limit, time mostly the network's."""

import re
import time

import nibabel as nib
import numpy as np
import pytest

from benchmarks.limits import NAMED, as_mb, segmented
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
    """A local network of 6 channels, said to depend on 48 voxels each way."""
    recipe = Recipe(modalities=("m",), normalisation={"method": "zscore"}, patch_size=(64, 64, 64))
    network = Network(architecture={}, divisor=(2, 2, 2), receptive_field=(48, 48, 48), local=True)
    manifest = manifest_of(recipe, labels).model_copy(update={"network": network})
    graph = small_unet(np.random.default_rng(0), width=6)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(with_manifest(graph, manifest))
    return path


@pytest.mark.parametrize("limit_mb", [700, 1000])
def test_the_kernel_sees_no_more_memory_than_was_given(limit_mb, model, scan):
    done = segmented([model, scan, "--device", "cpu"], f"{limit_mb}MiB")
    assert "one pass" in done.record["plan"]
    assert "not equal" not in done.record["plan"]
    assert done.record["peak_mb"] <= done.peak_mb <= limit_mb
    assert done.record["planned_mb"] == pytest.approx(done.peak_mb, rel=0.25)


@pytest.mark.parametrize("limit", ["100MB", pytest.param("250MB", marks=pytest.mark.slow)])
def test_a_limit_that_is_named_does(limit, model, scan):
    """What is too little for the program itself, and for the network, is refused in one line."""
    run = [model, scan, "--device", "cpu"]
    named = NAMED.search(segmented(run, limit).record["error"])[1]
    done = segmented(run, named)
    assert not done.record["error"]
    assert not done.record["notes"]
    assert done.peak_mb <= as_mb(named)


def test_tiles_that_cost_agreement_are_asked_for_and_noted(model, scan):
    run = [model, scan, "--device", "cpu"]
    refused = segmented(run, "300MB").record["error"]
    named, tiles = re.search(r"or (?:(\d+MB) with )?--tiles (\w+)", refused).groups()
    less = named or "300MB"
    done = segmented([*run, "--tiles", tiles], less)
    assert done.peak_mb <= as_mb(less)
    (note,) = done.record["notes"]
    assert "labels may differ from those of one pass" in note


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
