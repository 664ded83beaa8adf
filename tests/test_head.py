"""The last convolution apart from the rest: features are blended and brought home instead."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from vol3dseg.errors import ModelError
from vol3dseg.inference import restore as restore_module
from vol3dseg.inference.deciding import Decision
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.head import take_head, what_to_blend
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.outputs import Region, Sigmoid, Softmax
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet
from vol3dseg.space.volume import Volume

PATCH, FEATURES, OUTPUTS = (8, 12, 6), 3, 9
LABELS = LabelSet(classes=[Label(name=f"c{n}", read=(n,), write=n) for n in range(OUTPUTS)])


def graph_of(outputs=OUTPUTS, features=FEATURES, bias=True, last=(1, 1, 1), more=()):
    """A convolution, an instance norm and a leaky ReLU, then a last convolution to logits."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.normal(0, 0.3, (features, 1, 3, 3, 3)),
        "scale": np.ones(features),
        "shift": np.zeros(features),
        "w1": rng.normal(0, 1, (outputs, features, *last)),
        "b1": rng.normal(0, 0.5, outputs),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], pads=[1] * 6),
        helper.make_node("InstanceNormalization", ["c0", "scale", "shift"], ["n0"]),
        helper.make_node("LeakyRelu", ["n0"], ["features"], alpha=0.01),
        helper.make_node(
            "Conv",
            ["features", "w1", "b1"] if bias else ["features", "w1"],
            ["logits"],
            pads=[n // 2 for n in last] * 2,
        ),
        *more,
    ]
    ends = [
        helper.make_tensor_value_info(name, 1, ["n", channels, "i", "j", "k"])
        for name, channels in (("image", 1), (nodes[-1].output[0], outputs))
    ]
    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()]
    if not bias:
        tensors.pop()
    graph = helper.make_graph(nodes, "ends in a convolution", ends[:1], ends[1:], tensors)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.fixture
def adopted(manifest_of):
    """Return the manifest of such a network, whose working grid is coarser than the scan."""

    def make(blends, outputs=None, **tiling):
        recipe = Recipe(
            modalities=("m",),
            normalisation={"method": "zscore"},
            patch_size=PATCH,
            spacing_mm=(1.5, 1.5, 2.0),
        )
        made = manifest_of(recipe, LABELS)
        # Float32 sums of both, so that they differ by rounding alone.
        rule = Tiling.of_nnunet(PATCH, blends=blends, **tiling)
        facts = {"local": False, "divisor": (1, 1, 1)}
        return made.model_copy(
            update={
                "network": made.network.model_copy(update=facts),
                "outputs": outputs or Softmax(classes=LABELS.names, values="logits"),
                "tiling": rule.model_copy(update={"sums": "float32"}),
            }
        )

    return make


