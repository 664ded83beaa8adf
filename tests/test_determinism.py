"""The same scan and model give the same labels and probabilities, as docs/determinism.md says."""

import numpy as np
import onnx
import pytest

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.reaching_cluster import open_cluster
from vol3dseg.datasets.reading import read_volume
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.output_files import PredictOptions
from vol3dseg.inference.predicting import predict
from vol3dseg.inference.runtimes import openvino_backend
from vol3dseg.inference.tiling import planner as planning
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.space.geometry import Geometry

WAYS = [
    pytest.param((device, norm), id=f"{device}, {norm}")
    for device in ("cpu", "openvino")
    for norm in ("local", "instance")
]


@pytest.fixture(params=WAYS)
def way(request):
    """The device, and the norm of the network."""
    device, norm = request.param
    if device == "openvino" and not openvino_backend.is_installed():
        pytest.skip("no OpenVINO")
    return device, norm


@pytest.fixture
def path(way, small_unet, manifest_for, tmp_path):
    """A U-Net of random weights, in which many voxels have two classes that are nearly equal."""
    graph, local = small_unet(np.random.default_rng(3), width=8), way[1] == "local"
    if not local:
        normalise(graph)
    manifest = manifest_for(1, 4, (32, 32, 32), 2)
    facts = {"local": local, "receptive_field": (6, 6, 6)}
    network = manifest.network.model_copy(update=facts)
    tiling = Tiling.of(manifest.recipe.patch_size)
    manifest = manifest.model_copy(update={"network": network, "tiling": tiling})
    made = tmp_path / "model.onnx"
    made.write_bytes(with_manifest(graph, manifest))
    return made


def normalise(model):
    """Put an instance norm behind the first convolution: sums over all voxels of a tile."""
    graph, width = model.graph, model.graph.initializer[0].dims[0]
    for name, value in (("scale", 2.0), ("shift", 0.1)):
        values = np.full(width, value, np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    norm = onnx.helper.make_node("InstanceNormalization", ["c0", "scale", "shift"], ["n0"])
    graph.node[1].input[0] = "n0"
    graph.node.insert(1, norm)


@pytest.fixture
def scans(tmp_path):
    """Three scans of several shapes."""
    paths = []
    for number, shape in enumerate([(41, 38, 45), (34, 47, 40), (50, 33, 36)]):
        image = np.random.default_rng(number).normal(100, 20, shape).astype(np.float32)
        paths.append(tmp_path / "scans" / f"scan{number}.nii.gz")
        nifti.write(paths[-1], image, Geometry(shape, np.eye(4)))
    return paths


@pytest.fixture(scope="module")
def cluster():
    """Two workers of a Dask cluster."""
    pytest.importorskip("distributed")
    with open_cluster("local:2") as made:
        yield made


def found(predictor, scan):
    """Return labels and probabilities of a scan."""
    case = Case("scan", "somebody", {"m0": ImageSource(scan)})
    prediction = predictor(read_volume(case, ["m0"]), keep_probabilities=True)
    return prediction.segmentation.array, prediction.probabilities


def require_equal(first, *others):
    labels, probabilities = first
    assert len(np.unique(labels)) == 4
    for other, theirs in others:
        assert np.array_equal(labels, other)
        assert np.array_equal(probabilities, theirs)


def test_runs_predictors_and_threads_give_the_same_bits(way, path, scans):
    one, two, many = (load_predictor(path, way[0], threads=n) for n in (1, 2, 4))
    first = found(one, scans[0])
    found(one, scans[1])  # of another shape, in between
    require_equal(
        first, found(one, scans[0]), found(load_predictor(path, way[0], threads=1), scans[0])
    )
    by_two, by_many = found(two, scans[0]), found(many, scans[0])
    if way[0] == "openvino":
        require_equal(first, by_two, by_many)
    for labels, probabilities in (by_two, by_many):
        assert np.array_equal(first[0], labels)
        np.testing.assert_allclose(probabilities, first[1], rtol=0, atol=1e-6)


def test_processes_clusters_and_the_order_of_files_give_the_same_files(
    way, path, scans, cluster, tmp_path
):
    predictor, bits = load_predictor(path, way[0]), PredictOptions(probabilities=True)

    def files(name, inputs, workers=1):
        folder = tmp_path / name
        predict(predictor, inputs, folder, bits, workers=workers)
        return {p.name: p.read_bytes() for p in folder.glob("*.nii.gz")}

    together = files("together", scans)
    assert len(together) == 2 * len(scans)
    alone = [files(f"alone-{scan.name}", [scan]) for scan in scans]
    assert {name: each[name] for each in alone for name in each} == together
    assert files("reversed", scans[::-1]) == together
    assert files("two processes", scans, 2) == together
    assert files("cluster", scans, cluster) == together


@pytest.mark.parametrize("way", WAYS[::2], indirect=True)
def test_plans_of_other_memory_give_the_same_bits_where_they_say_so(way, path, scans, monkeypatch):
    """Exact tiles of several sizes, and one pass; with a norm over a tile, all are patches."""
    monkeypatch.setattr(planning, "_MOST", 99)  # exact tiles may compute much more than one pass
    predictor = load_predictor(path, way[0])
    planner = predictor._allowance.planner
    results, plans = [], []
    whole = planner.plan((41, 38, 45), 1e9)
    for share in np.geomspace(1.01, 0.1, 12):
        plan = planner.plan((41, 38, 45), whole.memory_mb * share)
        if plan is None or any(plan.what == other.what for other in plans):
            continue
        assert not plan.warning
        plans.append(plan)
        monkeypatch.setattr(predictor._allowance, "plan", lambda *_, chosen=plan: chosen)
        results.append(found(predictor, scans[0]))
    assert len(plans) > 1
    require_equal(*results)