def run(graph, features):
    """Return what a graph makes of a small image."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(graph.SerializeToString())
    image = np.random.default_rng(1).normal(0, 1, (1, 1, 5, 6, 7)).astype(np.float32)
    assert session.get_outputs()[0].name == ("features" if features else "logits")
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("outputs", "features"), [(9, 3), (117, 32), (2, 40), (1, 1)])
def test_a_head_makes_of_features_what_the_network_makes(bias, outputs, features):
    graph = graph_of(outputs, features, bias)
    whole = run(graph, False)[0].reshape(outputs, -1).T
    head = take_head(graph)
    onnx.checker.check_model(graph, full_check=True)
    made = run(graph, True)[0]
    assert head.features == len(made) == features
    parts = list(head.apply(iter(made), made[0].size))
    np.testing.assert_allclose(
        np.concatenate([values for _, values in parts]), whole, rtol=0, atol=2e-5
    )
    assert [n for part, _ in parts for n in range(part.start, part.stop)] == [*range(210)]


REGIONS = Sigmoid(
    threshold=0.5,
    regions=tuple(Region(name=f"r{n}", members=(n,), paints=n) for n in LABELS.names[1:]),
    values="logits",
)


@pytest.mark.parametrize("mirrorable", [(), ("i", "k")], ids=len)
@pytest.mark.parametrize("outputs", [None, REGIONS], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_blended_features_become_the_labels_of_blended_outputs(
    adopted, tmp_path, outputs, mirrorable, device
):
    pytest.importorskip("onnxruntime" if device == "cpu" else "openvino")
    grid = Geometry((24, 30, 20), np.diag([-1.0, 1.2, 1.0, 1]))
    array = np.random.default_rng(2).normal(0, 1, (*grid.shape, 1)).astype(np.float32)
    array[:3] = 0
    found = {}
    for blends in ("outputs", "features"):
        path = tmp_path / f"{blends}.onnx"
        manifest = adopted(blends, outputs, mirrorable=mirrorable)
        graph = graph_of(len(manifest.outputs.channels))
        path.write_bytes(with_manifest(graph, manifest))
        predictor = load_predictor(path, device)
        found[blends] = predictor(Volume(array, grid, ("m",)), keep_probabilities=True)
    ours, theirs = found["features"], found["outputs"]
    assert len(ours.plan.tiles) > 8
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=0, atol=2e-5)
    assert (ours.segmentation.array != theirs.segmentation.array).mean() < 1e-4
    assert len(np.unique(ours.segmentation.array)) > 4
    if outputs is None:
        np.testing.assert_allclose(ours.probabilities.sum(axis=3), 1, atol=1e-5)


def test_voxels_are_decided_in_any_number_of_parts(monkeypatch, labels):
    """Chunks of a plane, and blocks that do not fit into them, change nothing."""
    head = take_head(graph_of(len(labels.names)))
    decision = Decision(Softmax(classes=labels.names, values="logits"), labels, head)
    features = np.random.default_rng(3).normal(0, 1, (FEATURES, 9, 7, 11)).astype(np.float32)
    logits = np.einsum("fo,f...->o...", head.weights[:-1], features)
    expected = (logits + head.weights[-1][:, None, None, None]).argmax(axis=0)
    monkeypatch.setattr(restore_module, "_CHUNK_OF_FEATURES", 100)
    monkeypatch.setattr("vol3dseg.model.head._SMALL", 200)
    monkeypatch.setattr("vol3dseg.model.head._CACHED", 300)
    grid = Geometry((9, 7, 11), np.eye(4))
    for keep in (False, True):
        home = restore_module.Restorer(grid, grid, decision, keep, threads=2)
        for row in range(9):
            home.add(features[:, row : row + 1])
        np.testing.assert_array_equal(home.labels, expected)
    shares = np.exp(logits + head.weights[-1][:, None, None, None])
    shares /= shares.sum(axis=0)
    np.testing.assert_allclose(home.probabilities, np.moveaxis(shares, 0, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        pytest.param(graph_of(117, 32), "features", id="far more outputs"),
        pytest.param(graph_of(25, 32), "outputs", id="fewer outputs"),
        pytest.param(graph_of(60, 32), "outputs", id="not twice as many"),
        pytest.param(graph_of(64, 32), "features", id="twice as many"),
        pytest.param(graph_of(64, 8, last=(3, 3, 3)), "outputs", id="a wider kernel"),
        pytest.param(
            graph_of(64, 8, more=[helper.make_node("Identity", ["logits"], ["same"])]),
            "outputs",
            id="something behind it",
        ),
    ],
)
def test_features_are_blended_where_they_are_far_fewer(graph, expected):
    assert what_to_blend(graph) == expected


def test_a_network_without_such_an_end_is_refused_by_name(adopted, tmp_path):
    path = tmp_path / "wide.onnx"
    path.write_bytes(with_manifest(graph_of(last=(3, 3, 3)), adopted("features")))
    with pytest.raises(ModelError, match=r"wide\.onnx: ends in another layer than a convolution"):
        load_predictor(path, "cpu")
